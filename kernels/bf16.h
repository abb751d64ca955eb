#pragma once

#include <cstdint>

namespace fst::kernels {

/// A bfloat16 number: the upper half of a float32. Storage only; arithmetic is float32.
struct Bf16 {
  std::uint16_t bits;
};

// Forced inline, because files compiled for one instruction set use these too; constexpr, because
// nvcc lets kernels call such functions (--expt-relaxed-constexpr).

/// The same number, exactly.
constexpr __attribute__((always_inline)) float widened(Bf16 x) {
  return __builtin_bit_cast(float, static_cast<std::uint32_t>(x.bits) << 16);
}

/// The nearest bfloat16, ties to even. Above the greatest: infinity. NaNs stay NaNs. Denormal
/// numbers are rounded like all others.
constexpr __attribute__((always_inline)) Bf16 narrowed(float x) {
  const auto bits = __builtin_bit_cast(std::uint32_t, x);
  const std::uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  const std::uint32_t quiet_nan = (bits >> 16) | 0x40u;
  return {static_cast<std::uint16_t>((bits & 0x7fffffffu) > 0x7f800000u ? quiet_nan : rounded)};
}

/// For code over either type: a float is already itself.
constexpr __attribute__((always_inline)) float widened(float x) {
  return x;
}
template <class T>
constexpr __attribute__((always_inline)) T narrowed_to(float x) {
  if constexpr (sizeof(T) == sizeof(Bf16)) {
    return narrowed(x);
  } else {
    return x;
  }
}

}  // namespace fst::kernels
