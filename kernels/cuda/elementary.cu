#include "kernels/cuda/lanes.h"
#include "kernels/cuda/tiles.h"
#include "kernels/elementary.h"

namespace fst::kernels {

namespace {

using namespace gpu;

KERNEL(tile_threads, 4) exp_elements(float* y, const float* x, std::int64_t n) {
  each_element(
      n, [&](std::int64_t, std::int64_t i) { return x[i]; },
      [&](std::int64_t, std::int64_t i, float v) { y[i] = exp(v); });
}

KERNEL(tile_threads, 4) log_elements(float* y, const float* x, std::int64_t n) {
  each_element(
      n, [&](std::int64_t, std::int64_t i) { return x[i]; },
      [&](std::int64_t, std::int64_t i, float v) { y[i] = log(v); });
}

/// One warp; its two halves do the same.
KERNEL(32, 1) dot_rows(float* total, const float* x, const float* y, std::int64_t n) {
  const float all = dot(x, y, n);
  if (threadIdx.x == 0) *total = all;
}

}  // namespace

template <>
void exp_each(const Cuda& cuda, float* y, const float* x, std::int64_t n) {
  launch_tiles(cuda, exp_elements, 1, n, y, x, n);
}

template <>
void log_each(const Cuda& cuda, float* y, const float* x, std::int64_t n) {
  launch_tiles(cuda, log_elements, 1, n, y, x, n);
}

template <>
float row_dot(const Cuda& cuda, const float* x, const float* y, std::int64_t n) {
  auto* const total = static_cast<float*>(scratch(cuda, sizeof(float)));
  launch(dot_rows, dim3(1), dim3(32), 0, cuda.stream, total, x, y, n);
  float result = 0.0f;
  copy_to_host(cuda, &result, total, sizeof result);
  return result;
}

}  // namespace fst::kernels
