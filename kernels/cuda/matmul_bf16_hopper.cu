#include <algorithm>

#include "kernels/cuda/hopper_output.h"

/// The products of matrices with many rows on sm_90a: the chains of matmul_bf16_tiles.h by warp
/// groups.
namespace fst::kernels {

namespace {

using namespace gpu;

template <int n>
DEVICE Origin origin_of_group_tile(int rows, int columns, int tile) {
  return origin_of_tile<group_tile_rows, n>(rows, columns, tile);
}

/// Continues the chains of a group over a chain of inner indices.
template <class Ring, class Sums>
DEVICE void accumulate(Sums& sum, Consumer<Ring, Sums>& consumer, Range chain) {
#pragma unroll 1
  for (int k = chain.begin; k < chain.end; k += step_depth) {
    consumer.stage();
    consumer.multiply(sum, (chain.end - k + tensor_block - 1) / tensor_block);
  }
}

/// What the blocks take in turn: chain by chain, all tiles.
struct Work {
  int tiles, items;
};

/// Chains of tiles, which go to `partials`; or tiles that are a single chain.
template <int n, Lies b>
KERNEL(group_tile_threads, 1)
chain_kernel(MAP_PARAMETER left, MAP_PARAMETER right, PARAMETER Bf16Product p, PARAMETER Work work,
             PARAMETER Bf16Partials partials) {
  using Ring = GroupRing<n, Lies::inner, b>;
  auto& ring = shared_memory<Ring>();
  ring.begin();
  const int first = static_cast<int>(blockIdx.x), stride = static_cast<int>(gridDim.x);
  if (in_producer()) {
    if (threadIdx.x != summing_threads) return;
    Producer<Ring> producer(ring, left, right);
    for (int item = first; item < work.items; item += stride) {
      const Origin at = origin_of_group_tile<n>(p.rows, p.columns, item % work.tiles);
      const int chain = item / work.tiles;
      for (ChainSteps steps(p, chain, chain + 1); steps.more();) {
        producer.bring(at, steps.take().begin);
      }
    }
    return;
  }
  GroupSums<n> sum;
  Consumer<Ring, GroupSums<n>> consumer(ring);
  for (int item = first; item < work.items; item += stride) {
    const int chain = item / work.tiles;
    clear(sum);
    accumulate(sum, consumer, chain_of(p, chain));
    const Origin at = origin_of_group_tile<n>(p.rows, p.columns, item % work.tiles);
    if (partials.data == nullptr) {
      finish_group_tile(sum, p, at);
      continue;
    }
    float* const to = partials.data + std::int64_t{chain} * p.rows * partials.step;
    each_quad_of_group(sum, [&](int row, int column, float4 total) {
      row += at.row, column += at.column;
      if (row < p.rows && column < partials.step) write4(to + row * partials.step + column, total);
    });
  }
}

constexpr int tree_columns = 128;
constexpr int tree_size = group_tile_rows * tree_columns;

template <Lies b>
struct TreeShared {
  GroupRing<tree_columns, Lies::inner, b> ring;
  alignas(16) float quarter[tree_size];
};

/// All chains of tiles.
template <Lies b>
KERNEL(group_tile_threads, 1)
tree_kernel(MAP_PARAMETER left, MAP_PARAMETER right, PARAMETER Bf16Product p, int tiles,
            float* device) {
  using Ring = GroupRing<tree_columns, Lies::inner, b>;
  using Sums = GroupSums<tree_columns>;
  auto& shared = shared_memory<TreeShared<b>>();
  shared.ring.begin();
  const int first = static_cast<int>(blockIdx.x), stride = static_cast<int>(gridDim.x);
  const int chains = p.matrices * p.leaves;
  if (in_producer()) {
    if (threadIdx.x != summing_threads) return;
    Producer<Ring> producer(shared.ring, left, right);
    for (int tile = first; tile < tiles; tile += stride) {
      const Origin at = origin_of_group_tile<tree_columns>(p.rows, p.columns, tile);
      for (ChainSteps steps(p, 0, chains); steps.more();) producer.bring(at, steps.take().begin);
    }
    return;
  }
  Sums sum;
  Waiting<Sums> waiting(shared.quarter,
                        device + blockIdx.x * std::int64_t{device_levels} * tree_size, tree_size);
  Consumer<Ring, Sums> consumer(shared.ring);
  for (int tile = first; tile < tiles; tile += stride) {
    for (int chain = 0; chain < chains; ++chain) {
      clear(sum);
      accumulate(sum, consumer, chain_of(p, chain));
      join_chain(sum, waiting, p, chain);
    }
    finish_group_tile(sum, p, origin_of_group_tile<tree_columns>(p.rows, p.columns, tile));
  }
}

/// The inner indices [first, behind), fewer than 32, of a stage become zeros: they are another
/// sequence's.
template <class Stage>
DEVICE void clear_rows(Stage& stage, int first, int behind) {
  constexpr int box_bytes = step_depth * box_columns * static_cast<int>(sizeof(Bf16));
  constexpr int boxes = static_cast<int>(sizeof(Stage)) / box_bytes, pieces = box_columns / 8;
  const int row = first + static_cast<int>(threadIdx.x) / pieces;
  if (row >= behind) return;
  auto* const box = reinterpret_cast<uint4*>(&stage) + row * pieces + threadIdx.x % pieces;
#pragma unroll
  for (int i = 0; i < boxes; ++i) box[i * step_depth * pieces] = {0, 0, 0, 0};
}

/// Continues the chains of a group over a sequence.
template <class Ring, class Sums>
DEVICE void accumulate_sequence(Sums& sum, Consumer<Ring, Sums>& consumer, Range rows) {
#pragma unroll 1
  for (int row = rows.begin; row < rows.end; row += step_depth) {
    const int count = rows.end - row, blocks = (count + tensor_block - 1) / tensor_block;
    auto& stage = consumer.stage();
    if (count < step_depth && count % tensor_block != 0) {
      clear_rows(stage, count, blocks * tensor_block);
      consumer.mend();
    }
    consumer.multiply(sum, blocks);
  }
}

/// The chains of a tile start from the old contents.
template <class Sums>
DEVICE void resume(Sums& sum, const Bf16Gradient& p, Origin at) {
  const int first_column = at.column + static_cast<int>(threadIdx.x) % 4 * 2;
#pragma unroll
  for (int i = 0; i < Sums::count; ++i) {
    const int row = at.row + row_of_thread() + i % 4 / 2 * 8;
    const int column = first_column + i / 4 * 8 + i % 2;
    if (row < p.rows && column < p.columns) sum.at(i) = p.c[row * p.ldc + column];
  }
}

/// Tiles of a weight gradient, whose chains may go on from the old contents.
template <int n>
KERNEL(group_tile_threads, 1)
gradient_kernel(MAP_PARAMETER left, MAP_PARAMETER right, PARAMETER Bf16Gradient p,
                PARAMETER Sequences sequences, int tiles) {
  using Ring = GroupRing<n, Lies::outer, Lies::outer>;
  auto& ring = shared_memory<Ring>();
  ring.begin();
  const int first = static_cast<int>(blockIdx.x), stride = static_cast<int>(gridDim.x);
  if (in_producer()) {
    if (threadIdx.x != summing_threads) return;
    Producer<Ring> producer(ring, left, right);
    for (int tile = first; tile < tiles; tile += stride) {
      const Origin at = origin_of_group_tile<n>(p.rows, p.columns, tile);
      for (int s = 0; s < sequences.count; ++s) {  // a step is of one sequence
        for (int row = sequences.starts[s]; row < sequences.starts[s + 1]; row += step_depth) {
          producer.bring(at, row);
        }
      }
    }
    return;
  }
  GroupSums<n> sum;
  Consumer<Ring, GroupSums<n>> consumer(ring);
  for (int tile = first; tile < tiles; tile += stride) {
    const Origin at = origin_of_group_tile<n>(p.rows, p.columns, tile);
    clear(sum);
    if (p.resume) resume(sum, p, at);
    for (int s = 0; s < sequences.count; ++s) {
      accumulate_sequence(sum, consumer, {sequences.starts[s], sequences.starts[s + 1]});
    }
    each_quad_of_group(sum, [&](int row, int column, float4 total) {
      row += at.row, column += at.column;
      if (row < p.rows) write4_upto(p.c + row * p.ldc + column, total, p.columns - column);
    });
  }
}

unsigned blocks_for(int items, const Plan& plan) {
  return static_cast<unsigned>(std::min(items, plan.blocks));
}
template <int n>
int group_tiles_of(int rows, int columns) {
  return static_cast<int>(parts_of(rows, group_tile_rows) * parts_of(columns, n));
}

/// A matrix for the operand of a tile: `outputs` in all, `inner` from row 0 on.
template <class Operand, Lies lies>
TensorMap map_of(const Bf16* matrix, std::int64_t ld, int outputs, int inner) {
  return lies == Lies::inner ? tensor_map(matrix, outputs, inner, ld, Operand::box_rows)
                             : tensor_map(matrix, inner, outputs, ld, Operand::box_rows);
}
template <class Ring>
TensorMap left_map(const Bf16* matrix, std::int64_t ld, int outputs, int inner) {
  return map_of<decltype(Ring::Stage::left), Ring::a>(matrix, ld, outputs, inner);
}
template <class Ring>
TensorMap right_map(const Bf16* matrix, std::int64_t ld, int outputs, int inner) {
  return map_of<decltype(Ring::Stage::right), Ring::b>(matrix, ld, outputs, inner);
}

template <int n, Lies b>
void run_chains(const Cuda& cuda, const Bf16Product& p, const Bf16Partials& partials,
                const Plan& plan) {
  using Ring = GroupRing<n, Lies::inner, b>;
  const int tiles = group_tiles_of<n>(p.rows, p.columns), inner = p.starts[p.matrices];
  const Work work{tiles, tiles * p.matrices * p.leaves};
  allow_shared(chain_kernel<n, b>, sizeof(Ring));
  launch(chain_kernel<n, b>, dim3(blocks_for(work.items, plan)), dim3(group_tile_threads),
         sizeof(Ring), cuda.stream, left_map<Ring>(p.a, p.lda, p.rows, inner),
         right_map<Ring>(p.b, p.ldb, p.columns, inner), p, work, partials);
}

template <Lies b>
void run_trees(const Cuda& cuda, const Bf16Product& p, const Plan& plan) {
  using Ring = GroupRing<tree_columns, Lies::inner, b>;
  const int tiles = group_tiles_of<tree_columns>(p.rows, p.columns), inner = p.starts[p.matrices];
  const unsigned blocks = blocks_for(tiles, plan);
  const std::size_t floats = std::size_t{blocks} * device_levels * tree_size;
  auto* const device = static_cast<float*>(scratch(cuda, floats * sizeof(float)));
  allow_shared(tree_kernel<b>, sizeof(TreeShared<b>));
  launch(tree_kernel<b>, dim3(blocks), dim3(group_tile_threads), sizeof(TreeShared<b>), cuda.stream,
         left_map<Ring>(p.a, p.lda, p.rows, inner), right_map<Ring>(p.b, p.ldb, p.columns, inner),
         p, tiles, device);
}

template <Lies b>
void run_product(const Cuda& cuda, const Bf16Product& p, const Bf16Partials& partials,
                 const Plan& plan) {
  if (plan.kernel == Kernel::wide_group_tiles) {
    run_chains<256, b>(cuda, p, partials, plan);
  } else if (p.matrices * p.leaves == 1 || plan.spread) {
    run_chains<128, b>(cuda, p, partials, plan);
  } else {
    run_trees<b>(cuda, p, plan);
  }
}

template <int n>
void run_gradient(const Cuda& cuda, const Bf16Gradient& p, const Sequences& sequences,
                  const Plan& plan) {
  using Ring = GroupRing<n, Lies::outer, Lies::outer>;
  const int tiles = group_tiles_of<n>(p.rows, p.columns), rows = sequences.starts[sequences.count];
  allow_shared(gradient_kernel<n>, sizeof(Ring));
  launch(gradient_kernel<n>, dim3(blocks_for(tiles, plan)), dim3(group_tile_threads), sizeof(Ring),
         cuda.stream, left_map<Ring>(p.a, p.lda, p.rows, rows),
         right_map<Ring>(p.b, p.ldb, p.columns, rows), p, sequences, tiles);
}

}  // namespace

void product_of_group_tiles(const Cuda& cuda, const Bf16Product& p, const Bf16Partials& partials,
                            Plan plan) {
  p.b_lies == Lies::inner ? run_product<Lies::inner>(cuda, p, partials, plan)
                          : run_product<Lies::outer>(cuda, p, partials, plan);
}

void gradient_of_group_tiles(const Cuda& cuda, const Bf16Gradient& p, const Sequences& sequences,
                             Plan plan) {
  plan.kernel == Kernel::wide_group_tiles ? run_gradient<256>(cuda, p, sequences, plan)
                                          : run_gradient<128>(cuda, p, sequences, plan);
}

}  // namespace fst::kernels
