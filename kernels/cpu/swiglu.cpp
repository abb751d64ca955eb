#include "kernels/swiglu.h"

#include "kernels/cpu/dispatch.h"
#include "kernels/cpu/swiglu_isa.h"
#include "kernels/thread_pool.h"

namespace fst::kernels {

namespace {
// An element costs an exponential, so fewer make a thread worth waking than in rms_norm.cpp.
constexpr std::int64_t grain_elements = 1 << 13;
}  // namespace

template <>
void swiglu_forward(const Cpu& cpu, float* h, const float* gate_up, std::int64_t rows,
                    std::int64_t dim) {
  parallel_for(cpu, rows, grain_elements / dim + 1, [&](std::int64_t begin, std::int64_t end) {
    for_isa(cpu, [&]<Isa isa>() {
      Swiglu<isa>::forward(h + begin * dim, gate_up + begin * 2 * dim, end - begin, dim);
    });
  });
}

template <>
void swiglu_backward(const Cpu& cpu, float* dgate_up, const float* dh, const float* gate_up,
                     std::int64_t rows, std::int64_t dim) {
  parallel_for(cpu, rows, grain_elements / dim + 1, [&](std::int64_t begin, std::int64_t end) {
    for_isa(cpu, [&]<Isa isa>() {
      Swiglu<isa>::backward(dgate_up + begin * 2 * dim, dh + begin * dim, gate_up + begin * 2 * dim,
                            end - begin, dim);
    });
  });
}

}  // namespace fst::kernels
