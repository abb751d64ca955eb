#include <cstddef>

#include "kernels/bf16.h"
#include "kernels/cpu/elementwise_isa.h"

namespace fst::kernels {

namespace {

float float_of(std::uint32_t bits) {
  return __builtin_bit_cast(float, bits);
}
std::uint32_t bits_of(float x) {
  return __builtin_bit_cast(std::uint32_t, x);
}

/// Branch-free: normal numbers move the exponent from bias 15 to 127, subnormal ones are an exact
/// difference of two floats, infinity and NaN get the full exponent.
float widen_f16(std::uint16_t half) {
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

std::uint16_t narrow_f16(float x) {
  const std::uint32_t bits = bits_of(x);
  const std::uint32_t sign = (bits >> 16) & 0x8000u;
  const std::uint32_t magnitude = bits & 0x7fffffffu;
  const std::uint32_t normal = (magnitude - (112u << 23) + 0xfffu + ((magnitude >> 13) & 1u)) >> 13;
  // Below 2^-14: adding 1/2 puts the last f16 bit (2^-24) at the last bit of the sum, which the
  // addition rounds to nearest even.
  const std::uint32_t subnormal = bits_of(float_of(magnitude) + 0.5f) - (126u << 23);
  std::uint32_t half = magnitude < (113u << 23) ? subnormal : normal;
  half = magnitude >= 0x477ff000u ? 0x7c00u : half;  // 65520 and above round to infinity
  half = magnitude > 0x7f800000u ? 0x7e00u | ((magnitude >> 13) & 0x3ffu) : half;
  return static_cast<std::uint16_t>(half | sign);
}

}  // namespace

template <Isa isa>
void ElementwiseRow<isa>::add(float* y, const float* x, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) y[i] = y[i] + x[i];
}

template <Isa isa>
void ElementwiseRow<isa>::join(float* y, const float* const* parts, const std::int32_t* joins,
                               std::int64_t count, std::int64_t begin, std::int64_t end) {
  constexpr std::int64_t block = 256;  // a stack of 16 blocks lies in the L1 cache
  float stack[join_depth][block];
  for (std::int64_t at = begin; at < end; at += block) {
    const std::int64_t length = end - at < block ? end - at : block;
    const auto bytes = static_cast<std::size_t>(length) * sizeof(float);
    std::int64_t top = 0;
    for (std::int64_t p = 0; p < count; ++p) {
      const float* last = parts[p] + at;
      for (std::int32_t j = 0; j < joins[p]; ++j) {
        float* lower = stack[--top];
        for (std::int64_t i = 0; i < length; ++i) lower[i] = lower[i] + last[i];
        last = lower;
      }
      if (joins[p] == 0) __builtin_memcpy(stack[top], last, bytes);
      ++top;
    }
    __builtin_memcpy(y + at, stack[0], bytes);
  }
}

template <Isa isa>
void ElementwiseRow<isa>::fill(float* y, float value, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) y[i] = value;
}

template <Isa isa>
void ElementwiseRow<isa>::widen(float* y, const void* x, Storage storage, std::int64_t count) {
  if (storage == Storage::f32) {
    __builtin_memcpy(y, x, static_cast<std::size_t>(count) * sizeof(float));
    return;
  }
  const auto* half = static_cast<const std::uint16_t*>(x);
  if (storage == Storage::bf16) {
    for (std::int64_t i = 0; i < count; ++i) y[i] = widened(Bf16{half[i]});
  } else {
    for (std::int64_t i = 0; i < count; ++i) y[i] = widen_f16(half[i]);
  }
}

template <Isa isa>
void ElementwiseRow<isa>::narrow(void* y, Storage storage, const float* x, std::int64_t count) {
  if (storage == Storage::f32) {
    __builtin_memcpy(y, x, static_cast<std::size_t>(count) * sizeof(float));
    return;
  }
  auto* half = static_cast<std::uint16_t*>(y);
  if (storage == Storage::bf16) {
    for (std::int64_t i = 0; i < count; ++i) half[i] = narrowed(x[i]).bits;
  } else {
    for (std::int64_t i = 0; i < count; ++i) half[i] = narrow_f16(x[i]);
  }
}

template struct ElementwiseRow<Isa::FST_ISA_NS>;

}  // namespace fst::kernels
