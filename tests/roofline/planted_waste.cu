#include "kernels/cuda/gpu.h"
#include "planted_waste.h"

namespace fst::roofline {
namespace {

using namespace kernels::gpu;

constexpr unsigned threads = 256;

DEVICE std::int64_t own() {
  return static_cast<std::int64_t>(blockIdx.x) * threads + threadIdx.x;
}

KERNEL(threads, 1) add_one_each(float* out, const float* in) {
  out[own()] = in[own()] + 1.0f;
}

KERNEL(threads, 1) add_one_of_two(float* out, const float* in) {
  out[own()] = in[2 * own()] + 1.0f;
}

KERNEL(threads, 1) add_one_and_copy(float* out, float* copy, const float* in) {
  copy[own()] = in[own()];
  out[own()] = copy[own()] + 1.0f;
}

KERNEL(threads, 1) add_one_after_all(float* out, const float* in, std::int64_t n) {
  float total = 0.0f;
  for (std::int64_t i = threadIdx.x; i < n; i += threads) total = total + in[i];
  out[own()] = in[own()] + (total == total ? 1.0f : 0.0f);
}

}  // namespace

void add_one(const kernels::Cuda& cuda, Waste waste, float* out, float* copy, const float* in,
             std::int64_t n) {
  const dim3 grid(static_cast<unsigned>(n) / threads), block(threads);
  switch (waste) {
    case Waste::none:
      return launch(add_one_each, grid, block, 0, cuda.stream, out, in);
    case Waste::other_half:
      return launch(add_one_of_two, grid, block, 0, cuda.stream, out, in);
    case Waste::twice:
      return launch(add_one_and_copy, grid, block, 0, cuda.stream, out, copy, in);
    case Waste::by_blocks:
      return launch(add_one_after_all, grid, block, 0, cuda.stream, out, in, n);
  }
}

}  // namespace fst::roofline
