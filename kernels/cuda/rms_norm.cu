#include "kernels/cuda/chain.h"
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/row_norm.h"
#include "kernels/rms_norm.h"

namespace fst::kernels {

namespace {

using namespace gpu;

/// A block takes a row.
template <class T>
KERNEL(row_threads, 4)
normalise_row(T* y, float* rstd, const T* x, const float* weight, std::int64_t dim, float eps) {
  RowShared& shared = shared_memory<RowShared>();
  const std::int64_t t = blockIdx.x;
#pragma unroll 4
  for (std::int64_t i = threadIdx.x; i < dim; i += row_threads) {
    shared.elements[i] = widened(x[t * dim + i]);
  }
  normalise_shared(shared, y + t * dim, rstd + t, weight, dim, eps);
}

template <class T>
KERNEL(row_threads, 4)
differentiate_row(T* dx, const T* dy, const T* x, const float* rstd, const float* weight,
                  std::int64_t dim, bool accumulate) {
  RowShared& shared = shared_memory<RowShared>();
  float* const g = shared.elements;
  float* const in = g + dim;
  const std::int64_t begin = static_cast<std::int64_t>(blockIdx.x) * dim;
#pragma unroll 4
  for (std::int64_t i = threadIdx.x; i < dim; i += row_threads) {
    g[i] = widened(dy[begin + i]) * weight[i];
    in[i] = widened(x[begin + i]);
  }
  sync_block();
  if (uniform(static_cast<int>(threadIdx.x / 32)) == 0) {
    const float mean = dot(g, in, dim) / static_cast<float>(dim);
    if (threadIdx.x == 0) shared.result = mean;
  }
  sync_block();
  const float r = rstd[blockIdx.x];
  const float pull = -(r * r) * shared.result;
#pragma unroll 4
  for (std::int64_t i = threadIdx.x; i < dim; i += row_threads) {
    const float result = fma(in[i], pull, g[i]) * r;
    dx[begin + i] = narrowed_to<T>(accumulate ? widened(dx[begin + i]) + result : result);
  }
}

struct WeightInputs {
  float dy, x, rstd;
};

template <class T>
KERNEL(chain_threads, 2)
differentiate_weight(float* dweight, const T* dy, const T* x, const float* rstd, std::int64_t rows,
                     std::int64_t dim) {
  add_chains(
      dweight, rows, dim,
      [&](std::int64_t t, std::int64_t c) {
        return WeightInputs{widened(dy[t * dim + c]), widened(x[t * dim + c]), rstd[t]};
      },
      [](WeightInputs in) {
        return Factors{in.dy, in.x * in.rstd};
      });
}

template <class T>
void normalise(const Cuda& cuda, T* y, float* rstd, const T* x, const float* weight,
               std::int64_t rows, std::int64_t dim, float eps) {
  if (rows == 0) return;
  const std::size_t bytes = row_bytes(dim);
  if (bytes > free_shared) allow_shared(normalise_row<T>, bytes);
  launch(normalise_row<T>, dim3(static_cast<unsigned>(rows)), dim3(row_threads), bytes, cuda.stream,
         y, rstd, x, weight, dim, eps);
}

template <class T>
void differentiate(const Cuda& cuda, T* dx, float* dweight, const T* dy, const T* x,
                   const float* rstd, const float* weight, std::int64_t rows, std::int64_t dim,
                   bool accumulate) {
  if (rows == 0) return;
  // The weights first: dx may be dy.
  const auto blocks = static_cast<unsigned>((dim + chain_columns - 1) / chain_columns);
  launch(differentiate_weight<T>, dim3(blocks), dim3(chain_threads), sizeof(ChainShared),
         cuda.stream, dweight, dy, x, rstd, rows, dim);
  const std::size_t bytes = row_bytes(2 * dim);
  if (bytes > free_shared) allow_shared(differentiate_row<T>, bytes);
  launch(differentiate_row<T>, dim3(static_cast<unsigned>(rows)), dim3(row_threads), bytes,
         cuda.stream, dx, dy, x, rstd, weight, dim, accumulate);
}

}  // namespace

template <>
void rms_norm_forward(const Cuda& cuda, float* y, float* rstd, const float* x, const float* weight,
                      std::int64_t rows, std::int64_t dim, float eps) {
  normalise(cuda, y, rstd, x, weight, rows, dim, eps);
}

template <>
void rms_norm_backward(const Cuda& cuda, float* dx, float* dweight, const float* dy, const float* x,
                       const float* rstd, const float* weight, std::int64_t rows, std::int64_t dim,
                       bool accumulate) {
  differentiate(cuda, dx, dweight, dy, x, rstd, weight, rows, dim, accumulate);
}

template <>
void rms_norm_forward(const Cuda& cuda, Bf16* y, float* rstd, const Bf16* x, const float* weight,
                      std::int64_t rows, std::int64_t dim, float eps) {
  normalise(cuda, y, rstd, x, weight, rows, dim, eps);
}

template <>
void rms_norm_backward(const Cuda& cuda, Bf16* dx, float* dweight, const Bf16* dy, const Bf16* x,
                       const float* rstd, const float* weight, std::int64_t rows, std::int64_t dim,
                       bool accumulate) {
  differentiate(cuda, dx, dweight, dy, x, rstd, weight, rows, dim, accumulate);
}

}  // namespace fst::kernels
