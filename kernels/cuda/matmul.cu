#include "kernels/cuda/few_rows.h"
#include "kernels/cuda/leaf_tree.h"
#include "kernels/cuda/matmul_product.h"
#include "kernels/cuda/storage.h"
#include "kernels/linear_norm.h"
#include "kernels/matmul.h"

namespace fst::kernels {

namespace {

using namespace gpu;

constexpr int threads = 256;

/// Four columns of a row per thread.
KERNEL(threads, 4) join_kernel(Product p, Partials partials) {
  const std::int64_t quads = partials.step / 4, level = p.rows * partials.step;
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * threads + threadIdx.x;
  if (i >= p.rows * quads) return;
  const std::int64_t row = i / quads, column = i % quads * 4;
  const float* const from = partials.data + row * partials.step + column;
  finish(p, row, column, join_leaves(from, level, p.leaves));
}

/// Element i of the weight.
DEVICE float widened(const void* weight, Storage storage, std::int64_t i) {
  if (storage == Storage::f32) return static_cast<const float*>(weight)[i];
  const std::uint16_t half = static_cast<const std::uint16_t*>(weight)[i];
  return storage == Storage::bf16 ? widen_bf16(half) : widen_f16(half);
}

struct PackShared {
  float tile[panel_columns][panel_columns + 1];  // + 1: columns lie in different banks
};

/// Block (x, y): 32 inner indices of panel x, from 32 y on.
KERNEL(threads, 4)
pack_kernel(float* packed, const void* weight, Storage storage, std::int64_t n, std::int64_t k,
            std::int64_t blocks) {
  PackShared& shared = shared_memory<PackShared>();
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  const std::int64_t column = blockIdx.x / blocks * panel_columns;
  const std::int64_t inner = blockIdx.x % blocks * panel_columns;
  for (int r = warp; r < panel_columns; r += threads / 32) {
    const bool exists = column + r < n && inner + lane < k;
    shared.tile[r][lane] =
        exists ? widened(weight, storage, (column + r) * k + inner + lane) : 0.0f;
  }
  sync_block();
  for (int r = warp; r < panel_columns && inner + r < k; r += threads / 32) {
    packed[column * k + (inner + r) * panel_columns + lane] = shared.tile[lane][r];
  }
}

bool is_wide(const Product& p) {
  const auto wide = [](const float* from, std::int64_t step) {
    return reinterpret_cast<std::uintptr_t>(from) % 16 == 0 && step % 4 == 0;
  };
  return wide(p.a, p.transposed ? p.a_inner : p.a_row) && wide(p.b, p.b_inner);
}

void run(const Cuda& cuda, Product p) {
  if (p.rows <= 0 || p.columns <= 0) return;
  p.wide = is_wide(p);
  if (p.rows <= most_row_block && !p.transposed) {
    product_of_rows(cuda, p);
  } else {
    product_of_tiles(cuda, p);
  }
}

/// The sums of a forward product; what becomes of them is the caller's to say.
Product forward_sums(const float* x, std::int64_t ldx, const float* packed, std::int64_t rows,
                     std::int64_t n, std::int64_t k, SumOrder order) {
  Product p{};
  p.a = x, p.a_row = ldx, p.a_inner = 1;
  p.b = packed, p.b_panel = panel_columns * k, p.b_inner = panel_columns;
  p.b_columns = parts_of(n, panel_columns) * panel_columns;
  p.rows = rows, p.columns = n, p.inner = k;
  p.leaves = static_cast<std::int64_t>(order);
  return p;
}

}  // namespace

static_assert(most_add_norm_rows<float> == most_row_block);

Leaves leaves_of_few_rows(const Cuda& cuda, const float* x, std::int64_t ldx, const float* packed,
                          std::int64_t rows, std::int64_t n, std::int64_t k, SumOrder order) {
  Product p = forward_sums(x, ldx, packed, rows, n, k, order);
  p.wide = is_wide(p);
  const Partials partials = partials_for(cuda, p);
  chains_of_rows(cuda, p, partials);
  return {partials.data, partials.step};
}

Partials partials_for(const Cuda& cuda, const Product& p) {
  const std::int64_t step = parts_of(p.columns, 4) * 4;
  const auto floats = static_cast<std::size_t>(p.leaves * p.rows * step);
  return {static_cast<float*>(scratch(cuda, floats * sizeof(float))), step};
}

void join_partials(const Cuda& cuda, const Product& p, const Partials& partials) {
  const auto blocks = static_cast<unsigned>(parts_of(p.rows * (partials.step / 4), threads));
  launch(join_kernel, dim3(blocks), dim3(threads), 0, cuda.stream, p, partials);
}

template <>
void pack_weight(const Cuda& cuda, float* packed, const void* weight, Storage storage,
                 std::int64_t n, std::int64_t k) {
  const std::int64_t panels = parts_of(n, panel_columns), blocks = parts_of(k, panel_columns);
  if (panels <= 0 || blocks <= 0) return;
  launch(pack_kernel, dim3(static_cast<unsigned>(panels * blocks)), dim3(threads),
         sizeof(PackShared), cuda.stream, packed, weight, storage, n, k, blocks);
}

template <>
void linear_forward(const Cuda& cuda, float* y, std::int64_t ldy, const float* x, std::int64_t ldx,
                    const float* packed, const float* bias, std::int64_t rows, std::int64_t n,
                    std::int64_t k, SumOrder order, Update update) {
  Product p = forward_sums(x, ldx, packed, rows, n, k, order);
  p.c = y, p.ldc = ldy;
  p.bias = bias;
  p.add = update == Update::add;
  run(cuda, p);
}

template <>
void linear_backward_input(const Cuda& cuda, float* dx, std::int64_t lddx, const float* dy,
                           std::int64_t lddy, const float* weight, std::int64_t ldw,
                           std::int64_t rows, std::int64_t n, std::int64_t k, SumOrder order,
                           Update update) {
  Product p{};
  p.c = dx, p.ldc = lddx;
  p.a = dy, p.a_row = lddy, p.a_inner = 1;
  p.b = weight, p.b_panel = panel_columns, p.b_inner = ldw, p.b_columns = k;
  p.rows = rows, p.columns = k, p.inner = n;
  p.leaves = static_cast<std::int64_t>(order);
  p.add = update == Update::add;
  run(cuda, p);
}

/// One after the other: a GPU has no cache that would keep the running total.
template <>
void linear_backward_input(const Cuda& cuda, float* dx, std::int64_t lddx, const float* dy,
                           std::int64_t lddy, const float* weight, std::int64_t ldw,
                           std::int64_t rows, const std::int64_t* sizes, std::int64_t matrices,
                           std::int64_t k, SumOrder order, Update update) {
  for (std::int64_t m = 0; m < matrices; ++m) {
    linear_backward_input(cuda, dx, lddx, dy, lddy, weight, ldw, rows, sizes[m], k, order,
                          m == 0 ? update : Update::add);
    dy += sizes[m];
    weight += sizes[m] * ldw;
  }
}

template <>
void linear_backward_weight(const Cuda& cuda, float* dweight, std::int64_t lddw, const float* dy,
                            std::int64_t lddy, const float* x, std::int64_t ldx, std::int64_t rows,
                            std::int64_t n, std::int64_t k, Chain chain) {
  Product p{};
  p.c = dweight, p.ldc = lddw;
  p.a = dy, p.a_row = 1, p.a_inner = lddy;
  p.b = x, p.b_panel = panel_columns, p.b_inner = ldx, p.b_columns = k;
  p.rows = n, p.columns = k, p.inner = rows;
  p.leaves = 1;
  p.transposed = true;
  p.resume = chain == Chain::resume;
  run(cuda, p);
}

}  // namespace fst::kernels
