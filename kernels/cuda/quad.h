#pragma once

#include <cstdint>

#include "kernels/cuda/gpu.h"

/// Four neighbouring floats: 16-byte accesses where addresses allow them, and the edges of
/// matrices.
namespace fst::kernels::gpu {

/// Parts of `size` that n things fill.
constexpr std::int64_t parts_of(std::int64_t n, std::int64_t size) {
  return (n + size - 1) / size;
}

DEVICE float4 read4(const float* p) {
  return *reinterpret_cast<const float4*>(p);
}
DEVICE void write4(float* p, float4 v) {
  *reinterpret_cast<float4*>(p) = v;
}
DEVICE bool aligned16(const void* p) {
  return reinterpret_cast<std::uintptr_t>(p) % 16 == 0;
}
/// The first `count` of four floats (any count), zeros behind; any alignment.
DEVICE float4 read4_upto(const float* p, int count) {
  if (count >= 4 && aligned16(p)) return read4(p);
  float4 v{0.0f, 0.0f, 0.0f, 0.0f};
  if (count > 0) v.x = p[0];
  if (count > 1) v.y = p[1];
  if (count > 2) v.z = p[2];
  if (count > 3) v.w = p[3];
  return v;
}
DEVICE void write4_upto(float* p, float4 v, int count) {
  if (count >= 4 && aligned16(p)) {
    write4(p, v);
    return;
  }
  if (count > 0) p[0] = v.x;
  if (count > 1) p[1] = v.y;
  if (count > 2) p[2] = v.z;
  if (count > 3) p[3] = v.w;
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

}  // namespace fst::kernels::gpu
