#include "kernels/cuda/math.h"
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

/// Of a weight of twice `extent` rows, half of them from row `first` and half from `extent` +
/// first.
template <int rows, int threads>
DEVICE void bring_gated(Rows<rows>& to, const Bf16* from, std::int64_t ld, int first, int extent,
                        Range inner) {
  const int row = static_cast<int>(threadIdx.x) / pieces;
  const int piece = static_cast<int>(threadIdx.x) % pieces;
  const int k = inner.begin + 8 * piece;
#pragma unroll
  for (int r = row; r < rows; r += threads / pieces) {
    const int within = first + r % (rows / 2);
    const int count = within < extent ? inner.end - k : 0;
    const std::int64_t at = r < rows / 2 ? within : extent + within;
    bring_piece<true>(to.piece(r, piece), from + at * ld + k, count);
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

/// The sums of a chain. bring_weight(to, step) brings the block's rows of the weight.
template <int batch, bool wide, class Bring>
DEVICE void sum_chain(Sums<batch>& sum, Shared<batch>& shared, const Bf16Product& p, Range inner,
                      Bring bring_weight) {
  using S = Shape<batch>;
  const auto fill = [&](int slot, int begin) {
    if (begin < inner.end) {
      const Range step{begin, begin + depth < inner.end ? begin + depth : inner.end};
      bring_weight(shared.ring[slot].weight, step);
      bring<batch, S::threads, wide>(shared.ring[slot].x, p.a, p.lda, 0, p.rows, step);
    }
    copy_async_commit();
  };
  for (int s = 0; s < S::stages - 1; ++s) fill(s, inner.begin + s * depth);
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
}

/// use(row, column, sum) for the thread's sums; columns count from the block's first.
template <int batch, class Use>
DEVICE void each_sum(const Sums<batch>& sum, Use use) {
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
#pragma unroll
  for (int i = 0; i < batch / 2; ++i) {
    const int row = i / 4 * 8 + lane % 4 * 2 + i % 2;
    use(row, 16 * warp + lane / 4 + i % 4 / 2 * 8, sum[i / 4][i % 4]);
  }
}

/// Block (x, y): the x-th 16 columns of each warp, chain y.
template <int batch, bool wide>
KERNEL(Shape<batch>::threads, 2)
rows_kernel(PARAMETER Bf16Product p, PARAMETER Bf16Partials partials) {
  using S = Shape<batch>;
  Shared<batch>& shared = shared_memory<Shared<batch>>();
  const int chain = static_cast<int>(blockIdx.y), first = static_cast<int>(blockIdx.x) * S::outputs;
  Sums<batch> sum = {};
  sum_chain<batch, wide>(sum, shared, p, chain_of(p, chain), [&](Rows<S::outputs>& to, Range step) {
    bring<S::outputs, S::threads, wide>(to, p.b, p.ldb, first, p.columns, step);
  });
  each_sum<batch>(sum, [&](int row, int within, float value) {
    const int column = first + within;
    if (row >= p.rows || column >= p.columns) return;
    if (partials.data == nullptr) {
      finish(p, row, column, value);
    } else {
      partials.data[(std::int64_t{chain} * p.rows + row) * partials.step + column] = value;
    }
  });
}

template <int batch>
struct GatedShared {
  Shared<batch> product;
  float up[batch][Shape<batch>::outputs / 2];
};

/// Block x: the first half of its warps have columns of gate, the second the same ones of up, which
/// they hand over.
template <int batch>
KERNEL(Shape<batch>::threads, 2)
gated_kernel(PARAMETER Bf16Product p) {
  using S = Shape<batch>;
  constexpr int half = S::outputs / 2;
  GatedShared<batch>& shared = shared_memory<GatedShared<batch>>();
  const int dim = p.columns / 2, first = static_cast<int>(blockIdx.x) * half;
  Sums<batch> sum = {};
  sum_chain<batch, true>(sum, shared.product, p, chain_of(p, 0),
                         [&](Rows<S::outputs>& to, Range step) {
                           bring_gated<S::outputs, S::threads>(to, p.b, p.ldb, first, dim, step);
                         });
  each_sum<batch>(sum, [&](int row, int within, float value) {
    if (within >= half) shared.up[row][within - half] = value;
  });
  sync_block();
  each_sum<batch>(sum, [&](int row, int within, float value) {
    const int column = first + within;
    if (within >= half || row >= p.rows || column >= dim) return;
    const float gate = widened(narrowed(value)), up = widened(narrowed(shared.up[row][within]));
    static_cast<Bf16*>(p.c)[row * p.ldc + column] = narrowed((gate * sigmoid(gate)) * up);
  });
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

template <int batch>
void run_gated(const Cuda& cuda, const Bf16Product& p) {
  using S = Shape<batch>;
  allow_shared(gated_kernel<batch>, sizeof(GatedShared<batch>));
  const dim3 grid(static_cast<unsigned>(parts_of(p.columns / 2, S::outputs / 2)));
  launch(gated_kernel<batch>, grid, dim3(S::threads), sizeof(GatedShared<batch>), cuda.stream, p);
}

}  // namespace

void gated_product_of_few_rows(const Cuda& cuda, const Bf16Product& p) {
  if (p.rows <= 8) {
    run_gated<8>(cuda, p);
  } else if (p.rows <= 16) {
    run_gated<16>(cuda, p);
  } else if (p.rows <= 32) {
    run_gated<32>(cuda, p);
  } else {
    run_gated<64>(cuda, p);
  }
}

void product_of_few_rows(const Cuda& cuda, const Bf16Product& p, const Bf16Partials& partials) {
  p.wide ? run<true>(cuda, p, partials) : run<false>(cuda, p, partials);
}

}  // namespace fst::kernels
