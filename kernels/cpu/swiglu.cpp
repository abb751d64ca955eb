#include "kernels/swiglu.h"

#include "kernels/cpu/dispatch.h"
#include "kernels/cpu/swiglu_isa.h"
#include "kernels/thread_pool.h"

namespace fst::kernels {

namespace {
// An element costs an exponential, so fewer make a thread worth waking than in rms_norm.cpp.
constexpr std::int64_t grain_elements = 1 << 13;
}  // namespace

template <class Exec, class T>
void swiglu_forward(const Exec& cpu, T* h, const T* gate_up, std::int64_t rows, std::int64_t dim) {
  parallel_for(cpu, rows, grain_elements / dim + 1, [&](std::int64_t begin, std::int64_t end) {
    for_isa(cpu, [&]<Isa isa>() {
      Swiglu<isa, T>::forward(h + begin * dim, gate_up + begin * 2 * dim, end - begin, dim);
    });
  });
}

template <class Exec, class T>
void swiglu_backward(const Exec& cpu, T* dgate_up, const T* dh, const T* gate_up, std::int64_t rows,
                     std::int64_t dim) {
  parallel_for(cpu, rows, grain_elements / dim + 1, [&](std::int64_t begin, std::int64_t end) {
    for_isa(cpu, [&]<Isa isa>() {
      Swiglu<isa, T>::backward(dgate_up + begin * 2 * dim, dh + begin * dim,
                               gate_up + begin * 2 * dim, end - begin, dim);
    });
  });
}

template void swiglu_forward(const Cpu&, float*, const float*, std::int64_t, std::int64_t);
template void swiglu_forward(const Cpu&, Bf16*, const Bf16*, std::int64_t, std::int64_t);
template void swiglu_backward(const Cpu&, float*, const float*, const float*, std::int64_t,
                              std::int64_t);
template void swiglu_backward(const Cpu&, Bf16*, const Bf16*, const Bf16*, std::int64_t,
                              std::int64_t);

}  // namespace fst::kernels
