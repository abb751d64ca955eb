#include "kernels/linear_norm.h"

#include "kernels/matmul_bf16.h"
#include "kernels/rms_norm.h"

namespace fst::kernels {

template <class Exec, class T>
void linear_add_norm(const Exec& cpu, T* y, T* normed, float* rstd, const T* x, std::int64_t ldx,
                     const T* packed, const float* weight, std::int64_t rows, std::int64_t n,
                     std::int64_t k, SumOrder order, float eps) {
  linear_forward(cpu, y, n, x, ldx, packed, nullptr, rows, n, k, order, Update::add);
  rms_norm_forward(cpu, normed, rstd, y, weight, rows, n, eps);
}

template void linear_add_norm(const Cpu&, float*, float*, float*, const float*, std::int64_t,
                              const float*, const float*, std::int64_t, std::int64_t, std::int64_t,
                              SumOrder, float);
template void linear_add_norm(const Cpu&, Bf16*, Bf16*, float*, const Bf16*, std::int64_t,
                              const Bf16*, const float*, std::int64_t, std::int64_t, std::int64_t,
                              SumOrder, float);

}  // namespace fst::kernels
