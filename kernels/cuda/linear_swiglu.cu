#include "kernels/cuda/few_rows.h"
#include "kernels/linear_swiglu.h"
#include "kernels/matmul_bf16.h"
#include "kernels/swiglu.h"

namespace fst::kernels {

/// In float32 a thread of the product has no registers for a second sum.
template <>
void linear_swiglu(const Cuda& cuda, float* h, float* gate_up, const float* x, std::int64_t ldx,
                   const float* packed, std::int64_t rows, std::int64_t dim, std::int64_t k) {
  linear_forward(cuda, gate_up, 2 * dim, x, ldx, packed, nullptr, rows, 2 * dim, k, SumOrder::chain,
                 Update::overwrite);
  swiglu_forward(cuda, h, gate_up, rows, dim);
}

template <>
void linear_swiglu(const Cuda& cuda, Bf16* h, Bf16* gate_up, const Bf16* x, std::int64_t ldx,
                   const Bf16* packed, std::int64_t rows, std::int64_t dim, std::int64_t k) {
  if (gated_few_rows(cuda, h, x, ldx, packed, rows, dim, k)) return;
  linear_forward(cuda, gate_up, 2 * dim, x, ldx, packed, nullptr, rows, 2 * dim, k, SumOrder::chain,
                 Update::overwrite);
  swiglu_forward(cuda, h, gate_up, rows, dim);
}

}  // namespace fst::kernels
