#include "kernels/cuda/few_rows.h"
#include "kernels/cuda/gpu.h"
#include "kernels/cuda/leaf_tree.h"
#include "kernels/cuda/row_norm.h"
#include "kernels/linear_norm.h"

namespace fst::kernels {

namespace {

using namespace gpu;

/// What joins the leaves of a product, [leaves][rows][step], with the residual, and the norm.
template <class T>
struct Residual {
  T *y, *normed;
  float* rstd;
  const float *leaves, *weight;
  std::int64_t step, count, dim;
  float eps;
};

/// A block takes a row.
template <class T>
KERNEL(row_threads, 4)
add_norm_kernel(Residual<T> in) {
  RowShared& shared = shared_memory<RowShared>();
  const std::int64_t begin = blockIdx.x * in.dim, level = gridDim.x * in.step;
  const float* const leaves = in.leaves + blockIdx.x * in.step;
  for (std::int64_t i = 4 * threadIdx.x; i < in.dim; i += 4 * row_threads) {
    const float4 sum = join_leaves(leaves + i, level, in.count);
    const int count = static_cast<int>(in.dim - i);
    T* const to = in.y + begin + i;
    const float4 total = gpu::add(read4_upto(to, count), sum);
    write4_upto(to, total, count);
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      if (e < count) shared.elements[i + e] = widened(narrowed_to<T>(gpu::part(total, e)));
    }
  }
  normalise_shared(shared, in.normed + begin, in.rstd + blockIdx.x, in.weight, in.dim, in.eps);
}

template <class T>
void add_norm(const Cuda& cuda, Residual<T> in, const T* x, std::int64_t ldx, const T* packed,
              std::int64_t rows, std::int64_t k, SumOrder order) {
  if (rows == 0 || in.dim == 0) return;
  const Leaves leaves = leaves_of_few_rows(cuda, x, ldx, packed, rows, in.dim, k, order);
  in.leaves = leaves.data;
  in.step = leaves.step;
  in.count = static_cast<std::int64_t>(order);
  const std::size_t bytes = row_bytes(in.dim);
  if (bytes > free_shared) allow_shared(add_norm_kernel<T>, bytes);
  launch(add_norm_kernel<T>, dim3(static_cast<unsigned>(rows)), dim3(row_threads), bytes,
         cuda.stream, in);
}

}  // namespace

template <>
void linear_add_norm(const Cuda& cuda, float* y, float* normed, float* rstd, const float* x,
                     std::int64_t ldx, const float* packed, const float* weight, std::int64_t rows,
                     std::int64_t n, std::int64_t k, SumOrder order, float eps) {
  add_norm<float>(cuda, {y, normed, rstd, nullptr, weight, 0, 0, n, eps}, x, ldx, packed, rows, k,
                  order);
}

template <>
void linear_add_norm(const Cuda& cuda, Bf16* y, Bf16* normed, float* rstd, const Bf16* x,
                     std::int64_t ldx, const Bf16* packed, const float* weight, std::int64_t rows,
                     std::int64_t n, std::int64_t k, SumOrder order, float eps) {
  add_norm<Bf16>(cuda, {y, normed, rstd, nullptr, weight, 0, 0, n, eps}, x, ldx, packed, rows, k,
                 order);
}

}  // namespace fst::kernels
