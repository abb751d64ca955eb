#include "kernels/cuda/cuda.h"
#include "kernels/cuda/quad.h"
#include "kernels/cuda/storage.h"
#include "kernels/matmul.h"
#include "kernels/matmul_bf16.h"

namespace fst::kernels {

namespace {

using namespace gpu;

constexpr int bias_threads = 64;

/// A thread adds up one column; eight rows are under way at a time.
template <class T>
KERNEL(bias_threads, 8)
bias_kernel(float* dbias, const T* dy, std::int64_t lddy, std::int64_t rows, std::int64_t n) {
  const std::int64_t column = static_cast<std::int64_t>(blockIdx.x) * bias_threads + threadIdx.x;
  if (column >= n) return;
  float sum = dbias[column];
  const T* from = dy + column;
  std::int64_t r = 0;
  for (; r + 8 <= rows; r += 8, from += 8 * lddy) {
    T value[8];
#pragma unroll
    for (int i = 0; i < 8; ++i) value[i] = from[i * lddy];
#pragma unroll
    for (int i = 0; i < 8; ++i) sum = sum + widened(value[i]);
  }
  for (; r < rows; ++r, from += lddy) sum = sum + widened(*from);
  dbias[column] = sum;
}

template <class T>
void launch_bias(const Cuda& cuda, float* dbias, const T* dy, std::int64_t lddy, std::int64_t rows,
                 std::int64_t n) {
  if (n <= 0) return;
  const auto blocks = static_cast<unsigned>(parts_of(n, bias_threads));
  launch(bias_kernel<T>, dim3(blocks), dim3(bias_threads), 0, cuda.stream, dbias, dy, lddy, rows,
         n);
}

}  // namespace

template <>
void bias_backward(const Cuda& cuda, float* dbias, const float* dy, std::int64_t lddy,
                   std::int64_t rows, std::int64_t n) {
  launch_bias(cuda, dbias, dy, lddy, rows, n);
}

template <>
void bias_backward(const Cuda& cuda, float* dbias, const Bf16* dy, std::int64_t lddy,
                   std::int64_t rows, std::int64_t n) {
  launch_bias(cuda, dbias, dy, lddy, rows, n);
}

}  // namespace fst::kernels
