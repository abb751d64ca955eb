#include "kernels/cuda/matmul_bf16_kernels.h"

/// Products of few rows: decoding. The weight is the tensor cores' left operand, 16 of its rows a
/// warp, and the batch the right one: a block's sum is symmetric in its factors, so the bits are
/// those of tiles. Steps of 128 inner indices stream through a ring of stages.
namespace fst::kernels {

namespace {

using namespace gpu;

constexpr int depth = 128;
constexpr int blocks_of_step = depth / tensor_block;
constexpr int pieces = depth / 8;  // of 16 bytes, in a row of a stage

/// Rows of the batch that a block holds, and what goes with them: enough bytes under way, and two
/// blocks on a multiprocessor.
template <int batch>
struct Shape {
  static constexpr int warps = batch <= 16 ? 2 : 4;
  static constexpr int threads = 32 * warps;
  static constexpr int outputs = 16 * warps;
  static constexpr int stages = batch <= 16 ? 8 : batch <= 32 ? 4 : 3;
};

/// Rows of 128 elements; piece p of row r is at p ^ r % 8, for ldmatrix.
template <int rows>
struct alignas(128) Rows {
  Bf16 elements[rows][depth];
  DEVICE Bf16* piece(int r, int p) { return &elements[r][(p ^ r % 8) * 8]; }
};
template <int batch>
struct Shared {
  struct Stage {
    Rows<Shape<batch>::outputs> weight;
    Rows<batch> x;
  } ring[Shape<batch>::stages];
};

/// Rows [first, first + rows) of a matrix, of which those below `extent` exist, at the inner
/// indices `inner`.
template <int rows, int threads, bool wide>
DEVICE void bring(Rows<rows>& to, const Bf16* from, std::int64_t ld, int first, int extent,
                  Range inner) {
  const int row = static_cast<int>(threadIdx.x) / pieces;
  const int piece = static_cast<int>(threadIdx.x) % pieces;
  const int k = inner.begin + 8 * piece;
#pragma unroll
  for (int r = row; r < rows; r += threads / pieces) {
    const int count = first + r < extent ? inner.end - k : 0;
    bring_piece<wide>(to.piece(r, piece), from + (first + r) * ld + k, count);
  }
}

template <int batch>
using Sums = float[batch / 8][4];

/// One block of 16 inner indices for eight or more rows of the batch.
template <int batch>
DEVICE void multiply_block(Sums<batch>& sum, typename Shared<batch>::Stage& stage, int block) {
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  std::uint32_t left[4];
  load_matrix_x4(left, stage.weight.piece(16 * warp + lane % 16, 2 * block + lane / 16));
#pragma unroll
  for (int j = 0; j < batch; j += 16) {
    std::uint32_t right[4];
    const int row = batch == 8 ? lane % 8 : j + lane / 16 * 8 + lane % 8;
    load_matrix_x4(right, stage.x.piece(row, 2 * block + lane / 8 % 2));
    const std::uint32_t first[2] = {right[0], right[1]}, second[2] = {right[2], right[3]};
    multiply_16x8x16(sum[j / 8], left, first);
    if constexpr (batch > 8) multiply_16x8x16(sum[j / 8 + 1], left, second);
  }
}

/// Block (x, y): the x-th 16 columns of each warp, chain y.
template <int batch, bool wide>
KERNEL(Shape<batch>::threads, 2)
rows_kernel(PARAMETER Bf16Product p, PARAMETER Bf16Partials partials) {
  using S = Shape<batch>;
  Shared<batch>& shared = shared_memory<Shared<batch>>();
  const int chain = static_cast<int>(blockIdx.y), first = static_cast<int>(blockIdx.x) * S::outputs;
  const Range inner = chain_of(p, chain);
  const auto fill = [&](int slot, int begin) {
    if (begin < inner.end) {
      const Range step{begin, begin + depth < inner.end ? begin + depth : inner.end};
      bring<S::outputs, S::threads, wide>(shared.ring[slot].weight, p.b, p.ldb, first, p.columns,
                                          step);
      bring<batch, S::threads, wide>(shared.ring[slot].x, p.a, p.lda, 0, p.rows, step);
    }
    copy_async_commit();
  };
  for (int s = 0; s < S::stages - 1; ++s) fill(s, inner.begin + s * depth);
  Sums<batch> sum = {};
  int slot = 0;
  for (int k = inner.begin; k < inner.end; k += depth) {
    copy_async_wait<S::stages - 2>();
    sync_block();
    fill(slot == 0 ? S::stages - 1 : slot - 1, k + (S::stages - 1) * depth);
    const int blocks = (inner.end - k + tensor_block - 1) / tensor_block;
#pragma unroll
    for (int block = 0; block < blocks_of_step; ++block) {
      if (block < blocks) multiply_block<batch>(sum, shared.ring[slot], block);
    }
    slot = slot + 1 == S::stages ? 0 : slot + 1;
  }
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
#pragma unroll
  for (int i = 0; i < batch / 2; ++i) {
    const int row = i / 4 * 8 + lane % 4 * 2 + i % 2;
    const int column = first + 16 * warp + lane / 4 + i % 4 / 2 * 8;
    if (row >= p.rows || column >= p.columns) continue;
    if (partials.data == nullptr) {
      finish(p, row, column, sum[i / 4][i % 4]);
    } else {
      partials.data[(std::int64_t{chain} * p.rows + row) * partials.step + column] =
          sum[i / 4][i % 4];
    }
  }
}

template <int batch, bool wide>
void run(const Cuda& cuda, const Bf16Product& p, const Bf16Partials& partials) {
  using S = Shape<batch>;
  allow_shared(rows_kernel<batch, wide>, sizeof(Shared<batch>));
  const dim3 grid(static_cast<unsigned>(parts_of(p.columns, S::outputs)),
                  static_cast<unsigned>(p.matrices * p.leaves));
  launch(rows_kernel<batch, wide>, grid, dim3(S::threads), sizeof(Shared<batch>), cuda.stream, p,
         partials);
}

template <bool wide>
void run(const Cuda& cuda, const Bf16Product& p, const Bf16Partials& partials) {
  if (p.rows <= 8) {
    run<8, wide>(cuda, p, partials);
  } else if (p.rows <= 16) {
    run<16, wide>(cuda, p, partials);
  } else if (p.rows <= 32) {
    run<32, wide>(cuda, p, partials);
  } else {
    run<64, wide>(cuda, p, partials);
  }
}

}  // namespace

void product_of_few_rows(const Cuda& cuda, const Bf16Product& p, const Bf16Partials& partials) {
  p.wide ? run<true>(cuda, p, partials) : run<false>(cuda, p, partials);
}

}  // namespace fst::kernels
