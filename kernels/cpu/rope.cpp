#include "kernels/rope.h"

#include "kernels/cpu/dispatch.h"
#include "kernels/cpu/rope_isa.h"
#include "kernels/cpu/scratch.h"
#include "kernels/thread_pool.h"

namespace fst::kernels {

namespace {
// As in rms_norm.cpp.
constexpr std::int64_t grain_elements = 1 << 14;
}  // namespace

void rope_table(const Cpu& cpu, float* cosine, float* sine, double theta, std::int64_t positions,
                std::int64_t half) {
  parallel_for(cpu, positions, 512, [&](std::int64_t begin, std::int64_t end) {
    for_isa(cpu, [&]<Isa isa>() { RopeTable<isa>::rows(cosine, sine, theta, begin, end, half); });
  });
}

template <class Exec, class T>
void head_norm_rope_forward(const Exec& cpu, T* y, std::int64_t y_stride, float* rstd, const T* x,
                            std::int64_t x_stride, float eps, const HeadRows& shape) {
  const std::int64_t grain = grain_elements / (shape.heads * shape.dim) + 1;
  parallel_for(cpu, shape.rows, grain, [&](std::int64_t begin, std::int64_t end) {
    for_isa(cpu, [&]<Isa isa>() {
      Rope<isa, T>::forward(y, y_stride, rstd, x, x_stride, eps, shape, begin, end);
    });
  });
}

template <class Exec, class T>
void head_norm_rope_backward(const Exec& cpu, T* dx, std::int64_t dx_stride, float* dweight,
                             const T* dy, std::int64_t dy_stride, const T* x, std::int64_t x_stride,
                             const float* rstd, const HeadRows& shape) {
  if (dweight != nullptr) {  // first: dx may be dy
    const std::int64_t grain = grain_elements / (shape.rows * shape.dim + 1) + 1;
    parallel_for(cpu, shape.heads, grain, [&](std::int64_t begin, std::int64_t end) {
      for_isa(cpu, [&]<Isa isa>() {
        Rope<isa, T>::backward_weight(dweight, dy, dy_stride, x, x_stride, rstd, shape, begin, end);
      });
    });
  }
  const std::int64_t grain = grain_elements / (shape.heads * shape.dim) + 1;
  parallel_for(cpu, shape.rows, grain, [&](std::int64_t begin, std::int64_t end) {
    for_isa(cpu, [&]<Isa isa>() {
      Rope<isa, T>::backward_input(dx, dx_stride, dy, dy_stride, x, x_stride, rstd, shape, begin,
                                   end, scratch(shape.dim));
    });
  });
}

template void head_norm_rope_forward(const Cpu&, float*, std::int64_t, float*, const float*,
                                     std::int64_t, float, const HeadRows&);
template void head_norm_rope_forward(const Cpu&, Bf16*, std::int64_t, float*, const Bf16*,
                                     std::int64_t, float, const HeadRows&);
template void head_norm_rope_backward(const Cpu&, float*, std::int64_t, float*, const float*,
                                      std::int64_t, const float*, std::int64_t, const float*,
                                      const HeadRows&);
template void head_norm_rope_backward(const Cpu&, Bf16*, std::int64_t, float*, const Bf16*,
                                      std::int64_t, const Bf16*, std::int64_t, const float*,
                                      const HeadRows&);

}  // namespace fst::kernels
