#pragma once

#include <cstdint>

#include "kernels/exec.h"

namespace fst::kernels {

template <Isa isa>
struct Elementary {
  static void exp_each(float* y, const float* x, std::int64_t n);
  static void log_each(float* y, const float* x, std::int64_t n);
  static float row_dot(const float* x, const float* y, std::int64_t n);
  static void sine_cosine_each(double* sine, double* cosine, const double* x, std::int64_t n);
  static double power(double base, double exponent);
};

}  // namespace fst::kernels
