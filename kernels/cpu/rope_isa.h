#pragma once

#include "kernels/rope.h"

namespace fst::kernels {

template <Isa isa>
struct RopeTable {
  /// Rows [begin, end) of the table.
  static void rows(float* cosine, float* sine, double theta, std::int64_t begin, std::int64_t end,
                   std::int64_t half);
};

template <Isa isa, class T>
struct Rope {
  /// Rows [begin, end).
  static void forward(T* y, std::int64_t y_stride, float* rstd, const T* x, std::int64_t x_stride,
                      float eps, const HeadRows& shape, std::int64_t begin, std::int64_t end);
  /// `slopes` [dim]: scratch for the gradient of one head's n.
  static void backward_input(T* dx, std::int64_t dx_stride, const T* dy, std::int64_t dy_stride,
                             const T* x, std::int64_t x_stride, const float* rstd,
                             const HeadRows& shape, std::int64_t begin, std::int64_t end,
                             float* slopes);
  /// Heads [begin, end) of dweight, all rows.
  static void backward_weight(float* dweight, const T* dy, std::int64_t dy_stride, const T* x,
                              std::int64_t x_stride, const float* rstd, const HeadRows& shape,
                              std::int64_t begin, std::int64_t end);
};

}  // namespace fst::kernels
