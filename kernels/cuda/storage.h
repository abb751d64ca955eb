#pragma once

#include <cstdint>
#include <type_traits>

#include "kernels/bf16.h"
#include "kernels/cuda/gpu.h"

/// What memory holds and kernels compute with: float32 of floats, Bf16 and stored halves.
namespace fst::kernels::gpu {

/// Beside widened(Bf16) of kernels/bf16.h, for kernels over the element type.
DEVICE float widened(float x) {
  return x;
}
/// Rounded once to T, float or Bf16.
template <class T>
DEVICE T narrowed(float x) {
  if constexpr (std::is_same_v<T, float>) {
    return x;
  } else {
    return kernels::narrowed(x);
  }
}

DEVICE float widen_bf16(std::uint16_t half) {
  return kernels::widened(Bf16{half});
}

/// Exactly; cpu/elementwise.isa.cpp explains the constants.
DEVICE float widen_f16(std::uint16_t half) {
  const std::uint32_t sign = static_cast<std::uint32_t>(half & 0x8000u) << 16;
  const std::uint32_t magnitude = half & 0x7fffu;
  const std::uint32_t moved = (magnitude << 13) + (112u << 23);
  const std::uint32_t special = moved + (112u << 23);
  const std::uint32_t subnormal =
      bits_of(float_of((magnitude << 13) + (113u << 23)) - float_of(113u << 23));
  std::uint32_t bits = magnitude >= 0x7c00u ? special : moved;
  bits = magnitude < 0x0400u ? subnormal : bits;
  return float_of(bits | sign);
}

}  // namespace fst::kernels::gpu
