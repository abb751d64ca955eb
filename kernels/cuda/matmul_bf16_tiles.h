#pragma once

#include "kernels/cuda/matmul_bf16_tree.h"
#include "kernels/cuda/tensor_tiles.h"

/// The kernels of products with many rows, for a size of tiles: matmul_bf16_tiles.cu.
namespace fst::kernels::gpu {

/// Continues all chains of a tile over chain `chain` of the inner indices.
template <int m, class Pipe>
DEVICE void accumulate(Sums<m>& sum, Pipe& pipe, Range chain, Origin part, bool works) {
  for (int k = chain.begin; k < chain.end; k += step_depth) {
    auto& stage = pipe.next();
    if (works) multiply(sum, stage, part, (chain.end - k + tensor_block - 1) / tensor_block);
  }
}

/// Whether any of a warp's outputs exist.
DEVICE bool exists(Origin at, Origin part, int rows, int columns) {
  return at.row + part.row < rows && at.column + part.column < columns;
}

template <int m>
DEVICE void finish_tile(const Sums<m>& sum, const Bf16Product& p, Origin at) {
  each_quad(sum, [&](int row, int column, float4 total) {
    if (at.row + row < p.rows) finish(p, at.row + row, at.column + column, total);
  });
}

/// One chain of a tile, which goes to `partials`; or a tile that is a single chain.
template <int m, Lies b, bool wide>
KERNEL(tile_threads, 2)
chain_kernel(PARAMETER Bf16Product p, int tiles, PARAMETER Bf16Partials partials) {
  auto& ring = shared_memory<Ring<m, Lies::inner, b>>();
  const int index = static_cast<int>(blockIdx.x), chain = index / tiles;
  const Origin at = origin_of<m>(p.rows, p.columns, index % tiles), part = part_of_warp<m>();
  Pipeline<m, Lies::inner, b, wide, ChainSteps> pipe(ring, {p.a, p.lda, at.row, p.rows},
                                                     {p.b, p.ldb, at.column, p.columns},
                                                     ChainSteps(p, chain, chain + 1));
  Sums<m> sum;
  clear(sum);
  accumulate(sum, pipe, chain_of(p, chain), part, exists(at, part, p.rows, p.columns));
  if (partials.data == nullptr) {
    finish_tile(sum, p, at);
    return;
  }
  float* const to = partials.data + std::int64_t{chain} * p.rows * partials.step;
  each_quad(sum, [&](int row, int column, float4 total) {
    row += at.row, column += at.column;
    if (row < p.rows && column < partials.step) write4(to + row * partials.step + column, total);
  });
}

template <int m>
constexpr int tile_size = tile_side<m>* tile_side<m>;
template <int m, Lies b>
struct TreeShared {
  Ring<m, Lies::inner, b> ring;
  alignas(16) float quarter[tile_size<m>];
};

/// All chains of tiles: a finished leaf joins what is finished to its left. A leaf waits in
/// registers, two in shared memory, four in device memory, as do the matrices before.
template <int m, Lies b, bool wide>
KERNEL(tile_threads, 1)
tree_kernel(PARAMETER Bf16Product p, int tiles, float* waiting) {
  auto& shared = shared_memory<TreeShared<m, b>>();
  const Origin part = part_of_warp<m>();
  Waiting<Sums<m>> aside(shared.quarter,
                         waiting + blockIdx.x * std::int64_t{device_levels} * tile_size<m>,
                         tile_size<m>);
  const int chains = p.matrices * p.leaves;
  for (int tile = static_cast<int>(blockIdx.x); tile < tiles; tile += static_cast<int>(gridDim.x)) {
    const Origin at = origin_of<m>(p.rows, p.columns, tile);
    const bool works = exists(at, part, p.rows, p.columns);
    Pipeline<m, Lies::inner, b, wide, ChainSteps> pipe(shared.ring, {p.a, p.lda, at.row, p.rows},
                                                       {p.b, p.ldb, at.column, p.columns},
                                                       ChainSteps(p, 0, chains));
    Sums<m> sum;
    for (int chain = 0; chain < chains; ++chain) {
      clear(sum);
      accumulate(sum, pipe, chain_of(p, chain), part, works);
      join_chain(sum, aside, p, chain);
    }
    finish_tile(sum, p, at);
    sync_block();  // all have read the last stages
  }
}

/// The chains of a tile start from the old contents.
template <int m>
DEVICE void resume(Sums<m>& sum, const Bf16Gradient& p, Origin at) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const Origin part = part_of_warp<m>();
#pragma unroll
  for (int i = 0; i < 16 * m * m; ++i) {
    const int row = at.row + part.row + i / 4 / (2 * m) * 16 + lane / 4 + i % 4 / 2 * 8;
    const int column = at.column + part.column + i / 4 % (2 * m) * 8 + lane % 4 * 2 + i % 2;
    if (row < p.rows && column < p.columns) {
      sum.of[i / 4 / (2 * m)][i / 4 % (2 * m)][i % 4] = p.c[row * p.ldc + column];
    }
  }
  sync_block();  // before others write what was read here, if there is no step between
}

/// A tile of a weight gradient, whose chains may go on from the old contents.
template <int m, bool wide>
KERNEL(tile_threads, m == 1 ? 2 : 1)
gradient_kernel(PARAMETER Bf16Gradient p, PARAMETER Sequences sequences) {
  auto& ring = shared_memory<Ring<m, Lies::outer, Lies::outer>>();
  const Origin at = origin_of<m>(p.rows, p.columns, static_cast<int>(blockIdx.x));
  const Origin part = part_of_warp<m>();
  Pipeline<m, Lies::outer, Lies::outer, wide, SequenceSteps> pipe(
      ring, {p.a, p.lda, at.row, p.rows}, {p.b, p.ldb, at.column, p.columns},
      SequenceSteps(sequences));
  Sums<m> sum;
  clear(sum);
  if (p.resume) resume(sum, p, at);
  accumulate(sum, pipe, {0, tensor_block * sequences.blocks[sequences.count]}, part,
             exists(at, part, p.rows, p.columns));
  // Found afresh, so that it does not wait in registers meanwhile.
  const Origin to = origin_of<m>(p.rows, p.columns, static_cast<int>(blockIdx.x));
  each_quad(sum, [&](int row, int column, float4 total) {
    row += to.row, column += to.column;
    if (row < p.rows) write4_upto(p.c + row * p.ldc + column, total, p.columns - column);
  });
}

template <int m>
int tiles_of(int rows, int columns) {
  return static_cast<int>(parts_of(rows, tile_side<m>) * parts_of(columns, tile_side<m>));
}

template <int m, Lies b, bool wide>
void run_product(const Cuda& cuda, const Bf16Product& p, const Bf16Partials& partials) {
  const int tiles = tiles_of<m>(p.rows, p.columns), chains = p.matrices * p.leaves;
  if (chains == 1 || partials.data != nullptr) {
    constexpr std::size_t shared = sizeof(Ring<m, Lies::inner, b>);
    allow_shared(chain_kernel<m, b, wide>, shared);
    launch(chain_kernel<m, b, wide>, dim3(static_cast<unsigned>(tiles * chains)),
           dim3(tile_threads), shared, cuda.stream, p, tiles, partials);
    return;
  }
  constexpr std::size_t shared = sizeof(TreeShared<m, b>);
  const int blocks = tiles < full_device ? tiles : full_device;
  const auto floats = static_cast<std::size_t>(blocks * device_levels * tile_size<m>);
  auto* const waiting = static_cast<float*>(scratch(cuda, floats * sizeof(float)));
  allow_shared(tree_kernel<m, b, wide>, shared);
  launch(tree_kernel<m, b, wide>, dim3(static_cast<unsigned>(blocks)), dim3(tile_threads), shared,
         cuda.stream, p, tiles, waiting);
}

template <int m, bool wide>
void run_product(const Cuda& cuda, const Bf16Product& p, const Bf16Partials& partials) {
  p.b_lies == Lies::inner ? run_product<m, Lies::inner, wide>(cuda, p, partials)
                          : run_product<m, Lies::outer, wide>(cuda, p, partials);
}

template <int m, bool wide>
void run_gradient(const Cuda& cuda, const Bf16Gradient& p, const Sequences& sequences) {
  constexpr std::size_t shared = sizeof(Ring<m, Lies::outer, Lies::outer>);
  allow_shared(gradient_kernel<m, wide>, shared);
  launch(gradient_kernel<m, wide>, dim3(static_cast<unsigned>(tiles_of<m>(p.rows, p.columns))),
         dim3(tile_threads), shared, cuda.stream, p, sequences);
}

}  // namespace fst::kernels::gpu
