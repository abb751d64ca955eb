#pragma once

#include <cstring>

#include "kernels/cpu/vec.h"

namespace fst::kernels::FST_ISA_NS {

struct Vec {
  float v[16];
};
struct IntVec {
  std::int32_t v[16];
};
struct Mask {
  bool v[16];
};

/// Sixteen times `f(i)` into a Vec, IntVec or Mask.
template <class R, class F>
FST_INLINE R each(F f) {
  R r;
  for (int i = 0; i < 16; ++i) r.v[i] = f(i);
  return r;
}

FST_INLINE Vec set(float s) {
  return each<Vec>([=](int) { return s; });
}
FST_INLINE Vec zero() {
  return set(0.0f);
}
FST_INLINE IntVec set_int(std::int32_t s) {
  return each<IntVec>([=](int) { return s; });
}
FST_INLINE Mask first(std::int64_t n) {
  return each<Mask>([=](int i) { return i < n; });
}
FST_INLINE Vec load(const float* p) {
  return each<Vec>([=](int i) { return p[i]; });
}
FST_INLINE IntVec load_int(const void* p) {
  IntVec r;
  std::memcpy(&r, p, sizeof r);
  return r;
}
FST_INLINE Vec load_first(const float* p, std::int64_t n) {
  Vec r = zero();
  for (int i = 0; i < n && i < 16; ++i) r.v[i] = p[i];
  return r;
}
FST_INLINE void store(float* p, const Vec& a) {
  for (int i = 0; i < 16; ++i) p[i] = a.v[i];
}
FST_INLINE void store_first(float* p, const Vec& a, std::int64_t n) {
  for (int i = 0; i < n && i < 16; ++i) p[i] = a.v[i];
}
FST_INLINE Vec load(const Bf16* p) {
  return each<Vec>([=](int i) { return widened(p[i]); });
}
FST_INLINE Vec load_first(const Bf16* p, std::int64_t n) {
  Vec r = zero();
  for (int i = 0; i < n && i < 16; ++i) r.v[i] = widened(p[i]);
  return r;
}
FST_INLINE void store_upper_first(Bf16* p, const IntVec& a, std::int64_t n) {
  for (int i = 0; i < n && i < 16; ++i) {
    p[i] = {static_cast<std::uint16_t>(static_cast<std::uint32_t>(a.v[i]) >> 16)};
  }
}
FST_INLINE void store_upper(Bf16* p, const IntVec& a) {
  store_upper_first(p, a, 16);
}
FST_INLINE float lane0(const Vec& a) {
  return a.v[0];
}

FST_INLINE Vec operator+(const Vec& a, const Vec& b) {
  return each<Vec>([&](int i) { return a.v[i] + b.v[i]; });
}
FST_INLINE Vec operator-(const Vec& a, const Vec& b) {
  return each<Vec>([&](int i) { return a.v[i] - b.v[i]; });
}
FST_INLINE Vec operator*(const Vec& a, const Vec& b) {
  return each<Vec>([&](int i) { return a.v[i] * b.v[i]; });
}
FST_INLINE Vec operator/(const Vec& a, const Vec& b) {
  return each<Vec>([&](int i) { return a.v[i] / b.v[i]; });
}
FST_INLINE Vec fma(const Vec& a, const Vec& b, const Vec& c) {
  return each<Vec>([&](int i) { return __builtin_fmaf(a.v[i], b.v[i], c.v[i]); });
}
FST_INLINE Vec sqrt(const Vec& a) {
  return each<Vec>([&](int i) { return __builtin_sqrtf(a.v[i]); });
}
FST_INLINE Vec max(const Vec& a, const Vec& b) {
  return each<Vec>([&](int i) { return a.v[i] > b.v[i] ? a.v[i] : b.v[i]; });
}
FST_INLINE Vec min(const Vec& a, const Vec& b) {
  return each<Vec>([&](int i) { return a.v[i] < b.v[i] ? a.v[i] : b.v[i]; });
}

FST_INLINE Mask less(const Vec& a, const Vec& b) {
  return each<Mask>([&](int i) { return a.v[i] < b.v[i]; });
}
FST_INLINE Mask equal(const Vec& a, const Vec& b) {
  return each<Mask>([&](int i) { return a.v[i] == b.v[i]; });
}
FST_INLINE Vec select(const Mask& m, const Vec& yes, const Vec& no) {
  return each<Vec>([&](int i) { return m.v[i] ? yes.v[i] : no.v[i]; });
}

FST_INLINE IntVec bits(const Vec& a) {
  IntVec r;
  std::memcpy(&r, &a, sizeof r);
  return r;
}
FST_INLINE Vec from_bits(const IntVec& a) {
  Vec r;
  std::memcpy(&r, &a, sizeof r);
  return r;
}
FST_INLINE Vec to_float(const IntVec& a) {
  return each<Vec>([&](int i) { return static_cast<float>(a.v[i]); });
}
FST_INLINE IntVec to_int(const Vec& a) {
  return each<IntVec>([&](int i) { return static_cast<std::int32_t>(a.v[i]); });
}
// Wrapping arithmetic goes through unsigned.
FST_INLINE std::uint32_t word(std::int32_t i) {
  return static_cast<std::uint32_t>(i);
}
FST_INLINE IntVec add_int(const IntVec& a, const IntVec& b) {
  return each<IntVec>(
      [&](int i) { return static_cast<std::int32_t>(word(a.v[i]) + word(b.v[i])); });
}
FST_INLINE IntVec sub_int(const IntVec& a, const IntVec& b) {
  return each<IntVec>(
      [&](int i) { return static_cast<std::int32_t>(word(a.v[i]) - word(b.v[i])); });
}
FST_INLINE IntVec and_int(const IntVec& a, const IntVec& b) {
  return each<IntVec>([&](int i) { return a.v[i] & b.v[i]; });
}
FST_INLINE IntVec or_int(const IntVec& a, const IntVec& b) {
  return each<IntVec>([&](int i) { return a.v[i] | b.v[i]; });
}
template <int k>
FST_INLINE IntVec shift_left(const IntVec& a) {
  return each<IntVec>([&](int i) { return static_cast<std::int32_t>(word(a.v[i]) << k); });
}
template <int k>
FST_INLINE IntVec shift_right(const IntVec& a) {
  return each<IntVec>([&](int i) { return static_cast<std::int32_t>(word(a.v[i]) >> k); });
}

/// a * 2^n in two steps: the first is exact, the second rounds (to a denormal, perhaps) once.
FST_INLINE Vec scale(const Vec& a, const Vec& n) {
  const IntVec magic = set_int(0x4b400000);  // 1.5 2^23: its low bits hold the integer
  const IntVec whole = sub_int(bits(n + from_bits(magic)), magic);
  const IntVec half = each<IntVec>([&](int i) { return whole.v[i] >> 1; });
  const IntVec bias = set_int(127);
  const Vec one = from_bits(shift_left<23>(add_int(half, bias)));
  const Vec two = from_bits(shift_left<23>(add_int(sub_int(whole, half), bias)));
  return (a * one) * two;
}

/// The 16 lanes joined by halving: lane j + lane j+8, then +4, +2, +1.
FST_INLINE float sum(const Vec& a) {
  float t[8];
  for (int i = 0; i < 8; ++i) t[i] = a.v[i] + a.v[i + 8];
  for (int i = 0; i < 4; ++i) t[i] = t[i] + t[i + 4];
  return (t[0] + t[2]) + (t[1] + t[3]);
}
/// The greatest lane, same tree.
FST_INLINE float maximum(const Vec& a) {
  const auto greater = [](float x, float y) { return x > y ? x : y; };
  float t[8];
  for (int i = 0; i < 8; ++i) t[i] = greater(a.v[i], a.v[i + 8]);
  for (int i = 0; i < 4; ++i) t[i] = greater(t[i], t[i + 4]);
  return greater(greater(t[0], t[2]), greater(t[1], t[3]));
}

/// Rows become columns.
FST_INLINE void transpose(Vec (&rows)[16]) {
  for (int i = 0; i < 16; ++i) {
    for (int j = 0; j < i; ++j) {
      const float kept = rows[i].v[j];
      rows[i].v[j] = rows[j].v[i];
      rows[j].v[i] = kept;
    }
  }
}

}  // namespace fst::kernels::FST_ISA_NS
