#pragma once

#include "kernels/cuda/lanes.h"

/// The norm of a row that a block holds in shared memory.
namespace fst::kernels::gpu {

inline constexpr int row_threads = 256;
// What a block may have without asking; rows of 12,000 elements fit.
inline constexpr std::size_t free_shared = 48 * 1024;

struct RowShared {
  float result;
  float padding[3];
  float elements[1];  // as many as the launch asked for
};

inline std::size_t row_bytes(std::int64_t floats) {
  return sizeof(RowShared) + static_cast<std::size_t>(floats) * sizeof(float);
}

/// y = row * rstd * weight for the `dim` elements that all threads have brought to shared memory:
/// one half-warp sums them in the contract's order, all threads finish.
template <class T>
DEVICE void normalise_shared(RowShared& shared, T* y, float* rstd, const float* weight,
                             std::int64_t dim, float eps) {
  float* const row = shared.elements;
  sync_block();
  if (uniform(static_cast<int>(threadIdx.x / 32)) == 0) {
    const float mean = dot(row, row, dim) / static_cast<float>(dim);
    const float r = 1.0f / root(mean + eps);
    if (threadIdx.x == 0) {
      *rstd = r;
      shared.result = r;
    }
  }
  sync_block();
  const float r = shared.result;
#pragma unroll 4
  for (std::int64_t i = threadIdx.x; i < dim; i += row_threads) {
    y[i] = narrowed_to<T>((row[i] * r) * weight[i]);
  }
}

}  // namespace fst::kernels::gpu
