#include "kernels/rms_norm.h"

#include "kernels/cpu/dispatch.h"
#include "kernels/cpu/rms_norm_isa.h"
#include "kernels/thread_pool.h"

namespace fst::kernels {

namespace {
// Elements below which waking a thread costs more than the work; about 10 microseconds.
constexpr std::int64_t grain_elements = 1 << 14;
}  // namespace

template <class Exec, class T>
void rms_norm_forward(const Exec& cpu, T* y, float* rstd, const T* x, const float* weight,
                      std::int64_t rows, std::int64_t dim, float eps) {
  parallel_for(cpu, rows, grain_elements / dim + 1, [&](std::int64_t begin, std::int64_t end) {
    for_isa(cpu, [&]<Isa isa>() {
      RmsNorm<isa, T>::forward(y + begin * dim, rstd + begin, x + begin * dim, weight, end - begin,
                               dim, eps);
    });
  });
}

template <class Exec, class T>
void rms_norm_backward(const Exec& cpu, T* dx, float* dweight, const T* dy, const T* x,
                       const float* rstd, const float* weight, std::int64_t rows, std::int64_t dim,
                       bool accumulate) {
  // The weights first: dx may be dy.
  parallel_for(cpu, dim, grain_elements / (rows + 1) + 16,
               [&](std::int64_t begin, std::int64_t end) {
                 for_isa(cpu, [&]<Isa isa>() {
                   RmsNorm<isa, T>::backward_weight(dweight, dy, x, rstd, rows, dim, begin, end);
                 });
               });
  parallel_for(cpu, rows, grain_elements / dim + 1, [&](std::int64_t begin, std::int64_t end) {
    for_isa(cpu, [&]<Isa isa>() {
      const std::int64_t at = begin * dim;
      RmsNorm<isa, T>::backward_input(dx + at, dy + at, x + at, rstd + begin, weight, end - begin,
                                      dim, accumulate);
    });
  });
}

template void rms_norm_forward(const Cpu&, float*, float*, const float*, const float*, std::int64_t,
                               std::int64_t, float);
template void rms_norm_forward(const Cpu&, Bf16*, float*, const Bf16*, const float*, std::int64_t,
                               std::int64_t, float);
template void rms_norm_backward(const Cpu&, float*, float*, const float*, const float*,
                                const float*, const float*, std::int64_t, std::int64_t, bool);
template void rms_norm_backward(const Cpu&, Bf16*, float*, const Bf16*, const Bf16*, const float*,
                                const float*, std::int64_t, std::int64_t, bool);

}  // namespace fst::kernels
