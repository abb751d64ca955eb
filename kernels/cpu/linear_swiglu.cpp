#include "kernels/linear_swiglu.h"

#include "kernels/matmul.h"
#include "kernels/matmul_bf16.h"
#include "kernels/swiglu.h"

namespace fst::kernels {

template <class Exec, class T>
void linear_swiglu(const Exec& cpu, T* h, T* gate_up, const T* x, std::int64_t ldx, const T* packed,
                   std::int64_t rows, std::int64_t dim, std::int64_t k) {
  linear_forward(cpu, gate_up, 2 * dim, x, ldx, packed, nullptr, rows, 2 * dim, k, SumOrder::chain,
                 Update::overwrite);
  swiglu_forward(cpu, h, gate_up, rows, dim);
}

template void linear_swiglu(const Cpu&, float*, float*, const float*, std::int64_t, const float*,
                            std::int64_t, std::int64_t, std::int64_t);
template void linear_swiglu(const Cpu&, Bf16*, Bf16*, const Bf16*, std::int64_t, const Bf16*,
                            std::int64_t, std::int64_t, std::int64_t);

}  // namespace fst::kernels
