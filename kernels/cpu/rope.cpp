#include "kernels/rope.h"

#include "kernels/cpu/dispatch.h"
#include "kernels/cpu/rope_isa.h"
#include "kernels/thread_pool.h"

namespace fst::kernels {

namespace {
// As in rms_norm.cpp.
constexpr std::int64_t grain_elements = 1 << 14;
}  // namespace

void rope_table(const Cpu& cpu, float* cosine, float* sine, double theta, std::int64_t positions,
                std::int64_t half) {
  parallel_for(cpu, positions, 512, [&](std::int64_t begin, std::int64_t end) {
    for_isa(cpu, [&]<Isa isa>() { Rope<isa>::table(cosine, sine, theta, begin, end, half); });
  });
}

template <>
void head_norm_rope_forward(const Cpu& cpu, float* y, std::int64_t y_stride, float* rstd,
                            const float* x, std::int64_t x_stride, float eps,
                            const HeadRows& shape) {
  const std::int64_t grain = grain_elements / (shape.heads * shape.dim) + 1;
  parallel_for(cpu, shape.rows, grain, [&](std::int64_t begin, std::int64_t end) {
    for_isa(cpu, [&]<Isa isa>() {
      Rope<isa>::forward(y, y_stride, rstd, x, x_stride, eps, shape, begin, end);
    });
  });
}

template <>
void head_norm_rope_backward(const Cpu& cpu, float* dx, std::int64_t dx_stride, float* dweight,
                             const float* dy, std::int64_t dy_stride, const float* x,
                             std::int64_t x_stride, const float* rstd, const HeadRows& shape) {
  if (dweight != nullptr) {  // first: dx may be dy
    const std::int64_t grain = grain_elements / (shape.rows * shape.dim + 1) + 1;
    parallel_for(cpu, shape.heads, grain, [&](std::int64_t begin, std::int64_t end) {
      for_isa(cpu, [&]<Isa isa>() {
        Rope<isa>::backward_weight(dweight, dy, dy_stride, x, x_stride, rstd, shape, begin, end);
      });
    });
  }
  const std::int64_t grain = grain_elements / (shape.heads * shape.dim) + 1;
  parallel_for(cpu, shape.rows, grain, [&](std::int64_t begin, std::int64_t end) {
    for_isa(cpu, [&]<Isa isa>() {
      Rope<isa>::backward_input(dx, dx_stride, dy, dy_stride, x, x_stride, rstd, shape, begin, end);
    });
  });
}

}  // namespace fst::kernels
