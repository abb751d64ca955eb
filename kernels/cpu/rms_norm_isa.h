#pragma once

#include <cstdint>

#include "kernels/bf16.h"
#include "kernels/exec.h"

namespace fst::kernels {

template <Isa isa, class T>
struct RmsNorm {
  static void forward(T* y, float* rstd, const T* x, const float* weight, std::int64_t rows,
                      std::int64_t dim, float eps);
  static void backward_input(T* dx, const T* dy, const T* x, const float* rstd, const float* weight,
                             std::int64_t rows, std::int64_t dim, bool accumulate);
  /// Columns [begin, end) of dweight.
  static void backward_weight(float* dweight, const T* dy, const T* x, const float* rstd,
                              std::int64_t rows, std::int64_t dim, std::int64_t begin,
                              std::int64_t end);
};

}  // namespace fst::kernels
