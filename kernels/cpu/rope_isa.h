#pragma once

#include "kernels/rope.h"

namespace fst::kernels {

template <Isa isa>
struct Rope {
  /// Rows [begin, end) of the table.
  static void table(float* cosine, float* sine, double theta, std::int64_t begin, std::int64_t end,
                    std::int64_t half);
  /// Rows [begin, end).
  static void forward(float* y, std::int64_t y_stride, float* rstd, const float* x,
                      std::int64_t x_stride, float eps, const HeadRows& shape, std::int64_t begin,
                      std::int64_t end);
  static void backward_input(float* dx, std::int64_t dx_stride, const float* dy,
                             std::int64_t dy_stride, const float* x, std::int64_t x_stride,
                             const float* rstd, const HeadRows& shape, std::int64_t begin,
                             std::int64_t end);
  /// Heads [begin, end) of dweight, all rows.
  static void backward_weight(float* dweight, const float* dy, std::int64_t dy_stride,
                              const float* x, std::int64_t x_stride, const float* rstd,
                              const HeadRows& shape, std::int64_t begin, std::int64_t end);
};

}  // namespace fst::kernels
