#pragma once

#include <cstdint>

#include "kernels/bf16.h"
#include "kernels/cuda/gpu.h"

/// What memory holds and kernels compute with: float32 of floats, Bf16 and stored halves.
namespace fst::kernels::gpu {

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
