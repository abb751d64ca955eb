#pragma once

#include <cstdint>

#include "kernels/exec.h"

/// The elementary functions of the numerics contract on arrays: the same bits on every instruction
/// set, nothing from the C library. y may alias x.
namespace fst::kernels {

/// y[i] = e^x[i]; below 1.5 ulp; gradual underflow to 0, overflow to infinity.
template <class Exec>
void exp_each(const Exec&, float* y, const float* x, std::int64_t n);
/// y[i] = ln x[i]; below 1.5 ulp; ln 0 = -infinity, NaN below 0.
template <class Exec>
void log_each(const Exec&, float* y, const float* x, std::int64_t n);
/// sum_i x[i] y[i]: lane i of 16 takes i, i+16, ... by fma in order; the lanes are joined by
/// halving.
template <class Exec>
float row_dot(const Exec&, const float* x, const float* y, std::int64_t n);
/// sine[i], cosine[i] of x[i] in double precision, |x| <= 2^30.
void sine_cosine_each(const Cpu&, double* sine, double* cosine, const double* x, std::int64_t n);
/// base^exponent in double precision, base a positive normal number, |result| within 2^±1000.
double power(const Cpu&, double base, double exponent);

}  // namespace fst::kernels
