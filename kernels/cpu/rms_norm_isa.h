#pragma once

#include <cstdint>

#include "kernels/exec.h"

namespace fst::kernels {

template <Isa isa>
struct RmsNorm {
  static void forward(float* y, float* rstd, const float* x, const float* weight, std::int64_t rows,
                      std::int64_t dim, float eps);
  static void backward_input(float* dx, const float* dy, const float* x, const float* rstd,
                             const float* weight, std::int64_t rows, std::int64_t dim,
                             bool accumulate);
  /// Columns [begin, end) of dweight.
  static void backward_weight(float* dweight, const float* dy, const float* x, const float* rstd,
                              std::int64_t rows, std::int64_t dim, std::int64_t begin,
                              std::int64_t end);
};

}  // namespace fst::kernels
