#pragma once

#include "kernels/cuda/math.h"
#include "kernels/cuda/storage.h"

/// Half-warps as the sixteen lanes of the numerics contract (cpu/vec.h): lane i takes the elements
/// i, i+16, ...; the lanes are joined by halving, +8, +4, +2, +1. The functions that join are
/// executed by whole warps, each half for itself, and give their result to all sixteen lanes.
namespace fst::kernels::gpu {

inline constexpr int lanes = 16;

/// This thread's lane, and the number of its half-warp in the block.
DEVICE int lane_of() {
  return static_cast<int>(threadIdx.x % lanes);
}
DEVICE int half_warp_of() {
  return static_cast<int>(threadIdx.x / lanes);
}

/// Sum over the lanes. Both partners of an exchange add the same two numbers.
DEVICE float sum(float v) {
  for (int step = lanes / 2; step > 0; step /= 2) v = v + shuffle_xor(v, step);
  return v;
}

/// The greatest lane. greater() is not symmetric, so both partners put the lower lane first.
DEVICE float maximum(float v) {
  for (int step = lanes / 2; step > 0; step /= 2) {
    const float other = shuffle_xor(v, step);
    v = (lane_of() & step) == 0 ? greater(v, other) : greater(other, v);
  }
  return v;
}

/// sum_i x[i] y[i], i < n, one fma each.
template <class X, class Y>
DEVICE float dot(const X* x, const Y* y, std::int64_t n) {
  float total = 0.0f;
#pragma unroll 8
  for (std::int64_t i = lane_of(); i < n; i += lanes)
    total = fma(widened(x[i]), widened(y[i]), total);
  return sum(total);
}

}  // namespace fst::kernels::gpu
