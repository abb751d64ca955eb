#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

#include "kernels/cuda/cuda.h"

/// The bits of a tensor core, as published: Xie et al., "MMA-Sim", arXiv:2511.10909, whose authors
/// compared the model with hardware. For finite operands.
namespace fst::kernels::test {

enum class TensorCore { ampere, hopper };

inline TensorCore core_of_device() {
  cudaDeviceProp properties{};
  check(cudaGetDeviceProperties(&properties, 0), "cudaGetDeviceProperties");
  return properties.major >= 9 ? TensorCore::hopper : TensorCore::ampere;
}

inline float value_of_bf16(std::uint16_t bits) {
  return std::bit_cast<float>(std::uint32_t{bits} << 16);
}

/// Of zeros and subnormal numbers: that of the smallest normal number.
inline int exponent_of(float x) {
  const auto field = static_cast<int>(std::bit_cast<std::uint32_t>(x) >> 23 & 0xff);
  return std::max(field, 1) - 127;
}

inline float cut_to_float(double x) {
  if (std::fabs(x) >= 0x1p128)
    return std::copysign(std::numeric_limits<float>::infinity(), static_cast<float>(x));
  const float nearest = static_cast<float>(x);
  const bool beyond = std::fabs(double{nearest}) > std::fabs(x);
  return std::bit_cast<float>(std::bit_cast<std::uint32_t>(nearest) - (beyond ? 1 : 0));
}

/// sum + a[0] b[0] + ... + a[15] b[15] in one multiplication of depth 16. Of the products, which
/// are exact, and the sum the largest exponent E is found; that of a product is the sum of its
/// factors' exponents. Each term is cut towards zero to a multiple of 2^(E - 25); they are added
/// exactly, and the result is cut towards zero to float32. Ampere does so with the first eight
/// products, then with the others, and with 2^(E - 24).
inline float tensor_core_dot(const std::uint16_t* a, const std::uint16_t* b, float sum,
                             TensorCore core) {
  const int chain = core == TensorCore::hopper ? 16 : 8;
  const int fraction_bits = core == TensorCore::hopper ? 25 : 24;
  for (int first = 0; first < 16; first += chain) {
    int largest = exponent_of(sum);
    for (int i = first; i < first + chain; ++i) {
      const float x = value_of_bf16(a[i]), y = value_of_bf16(b[i]);
      if (x != 0.0f && y != 0.0f) largest = std::max(largest, exponent_of(x) + exponent_of(y));
    }
    const auto cut = [scale = std::ldexp(1.0, fraction_bits - largest)](double term) {
      return static_cast<std::int64_t>(term * scale);  // both exact but for the cut
    };
    std::int64_t total = cut(sum);
    for (int i = first; i < first + chain; ++i) {
      total += cut(double{value_of_bf16(a[i])} * double{value_of_bf16(b[i])});
    }
    sum = cut_to_float(std::ldexp(static_cast<double>(total), largest - fraction_bits));
  }
  return sum;
}

}  // namespace fst::kernels::test
