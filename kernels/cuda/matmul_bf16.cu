#include <algorithm>

#include "kernels/cuda/few_rows.h"
#include "kernels/cuda/leaf_tree.h"
#include "kernels/cuda/lt_plans.h"
#include "kernels/cuda/matmul_bf16_kernels.h"
#include "kernels/linear_norm.h"
#include "kernels/linear_swiglu.h"

namespace fst::kernels {

namespace {

using namespace gpu;

constexpr int join_threads = 256;

/// Four columns of a row per thread.
KERNEL(join_threads, 4) join_kernel(PARAMETER Bf16Product p, PARAMETER Bf16Partials partials) {
  const std::int64_t quads = partials.step / 4, level = p.rows * partials.step;
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * join_threads + threadIdx.x;
  if (i >= p.rows * quads) return;
  const std::int64_t row = i / quads, column = i % quads * 4;
  const float* from = partials.data + row * partials.step + column;
  float4 total{0.0f, 0.0f, 0.0f, 0.0f};
#pragma unroll 1  // few matrices, and eight loads of each under way
  for (int matrix = 0; matrix < p.matrices; ++matrix, from += p.leaves * level) {
    const float4 sum = join_leaves(from, level, p.leaves);
    total = matrix == 0 ? sum : gpu::add(total, sum);
  }
  finish(p, row, static_cast<int>(column), total);
}

bool in_eights(std::int64_t n) {
  return n % 8 == 0;
}
bool in_eights(const Bf16* p, std::int64_t step) {
  return reinterpret_cast<std::uintptr_t>(p) % 16 == 0 && in_eights(step);
}

}  // namespace

bool is_wide(const Bf16Product& p) {
  bool whole = p.b_lies == Lies::inner || in_eights(p.columns);
  for (int i = 0; i < p.matrices; ++i) {
    // Leaves of so many eights are of so many themselves.
    whole =
        whole && in_eights(p.starts[i]) && (p.starts[i + 1] - p.starts[i]) % (8 * p.leaves) == 0;
  }
  return whole && in_eights(p.a, p.lda) && in_eights(p.b, p.ldb);
}

bool is_wide(const Bf16Gradient& p) {
  return in_eights(p.rows) && in_eights(p.columns) && in_eights(p.a, p.lda) &&
         in_eights(p.b, p.ldb);
}

Bf16Product forward_sums(const Bf16* x, std::int64_t ldx, const Bf16* weight, std::int64_t rows,
                         std::int64_t n, std::int64_t k, SumOrder order) {
  Bf16Product p{};
  p.a = x, p.lda = ldx;
  p.b = weight, p.ldb = k, p.b_lies = Lies::inner;
  p.rows = static_cast<int>(rows), p.columns = static_cast<int>(n);
  p.starts[1] = static_cast<int>(k);
  p.matrices = 1, p.leaves = static_cast<int>(order);
  return p;
}

Bf16Product input_gradient_sums(const Bf16* dy, std::int64_t lddy, const Bf16* weight,
                                std::int64_t ldw, std::int64_t rows, const std::int64_t* sizes,
                                std::int64_t matrices, std::int64_t k, SumOrder order) {
  Bf16Product p{};
  p.a = dy, p.lda = lddy;
  p.b = weight, p.ldb = ldw, p.b_lies = Lies::outer;
  p.rows = static_cast<int>(rows), p.columns = static_cast<int>(k);
  for (std::int64_t i = 0; i < matrices; ++i) {
    p.starts[i + 1] = p.starts[i] + static_cast<int>(sizes[i]);
  }
  p.matrices = static_cast<int>(matrices), p.leaves = static_cast<int>(order);
  return p;
}

namespace {

void run(const Cuda& cuda, Bf16Product p) {
  if (p.rows <= 0 || p.columns <= 0) return;
  p.wide = is_wide(p);
  if (product_by_library(cuda, p)) return;
  kernels::run(cuda, p, plan_of(cuda, p));
}

void set_output(Bf16Product& p, float* y) {
  p.c = y;
  p.narrow = false;
}
void set_output(Bf16Product& p, Bf16* y) {
  p.c = y;
  p.narrow = true;
}

template <class Y>
void forward(const Cuda& cuda, Y* y, std::int64_t ldy, const Bf16* x, std::int64_t ldx,
             const Bf16* weight, const float* bias, std::int64_t rows, std::int64_t n,
             std::int64_t k, SumOrder order, Update update) {
  Bf16Product p = forward_sums(x, ldx, weight, rows, n, k, order);
  set_output(p, y);
  p.ldc = ldy;
  p.bias = bias;
  p.add = update == Update::add;
  run(cuda, p);
}

template <class Y>
void backward_input(const Cuda& cuda, Y* dx, std::int64_t lddx, const Bf16* dy, std::int64_t lddy,
                    const Bf16* weight, std::int64_t ldw, std::int64_t rows,
                    const std::int64_t* sizes, std::int64_t matrices, std::int64_t k,
                    SumOrder order, Update update) {
  Bf16Product p = input_gradient_sums(dy, lddy, weight, ldw, rows, sizes, matrices, k, order);
  set_output(p, dx);
  p.ldc = lddx;
  p.add = update == Update::add;
  run(cuda, p);
}

Bf16Partials partials_for(const Cuda& cuda, const Bf16Product& p) {
  const std::int64_t step = parts_of(p.columns, 4) * 4;
  const std::int64_t floats = std::int64_t{p.matrices} * p.leaves * p.rows * step;
  return {static_cast<float*>(scratch(cuda, static_cast<std::size_t>(floats) * sizeof(float))),
          step};
}

}  // namespace

void join_partials(const Cuda& cuda, const Bf16Product& p, const Bf16Partials& partials) {
  const auto blocks = static_cast<unsigned>(parts_of(p.rows * (partials.step / 4), join_threads));
  launch(join_kernel, dim3(blocks), dim3(join_threads), 0, cuda.stream, p, partials);
}

static_assert(most_add_norm_rows<Bf16> == most_few_rows && most_swiglu_rows == most_few_rows);

Leaves leaves_of_few_rows(const Cuda& cuda, const Bf16* x, std::int64_t ldx, const Bf16* weight,
                          std::int64_t rows, std::int64_t n, std::int64_t k, SumOrder order) {
  Bf16Product p = forward_sums(x, ldx, weight, rows, n, k, order);
  p.wide = is_wide(p);
  const Bf16Partials partials = partials_for(cuda, p);
  product_of_few_rows(cuda, p, partials);
  return {partials.data, partials.step};
}

bool gated_few_rows(const Cuda& cuda, Bf16* h, const Bf16* x, std::int64_t ldx, const Bf16* weight,
                    std::int64_t rows, std::int64_t dim, std::int64_t k) {
  Bf16Product p = forward_sums(x, ldx, weight, rows, 2 * dim, k, SumOrder::chain);
  set_output(p, h);
  p.ldc = dim;
  p.wide = is_wide(p);
  if (!p.wide) return false;
  if (rows > 0 && dim > 0) gated_product_of_few_rows(cuda, p);
  return true;
}

void run(const Cuda& cuda, const Bf16Product& p, Plan plan) {
  const Bf16Partials partials = plan.spread ? partials_for(cuda, p) : Bf16Partials{nullptr, 0};
  switch (plan.kernel) {
    case Kernel::few_rows:
      product_of_few_rows(cuda, p, partials);
      break;
    case Kernel::small_tiles:
      product_of_small_tiles(cuda, p, partials);
      break;
    case Kernel::large_tiles:
      product_of_large_tiles(cuda, p, partials);
      break;
    case Kernel::group_tiles:
    case Kernel::wide_group_tiles:
      product_of_group_tiles(cuda, p, partials, plan);
      break;
  }
  if (plan.spread) join_partials(cuda, p, partials);
}

void run(const Cuda& cuda, const Bf16Gradient& p, const Sequences& sequences, Plan plan) {
  if (plan.kernel == Kernel::group_tiles || plan.kernel == Kernel::wide_group_tiles) {
    gradient_of_group_tiles(cuda, p, sequences, plan);
  } else {
    gradient_of_tiles(cuda, p, sequences, plan.kernel == Kernel::large_tiles);
  }
}

template <>
std::int64_t packed_weight_size(const Cuda&, std::int64_t n, std::int64_t k, SumOrder) {
  return n * k;
}

template <>
void pack_weight(const Cuda& cuda, Bf16* packed, const Bf16* weight, std::int64_t n, std::int64_t k,
                 SumOrder) {
  if (n <= 0 || k <= 0) return;
  copy_on_device(cuda, packed, weight, static_cast<std::size_t>(n * k) * sizeof(Bf16));
}

template <>
void linear_forward(const Cuda& cuda, float* y, std::int64_t ldy, const Bf16* x, std::int64_t ldx,
                    const Bf16* packed, const float* bias, std::int64_t rows, std::int64_t n,
                    std::int64_t k, SumOrder order, Update update) {
  forward(cuda, y, ldy, x, ldx, packed, bias, rows, n, k, order, update);
}
template <>
void linear_forward(const Cuda& cuda, Bf16* y, std::int64_t ldy, const Bf16* x, std::int64_t ldx,
                    const Bf16* packed, const float* bias, std::int64_t rows, std::int64_t n,
                    std::int64_t k, SumOrder order, Update update) {
  forward(cuda, y, ldy, x, ldx, packed, bias, rows, n, k, order, update);
}

template <>
void linear_backward_input(const Cuda& cuda, float* dx, std::int64_t lddx, const Bf16* dy,
                           std::int64_t lddy, const Bf16* weight, std::int64_t ldw,
                           std::int64_t rows, std::int64_t n, std::int64_t k, SumOrder order,
                           Update update) {
  backward_input(cuda, dx, lddx, dy, lddy, weight, ldw, rows, &n, 1, k, order, update);
}
template <>
void linear_backward_input(const Cuda& cuda, Bf16* dx, std::int64_t lddx, const Bf16* dy,
                           std::int64_t lddy, const Bf16* weight, std::int64_t ldw,
                           std::int64_t rows, std::int64_t n, std::int64_t k, SumOrder order,
                           Update update) {
  backward_input(cuda, dx, lddx, dy, lddy, weight, ldw, rows, &n, 1, k, order, update);
}

template <>
void linear_backward_input(const Cuda& cuda, float* dx, std::int64_t lddx, const Bf16* dy,
                           std::int64_t lddy, const Bf16* weight, std::int64_t ldw,
                           std::int64_t rows, const std::int64_t* sizes, std::int64_t matrices,
                           std::int64_t k, SumOrder order, Update update) {
  backward_input(cuda, dx, lddx, dy, lddy, weight, ldw, rows, sizes, matrices, k, order, update);
}
template <>
void linear_backward_input(const Cuda& cuda, Bf16* dx, std::int64_t lddx, const Bf16* dy,
                           std::int64_t lddy, const Bf16* weight, std::int64_t ldw,
                           std::int64_t rows, const std::int64_t* sizes, std::int64_t matrices,
                           std::int64_t k, SumOrder order, Update update) {
  backward_input(cuda, dx, lddx, dy, lddy, weight, ldw, rows, sizes, matrices, k, order, update);
}

/// The table of sequences travels as an argument of the kernel, so that nobody waits for a copy;
/// more of them than it holds are further calls, which continue the chains.
template <>
void linear_backward_weight(const Cuda& cuda, float* dweight, std::int64_t lddw, const Bf16* dy,
                            std::int64_t lddy, const Bf16* x, std::int64_t ldx,
                            const std::int32_t* cu_seqlens, std::int64_t sequences, std::int64_t n,
                            std::int64_t k, Chain chain) {
  if (n <= 0 || k <= 0) return;
  Bf16Gradient p{};
  p.c = dweight, p.ldc = lddw;
  p.a = dy, p.lda = lddy;
  p.b = x, p.ldb = ldx;
  p.rows = static_cast<int>(n), p.columns = static_cast<int>(k);
  p.resume = chain == Chain::resume;
  p.wide = is_wide(p);
  std::int64_t done = 0;
  do {
    Sequences part{};
    part.count = static_cast<int>(std::min<std::int64_t>(sequences - done, Sequences::most));
    part.starts[0] = cu_seqlens[done];
    for (int s = 0; s < part.count; ++s) {
      part.starts[s + 1] = cu_seqlens[done + s + 1];
      const int rows = part.starts[s + 1] - part.starts[s];
      part.blocks[s + 1] = part.blocks[s] + static_cast<int>(parts_of(rows, tensor_block));
    }
    if (!gradient_by_library(cuda, p, part)) kernels::run(cuda, p, part, plan_of(cuda, p, part));
    done += part.count;
    p.resume = true;
  } while (done < sequences);
}

}  // namespace fst::kernels
