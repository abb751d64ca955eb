#include "kernels/cuda/matmul_product.h"

/// Products with at most 32 rows: decoding. A block owns 32 columns and streams them, 256 inner
/// indices (32 KiB, eight 16-byte loads a thread) at a time, through shared memory while it
/// multiplies the 256 before. A thread owns one row and four columns: four chains hide the latency
/// of each other's additions.
namespace fst::kernels {

namespace {

using namespace gpu;

constexpr int threads = 256;
constexpr int chunk = 256;  // inner indices per step
constexpr int column_quads = panel_columns / 4;
constexpr int right_loads = chunk * column_quads / threads;

template <int rows>
struct alignas(16) Shared {
  float a[2][rows][chunk + 4];  // + 4: the rows of a warp lie in different banks
  float b[2][chunk][panel_columns];
};
template <int rows>
struct Staged {
  float4 a[rows / 4], b[right_loads];
};
/// What a thread reads of the operands: where, and how many rows and columns there are.
struct Source {
  const float* a;
  const float* b;
  int rows, columns;  // at most those of the block
  bool wide;          // the block is whole and its quads are aligned
};

template <int rows>
DEVICE Source source_of(const Product& p, std::int64_t column, std::int64_t begin) {
  const int thread = static_cast<int>(threadIdx.x);
  const std::int64_t columns = p.b_columns - column;
  Source source;
  source.a = p.a + thread / (chunk / 4) * p.a_row + begin + thread % (chunk / 4) * 4;
  source.b = right_at(p, begin + thread / column_quads, column + thread % column_quads * 4);
  source.rows = p.rows < rows ? static_cast<int>(p.rows) : rows;
  source.columns = columns < panel_columns ? static_cast<int>(columns) : panel_columns;
  source.wide = p.wide && begin % 4 == 0 && source.columns == panel_columns;
  return source;
}

/// This thread's part of both operands at the next 256 inner indices, of which `rest` exist.
template <int rows>
DEVICE Staged<rows> fetch(const Source& source, const Product& p, std::int64_t rest) {
  Staged<rows> staged;
  const int count = rest < chunk ? static_cast<int>(rest) : chunk;
  const int thread = static_cast<int>(threadIdx.x);
  const bool whole = source.wide && count == chunk;
  const std::int64_t b_step = threads / column_quads * p.b_inner;
  const int columns = source.columns - thread % column_quads * 4;
#pragma unroll
  for (int i = 0; i < right_loads; ++i) {
    const float* const from = source.b + i * b_step;
    const int deep = thread / column_quads + threads / column_quads * i;
    staged.b[i] = whole ? read4(from) : read4_upto(from, deep < count ? columns : 0);
  }
#pragma unroll
  for (int i = 0; i < rows / 4; ++i) {
    const bool exists = thread / (chunk / 4) + 4 * i < source.rows;
    const int there = exists ? count - thread % (chunk / 4) * 4 : 0;
    staged.a[i] = read4_upto(source.a + 4 * i * p.a_row, there);
  }
  return staged;
}

template <int rows>
DEVICE void keep(Shared<rows>& shared, int buffer, const Staged<rows>& staged) {
  const int thread = static_cast<int>(threadIdx.x);
#pragma unroll
  for (int i = 0; i < right_loads; ++i) {
    const int q = thread + threads * i;
    write4(&shared.b[buffer][q / column_quads][q % column_quads * 4], staged.b[i]);
  }
#pragma unroll
  for (int i = 0; i < rows / 4; ++i) {
    const int q = thread + threads * i;
    write4(&shared.a[buffer][q / (chunk / 4)][q % (chunk / 4) * 4], staged.a[i]);
  }
}

/// Continues four chains of a row over `count` inner indices of the buffer.
template <int rows>
DEVICE float4 multiply(float4 sum, const Shared<rows>& shared, int buffer, int row, int column,
                       int count) {
  int k = 0;
#pragma unroll 4
  for (; k + 4 <= count; k += 4) {
    const float4 a = read4(&shared.a[buffer][row][k]);
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      sum = fma(part(a, e), read4(&shared.b[buffer][k + e][column]), sum);
    }
  }
  for (; k < count; ++k) {
    sum = fma(shared.a[buffer][row][k], read4(&shared.b[buffer][k][column]), sum);
  }
  return sum;
}

/// Block (x, y): panel x, leaf y. With `partials` the leaf's sums go there.
template <int rows>
KERNEL(threads, rows < 32 ? 2 : 1)
rows_kernel(Product p, Partials partials) {
  Shared<rows>& shared = shared_memory<Shared<rows>>();
  const std::int64_t leaf = blockIdx.y, first_column = blockIdx.x * panel_columns;
  const std::int64_t begin = leaf * p.inner / p.leaves, end = (leaf + 1) * p.inner / p.leaves;
  const int row = static_cast<int>(threadIdx.x) / column_quads;
  const int column = static_cast<int>(threadIdx.x) % column_quads * 4;
  const bool works = row < p.rows && row < rows;
  float4 sum{0.0f, 0.0f, 0.0f, 0.0f};
  Source source = source_of<rows>(p, first_column, begin);
  Staged<rows> staged = fetch<rows>(source, p, end - begin);
  keep<rows>(shared, 0, staged);
  sync_block();
  int buffer = 0;
  for (std::int64_t rest = end - begin; rest > 0; rest -= chunk, buffer ^= 1) {
    if (rest > chunk) {
      source.a += chunk;
      source.b += chunk * p.b_inner;
      staged = fetch<rows>(source, p, rest - chunk);
    }
    if (works) {
      const int count = rest < chunk ? static_cast<int>(rest) : chunk;
      sum = multiply<rows>(sum, shared, buffer, row, column, count);
    }
    if (rest > chunk) keep<rows>(shared, buffer ^ 1, staged);
    sync_block();
  }
  if (!works) return;
  if (partials.data == nullptr) {
    finish(p, row, first_column + column, sum);
  } else if (first_column + column < partials.step) {
    write4(partials.data + (leaf * p.rows + row) * partials.step + first_column + column, sum);
  }
}

template <int rows>
void run(const Cuda& cuda, const Product& p, const Partials& partials) {
  constexpr std::size_t shared = sizeof(Shared<rows>);
  allow_shared(rows_kernel<rows>, shared);
  const dim3 grid(static_cast<unsigned>(parts_of(p.columns, panel_columns)),
                  static_cast<unsigned>(p.leaves));
  launch(rows_kernel<rows>, grid, dim3(threads), shared, cuda.stream, p, partials);
}

}  // namespace

void chains_of_rows(const Cuda& cuda, const Product& p, const Partials& partials) {
  if (p.rows <= 4) {
    run<4>(cuda, p, partials);
  } else if (p.rows <= 8) {
    run<8>(cuda, p, partials);
  } else if (p.rows <= 16) {
    run<16>(cuda, p, partials);
  } else {
    run<32>(cuda, p, partials);
  }
}

void product_of_rows(const Cuda& cuda, const Product& p) {
  const Partials partials = p.leaves == 1 ? Partials{nullptr, 0} : partials_for(cuda, p);
  chains_of_rows(cuda, p, partials);
  if (p.leaves > 1) join_partials(cuda, p, partials);
}

}  // namespace fst::kernels
