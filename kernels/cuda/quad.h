#pragma once

#include <cstdint>

#include "kernels/cuda/storage.h"

/// Four neighbouring elements, floats or Bf16, as four floats: accesses of 16 or 8 bytes where
/// addresses allow them, and the edges of matrices.
namespace fst::kernels::gpu {

/// Parts of `size` that n things fill.
constexpr std::int64_t parts_of(std::int64_t n, std::int64_t size) {
  return (n + size - 1) / size;
}

DEVICE float4 read4(const float* p) {
  return *reinterpret_cast<const float4*>(p);
}
DEVICE float4 read4(const Bf16* p) {
  const uint2 pairs = *reinterpret_cast<const uint2*>(p);
  return {float_of(pairs.x << 16), float_of(pairs.x & 0xffff0000u), float_of(pairs.y << 16),
          float_of(pairs.y & 0xffff0000u)};
}
DEVICE void write4(float* p, float4 v) {
  *reinterpret_cast<float4*>(p) = v;
}
DEVICE void write4(Bf16* p, float4 v) {
  const auto pair = [](float low, float high) {
    return kernels::narrowed(low).bits | std::uint32_t{kernels::narrowed(high).bits} << 16;
  };
  *reinterpret_cast<uint2*>(p) = {pair(v.x, v.y), pair(v.z, v.w)};
}
DEVICE bool aligned16(const void* p) {
  return reinterpret_cast<std::uintptr_t>(p) % 16 == 0;
}
/// Whether four elements can be accessed at once.
template <class T>
DEVICE bool aligned4(const T* p) {
  return reinterpret_cast<std::uintptr_t>(p) % (4 * sizeof(T)) == 0;
}
/// The first `count` of four elements (any count), zeros behind; any alignment.
template <class T>
DEVICE float4 read4_upto(const T* p, int count) {
  if (count >= 4 && aligned4(p)) return read4(p);
  float4 v{0.0f, 0.0f, 0.0f, 0.0f};
  if (count > 0) v.x = widened(p[0]);
  if (count > 1) v.y = widened(p[1]);
  if (count > 2) v.z = widened(p[2]);
  if (count > 3) v.w = widened(p[3]);
  return v;
}
template <class T>
DEVICE void write4_upto(T* p, float4 v, int count) {
  if (count >= 4 && aligned4(p)) {
    write4(p, v);
    return;
  }
  if (count > 0) p[0] = narrowed_to<T>(v.x);
  if (count > 1) p[1] = narrowed_to<T>(v.y);
  if (count > 2) p[2] = narrowed_to<T>(v.z);
  if (count > 3) p[3] = narrowed_to<T>(v.w);
}

/// Element i of v; i is a constant where registers count.
DEVICE float part(float4 v, int i) {
  return i == 0 ? v.x : i == 1 ? v.y : i == 2 ? v.z : v.w;
}
DEVICE float4 fma(float a, float4 b, float4 c) {
  return {fma(a, b.x, c.x), fma(a, b.y, c.y), fma(a, b.z, c.z), fma(a, b.w, c.w)};
}
DEVICE float4 add(float4 a, float4 b) {
  return {a.x + b.x, a.y + b.y, a.z + b.z, a.w + b.w};
}
DEVICE float4 multiply(float4 a, float b) {
  return {a.x * b, a.y * b, a.z * b, a.w * b};
}

/// Of what multiply_16x8x16 leaves in a thread, two columns of rows r and r + 8, four columns of
/// one row: neighbouring lanes exchange, and the even one gets row r.
DEVICE float4 quad_of(const float (&v)[4]) {
  const bool odd = threadIdx.x % 2 == 1;
  const float x = shuffle_xor(odd ? v[0] : v[2], 1), y = shuffle_xor(odd ? v[1] : v[3], 1);
  return odd ? float4{x, y, v[2], v[3]} : float4{v[0], v[1], x, y};
}

}  // namespace fst::kernels::gpu
