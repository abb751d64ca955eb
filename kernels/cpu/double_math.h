#pragma once

#include <cstdint>
#include <cstring>

#include "kernels/cpu/vec.h"

/// Elementary functions in double precision for tables (rotary embedding): a few ulp of double, so
/// that rounding to float32 almost always gives the float32 nearest to the true value, and the same
/// bits everywhere because nothing comes from the C library. Nested Taylor series: no fitted
/// numbers.
namespace fst::kernels::FST_ISA_NS {

FST_INLINE double fma(double a, double b, double c) {
  return __builtin_fma(a, b, c);
}

/// The nearest integer, ties to even; |x| < 2^51.
FST_INLINE double round(double x) {
  const double magic = 0x1.8p52;
  return (x + magic) - magic;
}

struct SineCosine {
  double sine, cosine;
};

/// Sine and cosine of x, |x| <= 2^30.
FST_INLINE SineCosine sine_cosine(double x) {
  const double n = round(x * 0x1.45f306dc9c883p-1);  // 2 / pi
  double r = fma(-n, 0x1.921fb54442d18p+0, x);       // pi / 2 in three parts
  r = fma(-n, 0x1.1a62633145c07p-54, r);
  r = fma(-n, -0x1.f1976b8p-110, r);
  const double minus_z = -(r * r);
  // sin(r) / r = 1 - z/(2 3) (1 - z/(4 5) (...)), cos(r) = 1 - z/(1 2) (1 - z/(3 4) (...)); with
  // |r| <= pi/4 the first term left out is below 1e-19.
  double s = 1.0, c = 1.0;
#pragma GCC unroll 9
  for (int k = 9; k >= 1; --k) {
    s = fma(minus_z * (1.0 / (2.0 * k * (2.0 * k + 1.0))), s, 1.0);
    c = fma(minus_z * (1.0 / (2.0 * k * (2.0 * k - 1.0))), c, 1.0);
  }
  s *= r;
  switch (static_cast<std::int64_t>(n) & 3) {
    case 0:
      return {s, c};
    case 1:
      return {c, -s};
    case 2:
      return {-s, -c};
    default:
      return {-c, s};
  }
}

/// 2^x, |x| <= 1000.
FST_INLINE double exp2(double x) {
  const double n = round(x);
  const double f = (x - n) * 0x1.62e42fefa39efp-1;  // ln 2
  double t = 1.0;  // e^f = 1 + f/1 (1 + f/2 (...)); |f| <= 0.35: the next term is below 1e-19
#pragma GCC unroll 15
  for (int k = 15; k >= 1; --k) t = fma(f * (1.0 / k), t, 1.0);
  const auto bits = static_cast<std::uint64_t>(static_cast<std::int64_t>(n) + 1023) << 52;
  double power = 0.0;
  std::memcpy(&power, &bits, sizeof power);
  return t * power;
}

/// Logarithm to base 2 of a positive normal number.
FST_INLINE double log2(double x) {
  std::uint64_t bits = 0;
  std::memcpy(&bits, &x, sizeof bits);
  const std::uint64_t root_half = 0x3fe6a09e667f3bcdULL;
  const std::uint64_t exponent_bits = (bits - root_half) & 0xfff0000000000000ULL;
  bits -= exponent_bits;
  double m = 0.0;  // in [sqrt(1/2), sqrt(2))
  std::memcpy(&m, &bits, sizeof m);
  const double e = static_cast<double>(static_cast<std::int64_t>(exponent_bits) >> 52);
  // ln m = 2 atanh(s), s = (m - 1) / (m + 1), |s| <= 0.172: 12 terms leave 1e-20
  const double s = (m - 1.0) / (m + 1.0);
  const double z = s * s;
  double t = 1.0 / 25.0;
#pragma GCC unroll 12
  for (int k = 11; k >= 0; --k) t = fma(t, z, 1.0 / (2.0 * k + 1.0));
  return fma(s * t, 2.0 * 0x1.71547652b82fep+0, e);  // 2 / ln 2
}

}  // namespace fst::kernels::FST_ISA_NS
