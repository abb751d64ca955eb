#include "kernels/rms_norm.h"

#include "kernels/cpu/dispatch.h"
#include "kernels/cpu/rms_norm_isa.h"
#include "kernels/thread_pool.h"

namespace fst::kernels {

namespace {
// Elements below which waking a thread costs more than the work; about 10 microseconds.
constexpr std::int64_t grain_elements = 1 << 14;
}  // namespace

template <>
void rms_norm_forward(const Cpu& cpu, float* y, float* rstd, const float* x, const float* weight,
                      std::int64_t rows, std::int64_t dim, float eps) {
  parallel_for(cpu, rows, grain_elements / dim + 1, [&](std::int64_t begin, std::int64_t end) {
    for_isa(cpu, [&]<Isa isa>() {
      RmsNorm<isa>::forward(y + begin * dim, rstd + begin, x + begin * dim, weight, end - begin,
                            dim, eps);
    });
  });
}

template <>
void rms_norm_backward(const Cpu& cpu, float* dx, float* dweight, const float* dy, const float* x,
                       const float* rstd, const float* weight, std::int64_t rows, std::int64_t dim,
                       bool accumulate) {
  // The weights first: dx may be dy.
  parallel_for(cpu, dim, grain_elements / (rows + 1) + 16,
               [&](std::int64_t begin, std::int64_t end) {
                 for_isa(cpu, [&]<Isa isa>() {
                   RmsNorm<isa>::backward_weight(dweight, dy, x, rstd, rows, dim, begin, end);
                 });
               });
  parallel_for(cpu, rows, grain_elements / dim + 1, [&](std::int64_t begin, std::int64_t end) {
    for_isa(cpu, [&]<Isa isa>() {
      const std::int64_t at = begin * dim;
      RmsNorm<isa>::backward_input(dx + at, dy + at, x + at, rstd + begin, weight, end - begin, dim,
                                   accumulate);
    });
  });
}

}  // namespace fst::kernels
