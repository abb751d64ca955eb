#pragma once

#include "kernels/cpu/vec.h"

/// exp and log of 16 lanes from the operations of vec.h, so with the same bits on every instruction
/// set; below 1.5 ulp over all finite arguments. The coefficients are minimax fits (Remez) rounded
/// to float32.
namespace fst::kernels::FST_ISA_NS {

/// e^x. Gradual underflow to 0 below -87.3, infinity above 88.72; exp(-inf) = 0, exp(NaN) = NaN.
FST_INLINE Vec exp(Vec x) {
  // Beyond these bounds the result is 0 or infinity anyway; NaN passes both comparisons.
  x = select(less(x, set(-105.0f)), set(-105.0f), x);
  x = select(less(set(90.0f), x), set(90.0f), x);
  const Vec n = round(x * set(0x1.715476p+0f));  // x / ln 2
  const Vec minus_n = -n;
  Vec r = fma(minus_n, set(0x1.62e430p-1f), x);  // x - n ln 2, ln 2 in two parts
  r = fma(minus_n, set(-0x1.05c610p-29f), r);
  // (e^r - 1 - r) / r^2 on |r| <= ln(2) / 2; relative error of e^r 3.1e-9.
  Vec p = set(0x1.6a23d0p-10f);
  p = fma(p, r, set(0x1.123a20p-7f));
  p = fma(p, r, set(0x1.5558f2p-5f));
  p = fma(p, r, set(0x1.555492p-3f));
  p = fma(p, r, set(0x1.fffffcp-2f));
  return scale(fma(p, r * r, r) + set(1.0f), n);
}

/// Natural logarithm. log(0) = -inf, log(x < 0) = NaN, log(inf) = inf, log(NaN) = NaN.
FST_INLINE Vec log(Vec x) {
  const Vec smallest_normal = set(0x1p-126f);
  const Mask denormal = less(x, smallest_normal);
  const Vec y = select(denormal, x * set(0x1p23f), x);
  // y = 2^e (1 + f) with 1 + f in [sqrt(1/2), sqrt(2)): subtracting the bits of sqrt(1/2) makes the
  // exponent field change there.
  const IntVec root_half = set_int(0x3f3504f3);
  const IntVec moved = sub_int(bits(y), root_half);
  const IntVec exponent_bits = and_int(moved, set_int(INT32_MIN | 0x7f800000));
  const Vec f = from_bits(sub_int(bits(y), exponent_bits)) - set(1.0f);
  const Vec e = fma(to_float(exponent_bits), set(0x1p-23f), select(denormal, set(-23.0f), zero()));
  // (log(1 + f) - f + f^2 / 2) / f^3; relative error of log(1 + f) 5.8e-9.
  Vec p = set(-0x1.38b590p-4f);
  p = fma(p, f, set(0x1.055b6cp-3f));
  p = fma(p, f, set(-0x1.0d8540p-3f));
  p = fma(p, f, set(0x1.22da1cp-3f));
  p = fma(p, f, set(-0x1.547244p-3f));
  p = fma(p, f, set(0x1.99a008p-3f));
  p = fma(p, f, set(-0x1.000226p-2f));
  p = fma(p, f, set(0x1.555554p-2f));
  const Vec square = f * f;
  Vec small = fma(p * f, square, e * set(-0x1.05c610p-29f));
  small = fma(set(-0.5f), square, small);
  Vec result = fma(e, set(0x1.62e430p-1f), f + small);
  const Vec infinity = set(__builtin_inff());
  result = select(less(x, infinity), result, x);  // infinity and NaN
  result = select(equal(x, zero()), -infinity, result);
  return select(less(x, zero()), set(__builtin_nanf("")), result);
}

/// One value; the same bits as a lane of the vector.
FST_INLINE float exp(float x) {
  return lane0(exp(set(x)));
}
FST_INLINE float log(float x) {
  return lane0(log(set(x)));
}

/// 1 / (1 + e^-x); e^-x may overflow to infinity, which gives 0.
FST_INLINE Vec sigmoid(Vec x) {
  return set(1.0f) / (set(1.0f) + exp(-x));
}

}  // namespace fst::kernels::FST_ISA_NS
