#pragma once

#include <cstdint>

#include "kernels/bf16.h"
#include "kernels/cuda/cuda.h"
#include "kernels/matmul.h"

namespace fst::kernels {

/// The leaves of all sums of a product, [leaves][rows][step] in the working memory: valid until the
/// next product.
struct Leaves {
  const float* data;
  std::int64_t step;  // a multiple of 4
};
/// Queues the leaves of x weight^T as in linear_forward(), for at most most_add_norm_rows<> rows
/// (linear_norm.h). Joining them is the caller's.
Leaves leaves_of_few_rows(const Cuda& cuda, const float* x, std::int64_t ldx, const float* packed,
                          std::int64_t rows, std::int64_t n, std::int64_t k, SumOrder order);
Leaves leaves_of_few_rows(const Cuda& cuda, const Bf16* x, std::int64_t ldx, const Bf16* weight,
                          std::int64_t rows, std::int64_t n, std::int64_t k, SumOrder order);
/// Queues the product of linear_swiglu() with what follows in its last step. False, and nothing is
/// queued, where rows do not begin and end at multiples of 16 bytes.
bool gated_few_rows(const Cuda& cuda, Bf16* h, const Bf16* x, std::int64_t ldx, const Bf16* weight,
                    std::int64_t rows, std::int64_t dim, std::int64_t k);

}  // namespace fst::kernels
