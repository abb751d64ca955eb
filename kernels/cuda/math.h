#pragma once

#include "kernels/cuda/gpu.h"

/// exp, log and what is built on them: the operations of cpu/vec_math.h one by one, so the same
/// bits as a lane of the CPU's vectors for every float. The coefficients are explained there.
namespace fst::kernels::gpu {

inline constexpr std::uint32_t sign_bit = 0x80000000u;
inline constexpr std::uint32_t infinity_bits = 0x7f800000u;

DEVICE float infinity() {
  return float_of(infinity_bits);
}
DEVICE float not_a_number() {
  return float_of(0x7fc00000u);
}

/// The second where a NaN is involved and where they are equal: which zero is the greater matters.
DEVICE float greater(float a, float b) {
  return a > b ? a : b;
}
DEVICE float lesser(float a, float b) {
  return a < b ? a : b;
}

/// The nearest integer, ties to even; |v| < 2^22.
DEVICE float round(float v) {
  const float magic = 12582912.0f;
  return (v + magic) - magic;
}

/// v 2^n for integer-valued n in two steps: the first is exact, the second rounds once.
DEVICE float scale(float v, float n) {
  const std::uint32_t magic = 0x4b400000u;  // 1.5 2^23: its low bits hold the integer
  const std::uint32_t whole = bits_of(n + float_of(magic)) - magic;
  const std::uint32_t half = (whole >> 1) | (whole & sign_bit);  // floor(whole / 2)
  return (v * float_of((half + 127u) << 23)) * float_of((whole - half + 127u) << 23);
}

/// (e^r - 1 - r) / r^2 for the |r| <= log(2) / 2 of exp.
DEVICE float exp_tail(float r) {
  float p = 0x1.6a23d0p-10f;
  p = fma(p, r, 0x1.123a20p-7f);
  p = fma(p, r, 0x1.5558f2p-5f);
  p = fma(p, r, 0x1.555492p-3f);
  return fma(p, r, 0x1.fffffcp-2f);
}

/// e^x.
DEVICE float exp(float x) {
  x = x < -105.0f ? -105.0f : x;
  x = 90.0f < x ? 90.0f : x;
  const float n = round(x * 0x1.715476p+0f);
  float r = fma(-n, 0x1.62e430p-1f, x);
  r = fma(-n, -0x1.05c610p-29f, r);
  return scale(fma(exp_tail(r), r * r, r) + 1.0f, n);
}

/// e^x for x <= 40, the bits of exp(), in fewer steps; anything for a NaN. The power of two is part
/// of what rounds: 64 more than n, so that no exponent is beyond those of normal numbers before the
/// last step.
DEVICE float exp_falling(float x) {
  x = greatest(x, -105.0f);
  const float magic = 12582912.0f + 64.0f;
  const float shifted = x * 0x1.715476p+0f + magic, n = shifted - magic;
  float r = fma(-n, 0x1.62e430p-1f, x);
  r = fma(-n, -0x1.05c610p-29f, r);
  const float mantissa = fma(exp_tail(r), r * r, r) + 1.0f;
  return float_of(bits_of(mantissa) + (bits_of(shifted) << 23)) * 0x1p-64f;
}

/// Natural logarithm.
DEVICE float log(float x) {
  const bool denormal = x < 0x1p-126f;
  const float y = denormal ? x * 0x1p23f : x;
  const std::uint32_t exponent = (bits_of(y) - 0x3f3504f3u) & 0xff800000u;
  const float f = float_of(bits_of(y) - exponent) - 1.0f;
  const float e = fma(static_cast<float>(static_cast<std::int32_t>(exponent)), 0x1p-23f,
                      denormal ? -23.0f : 0.0f);
  float p = -0x1.38b590p-4f;
  p = fma(p, f, 0x1.055b6cp-3f);
  p = fma(p, f, -0x1.0d8540p-3f);
  p = fma(p, f, 0x1.22da1cp-3f);
  p = fma(p, f, -0x1.547244p-3f);
  p = fma(p, f, 0x1.99a008p-3f);
  p = fma(p, f, -0x1.000226p-2f);
  p = fma(p, f, 0x1.555554p-2f);
  const float square = f * f;
  float small = fma(p * f, square, e * -0x1.05c610p-29f);
  small = fma(-0.5f, square, small);
  float result = fma(e, 0x1.62e430p-1f, f + small);
  result = x < infinity() ? result : x;  // infinity and NaN
  result = x == 0.0f ? -infinity() : result;
  return x < 0.0f ? not_a_number() : result;
}

/// 1 / (1 + e^-x).
DEVICE float sigmoid(float x) {
  return 1.0f / (1.0f + exp(-x));
}

}  // namespace fst::kernels::gpu
