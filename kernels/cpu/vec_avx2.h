#pragma once

#include <immintrin.h>

#include "kernels/cpu/vec.h"

namespace fst::kernels::FST_ISA_NS {

struct Vec {
  __m256 lo, hi;
};
struct IntVec {
  __m256i lo, hi;
};
struct Mask {
  __m256 lo, hi;
};

FST_INLINE Vec zero() {
  return {_mm256_setzero_ps(), _mm256_setzero_ps()};
}
FST_INLINE Vec set(float s) {
  return {_mm256_set1_ps(s), _mm256_set1_ps(s)};
}
FST_INLINE IntVec set_int(std::int32_t s) {
  return {_mm256_set1_epi32(s), _mm256_set1_epi32(s)};
}
FST_INLINE Mask first(std::int64_t n) {
  const __m256i count = _mm256_set1_epi32(n >= lanes ? 16 : n <= 0 ? 0 : static_cast<int>(n));
  const __m256i lo = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  const __m256i hi = _mm256_setr_epi32(8, 9, 10, 11, 12, 13, 14, 15);
  return {_mm256_castsi256_ps(_mm256_cmpgt_epi32(count, lo)),
          _mm256_castsi256_ps(_mm256_cmpgt_epi32(count, hi))};
}
FST_INLINE Vec load(const float* p) {
  return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)};
}
FST_INLINE IntVec load_int(const void* p) {
  const auto* words = static_cast<const __m256i*>(p);
  return {_mm256_loadu_si256(words), _mm256_loadu_si256(words + 1)};
}
FST_INLINE Vec load_first(const float* p, std::int64_t n) {
  const Mask m = first(n);
  return {_mm256_maskload_ps(p, _mm256_castps_si256(m.lo)),
          _mm256_maskload_ps(p + 8, _mm256_castps_si256(m.hi))};
}
FST_INLINE void store(float* p, Vec a) {
  _mm256_storeu_ps(p, a.lo);
  _mm256_storeu_ps(p + 8, a.hi);
}
FST_INLINE void store_first(float* p, Vec a, std::int64_t n) {
  const Mask m = first(n);
  _mm256_maskstore_ps(p, _mm256_castps_si256(m.lo), a.lo);
  _mm256_maskstore_ps(p + 8, _mm256_castps_si256(m.hi), a.hi);
}
FST_INLINE Vec load(const Bf16* p) {
  const auto* words = reinterpret_cast<const __m128i*>(p);
  const __m256i lo = _mm256_cvtepu16_epi32(_mm_loadu_si128(words));
  const __m256i hi = _mm256_cvtepu16_epi32(_mm_loadu_si128(words + 1));
  return {_mm256_castsi256_ps(_mm256_slli_epi32(lo, 16)),
          _mm256_castsi256_ps(_mm256_slli_epi32(hi, 16))};
}
FST_INLINE Vec load_first(const Bf16* p, std::int64_t n) {
  Bf16 all[lanes] = {};  // there are no masks of 16 bits
  for (std::int64_t i = 0; i < n && i < lanes; ++i) all[i] = p[i];
  return load(all);
}
FST_INLINE void store_upper(Bf16* p, IntVec a) {
  const __m256i lo = _mm256_srli_epi32(a.lo, 16), hi = _mm256_srli_epi32(a.hi, 16);
  const __m256i packed = _mm256_packus_epi32(lo, hi);  // in quarters lo, hi, lo, hi
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm256_permute4x64_epi64(packed, 0xd8));
}
FST_INLINE void store_upper_first(Bf16* p, IntVec a, std::int64_t n) {
  Bf16 all[lanes];
  store_upper(all, a);
  for (std::int64_t i = 0; i < n && i < lanes; ++i) p[i] = all[i];
}
FST_INLINE float lane0(Vec a) {
  return _mm256_cvtss_f32(a.lo);
}

FST_INLINE Vec operator+(Vec a, Vec b) {
  return {_mm256_add_ps(a.lo, b.lo), _mm256_add_ps(a.hi, b.hi)};
}
FST_INLINE Vec operator-(Vec a, Vec b) {
  return {_mm256_sub_ps(a.lo, b.lo), _mm256_sub_ps(a.hi, b.hi)};
}
FST_INLINE Vec operator*(Vec a, Vec b) {
  return {_mm256_mul_ps(a.lo, b.lo), _mm256_mul_ps(a.hi, b.hi)};
}
FST_INLINE Vec operator/(Vec a, Vec b) {
  return {_mm256_div_ps(a.lo, b.lo), _mm256_div_ps(a.hi, b.hi)};
}
FST_INLINE Vec fma(Vec a, Vec b, Vec c) {
  return {_mm256_fmadd_ps(a.lo, b.lo, c.lo), _mm256_fmadd_ps(a.hi, b.hi, c.hi)};
}
FST_INLINE Vec sqrt(Vec a) {
  return {_mm256_sqrt_ps(a.lo), _mm256_sqrt_ps(a.hi)};
}
FST_INLINE Vec max(Vec a, Vec b) {
  return {_mm256_max_ps(a.lo, b.lo), _mm256_max_ps(a.hi, b.hi)};
}
FST_INLINE Vec min(Vec a, Vec b) {
  return {_mm256_min_ps(a.lo, b.lo), _mm256_min_ps(a.hi, b.hi)};
}

FST_INLINE Mask less(Vec a, Vec b) {
  return {_mm256_cmp_ps(a.lo, b.lo, _CMP_LT_OQ), _mm256_cmp_ps(a.hi, b.hi, _CMP_LT_OQ)};
}
FST_INLINE Mask equal(Vec a, Vec b) {
  return {_mm256_cmp_ps(a.lo, b.lo, _CMP_EQ_OQ), _mm256_cmp_ps(a.hi, b.hi, _CMP_EQ_OQ)};
}
FST_INLINE Vec select(Mask m, Vec yes, Vec no) {
  return {_mm256_blendv_ps(no.lo, yes.lo, m.lo), _mm256_blendv_ps(no.hi, yes.hi, m.hi)};
}

FST_INLINE IntVec bits(Vec a) {
  return {_mm256_castps_si256(a.lo), _mm256_castps_si256(a.hi)};
}
FST_INLINE Vec from_bits(IntVec a) {
  return {_mm256_castsi256_ps(a.lo), _mm256_castsi256_ps(a.hi)};
}
FST_INLINE Vec to_float(IntVec a) {
  return {_mm256_cvtepi32_ps(a.lo), _mm256_cvtepi32_ps(a.hi)};
}
FST_INLINE IntVec to_int(Vec a) {
  return {_mm256_cvttps_epi32(a.lo), _mm256_cvttps_epi32(a.hi)};
}
FST_INLINE IntVec add_int(IntVec a, IntVec b) {
  return {_mm256_add_epi32(a.lo, b.lo), _mm256_add_epi32(a.hi, b.hi)};
}
FST_INLINE IntVec sub_int(IntVec a, IntVec b) {
  return {_mm256_sub_epi32(a.lo, b.lo), _mm256_sub_epi32(a.hi, b.hi)};
}
FST_INLINE IntVec and_int(IntVec a, IntVec b) {
  return {_mm256_and_si256(a.lo, b.lo), _mm256_and_si256(a.hi, b.hi)};
}
FST_INLINE IntVec or_int(IntVec a, IntVec b) {
  return {_mm256_or_si256(a.lo, b.lo), _mm256_or_si256(a.hi, b.hi)};
}
template <int k>
FST_INLINE IntVec shift_left(IntVec a) {
  return {_mm256_slli_epi32(a.lo, k), _mm256_slli_epi32(a.hi, k)};
}
template <int k>
FST_INLINE IntVec shift_right(IntVec a) {
  return {_mm256_srli_epi32(a.lo, k), _mm256_srli_epi32(a.hi, k)};
}

/// a * 2^n in two steps: the first is exact, the second rounds (to a denormal, perhaps) once.
FST_INLINE __m256 scale_half(__m256 a, __m256 n) {
  const __m256i whole = _mm256_cvtps_epi32(n);
  const __m256i half = _mm256_srai_epi32(whole, 1);
  const __m256i bias = _mm256_set1_epi32(127);
  const __m256i one = _mm256_slli_epi32(_mm256_add_epi32(half, bias), 23);
  const __m256i two = _mm256_slli_epi32(_mm256_add_epi32(_mm256_sub_epi32(whole, half), bias), 23);
  return _mm256_mul_ps(_mm256_mul_ps(a, _mm256_castsi256_ps(one)), _mm256_castsi256_ps(two));
}
FST_INLINE Vec scale(Vec a, Vec n) {
  return {scale_half(a.lo, n.lo), scale_half(a.hi, n.hi)};
}

/// The 16 lanes joined by halving: lane j + lane j+8, then +4, +2, +1.
FST_INLINE float sum(Vec a) {
  const __m256 by8 = _mm256_add_ps(a.lo, a.hi);
  const __m128 by4 = _mm_add_ps(_mm256_castps256_ps128(by8), _mm256_extractf128_ps(by8, 1));
  const __m128 by2 = _mm_add_ps(by4, _mm_movehl_ps(by4, by4));
  return _mm_cvtss_f32(_mm_add_ss(by2, _mm_movehdup_ps(by2)));
}
/// The greatest lane, same tree.
FST_INLINE float maximum(Vec a) {
  const __m256 by8 = _mm256_max_ps(a.lo, a.hi);
  const __m128 by4 = _mm_max_ps(_mm256_castps256_ps128(by8), _mm256_extractf128_ps(by8, 1));
  const __m128 by2 = _mm_max_ps(by4, _mm_movehl_ps(by4, by4));
  return _mm_cvtss_f32(_mm_max_ss(by2, _mm_movehdup_ps(by2)));
}

/// Rows become columns, 8 by 8: four rows are interleaved within 128-bit parts, then the parts are
/// exchanged.
FST_INLINE void transpose_eight(__m256 (&r)[8]) {
  __m256 b[8];
  for (int i = 0; i < 8; i += 4) {
    const __m256d low = _mm256_castps_pd(_mm256_unpacklo_ps(r[i], r[i + 1]));
    const __m256d high = _mm256_castps_pd(_mm256_unpackhi_ps(r[i], r[i + 1]));
    const __m256d low2 = _mm256_castps_pd(_mm256_unpacklo_ps(r[i + 2], r[i + 3]));
    const __m256d high2 = _mm256_castps_pd(_mm256_unpackhi_ps(r[i + 2], r[i + 3]));
    b[i] = _mm256_castpd_ps(_mm256_unpacklo_pd(low, low2));
    b[i + 1] = _mm256_castpd_ps(_mm256_unpackhi_pd(low, low2));
    b[i + 2] = _mm256_castpd_ps(_mm256_unpacklo_pd(high, high2));
    b[i + 3] = _mm256_castpd_ps(_mm256_unpackhi_pd(high, high2));
  }
  for (int k = 0; k < 4; ++k) {
    r[k] = _mm256_permute2f128_ps(b[k], b[4 + k], 0x20);
    r[4 + k] = _mm256_permute2f128_ps(b[k], b[4 + k], 0x31);
  }
}
FST_INLINE void transpose(Vec (&rows)[16]) {
  __m256 part[2][2][8];  // [upper or lower rows][left or right columns]
  for (int i = 0; i < 16; ++i) {
    part[i / 8][0][i % 8] = rows[i].lo;
    part[i / 8][1][i % 8] = rows[i].hi;
  }
  for (auto& upper_or_lower : part) {
    for (auto& eight : upper_or_lower) transpose_eight(eight);
  }
  for (int i = 0; i < 16; ++i) rows[i] = {part[0][i / 8][i % 8], part[1][i / 8][i % 8]};
}

}  // namespace fst::kernels::FST_ISA_NS
