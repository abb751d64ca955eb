#include <cstddef>

#include "kernels/cpu/elementwise_isa.h"
#include "kernels/cpu/vec.h"

namespace fst::kernels {

namespace lane = FST_ISA_NS;
using lane::lanes;

namespace {

/// y[i] = x[i] between float and Bf16.
template <class Y, class X>
void convert(Y* y, const X* x, std::int64_t count) {
  for (std::int64_t i = 0; i < count; i += lanes) {
    lane::store_upto(y + i, lane::load_upto(x + i, count - i), count - i);
  }
}

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
template <class Y, class X>
void ElementwiseRow<isa>::add(Y* y, const X* x, std::int64_t count) {
  for (std::int64_t i = 0; i < count; i += lanes) {
    const std::int64_t n = count - i;
    lane::store_upto(y + i, lane::load_upto(y + i, n) + lane::load_upto(x + i, n), n);
  }
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
template <class T>
void ElementwiseRow<isa>::fill(T* y, float value, std::int64_t count) {
  const lane::Vec all = lane::set(value);
  for (std::int64_t i = 0; i < count; i += lanes) lane::store_upto(y + i, all, count - i);
}

template <Isa isa>
void ElementwiseRow<isa>::widen(float* y, const void* x, Storage storage, std::int64_t count) {
  if (storage == Storage::f32) {
    __builtin_memcpy(y, x, static_cast<std::size_t>(count) * sizeof(float));
    return;
  }
  if (storage == Storage::bf16) {
    convert(y, static_cast<const Bf16*>(x), count);
    return;
  }
  const auto* half = static_cast<const std::uint16_t*>(x);
  for (std::int64_t i = 0; i < count; ++i) y[i] = widen_f16(half[i]);
}

template <Isa isa>
void ElementwiseRow<isa>::narrow(void* y, Storage storage, const float* x, std::int64_t count) {
  if (storage == Storage::f32) {
    __builtin_memcpy(y, x, static_cast<std::size_t>(count) * sizeof(float));
    return;
  }
  if (storage == Storage::bf16) {
    convert(static_cast<Bf16*>(y), x, count);
    return;
  }
  auto* half = static_cast<std::uint16_t*>(y);
  for (std::int64_t i = 0; i < count; ++i) half[i] = narrow_f16(x[i]);
}

template struct ElementwiseRow<Isa::FST_ISA_NS>;
template void ElementwiseRow<Isa::FST_ISA_NS>::add(float*, const float*, std::int64_t);
template void ElementwiseRow<Isa::FST_ISA_NS>::add(Bf16*, const Bf16*, std::int64_t);
template void ElementwiseRow<Isa::FST_ISA_NS>::add(Bf16*, const float*, std::int64_t);
template void ElementwiseRow<Isa::FST_ISA_NS>::fill(float*, float, std::int64_t);
template void ElementwiseRow<Isa::FST_ISA_NS>::fill(Bf16*, float, std::int64_t);

}  // namespace fst::kernels
