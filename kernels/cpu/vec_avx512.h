#pragma once

#include <immintrin.h>

#include "kernels/cpu/vec.h"

namespace fst::kernels::FST_ISA_NS {

struct Vec {
  __m512 v;
};
struct IntVec {
  __m512i v;
};
struct Mask {
  __mmask16 v;
};

FST_INLINE Mask first(std::int64_t n) {
  if (n <= 0) return {0};
  return {static_cast<__mmask16>(n >= lanes ? 0xffffu : (1u << n) - 1u)};
}
FST_INLINE Vec zero() {
  return {_mm512_setzero_ps()};
}
FST_INLINE Vec set(float s) {
  return {_mm512_set1_ps(s)};
}
FST_INLINE IntVec set_int(std::int32_t s) {
  return {_mm512_set1_epi32(s)};
}
FST_INLINE Vec load(const float* p) {
  return {_mm512_loadu_ps(p)};
}
FST_INLINE IntVec load_int(const void* p) {
  return {_mm512_loadu_si512(p)};
}
FST_INLINE Vec load_first(const float* p, std::int64_t n) {
  return {_mm512_maskz_loadu_ps(first(n).v, p)};
}
FST_INLINE void store(float* p, Vec a) {
  _mm512_storeu_ps(p, a.v);
}
FST_INLINE void store_first(float* p, Vec a, std::int64_t n) {
  _mm512_mask_storeu_ps(p, first(n).v, a.v);
}
FST_INLINE Vec widened_lanes(__m256i halves) {
  return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16))};
}
FST_INLINE Vec load(const Bf16* p) {
  return widened_lanes(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
FST_INLINE Vec load_first(const Bf16* p, std::int64_t n) {
  return widened_lanes(_mm256_maskz_loadu_epi16(first(n).v, p));
}
FST_INLINE __m256i upper_halves(IntVec a) {
  return _mm512_cvtepi32_epi16(_mm512_srli_epi32(a.v, 16));
}
FST_INLINE void store_upper(Bf16* p, IntVec a) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), upper_halves(a));
}
FST_INLINE void store_upper_first(Bf16* p, IntVec a, std::int64_t n) {
  _mm256_mask_storeu_epi16(p, first(n).v, upper_halves(a));
}
FST_INLINE float lane0(Vec a) {
  return _mm512_cvtss_f32(a.v);
}

FST_INLINE Vec operator+(Vec a, Vec b) {
  return {_mm512_add_ps(a.v, b.v)};
}
FST_INLINE Vec operator-(Vec a, Vec b) {
  return {_mm512_sub_ps(a.v, b.v)};
}
FST_INLINE Vec operator*(Vec a, Vec b) {
  return {_mm512_mul_ps(a.v, b.v)};
}
FST_INLINE Vec operator/(Vec a, Vec b) {
  return {_mm512_div_ps(a.v, b.v)};
}
FST_INLINE Vec fma(Vec a, Vec b, Vec c) {
  return {_mm512_fmadd_ps(a.v, b.v, c.v)};
}
FST_INLINE Vec sqrt(Vec a) {
  return {_mm512_sqrt_ps(a.v)};
}
FST_INLINE Vec max(Vec a, Vec b) {
  return {_mm512_max_ps(a.v, b.v)};
}
FST_INLINE Vec min(Vec a, Vec b) {
  return {_mm512_min_ps(a.v, b.v)};
}

FST_INLINE Mask less(Vec a, Vec b) {
  return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_LT_OQ)};
}
FST_INLINE Mask equal(Vec a, Vec b) {
  return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_EQ_OQ)};
}
FST_INLINE Vec select(Mask m, Vec yes, Vec no) {
  return {_mm512_mask_blend_ps(m.v, no.v, yes.v)};
}

FST_INLINE IntVec bits(Vec a) {
  return {_mm512_castps_si512(a.v)};
}
FST_INLINE Vec from_bits(IntVec a) {
  return {_mm512_castsi512_ps(a.v)};
}
FST_INLINE Vec to_float(IntVec a) {
  return {_mm512_cvtepi32_ps(a.v)};
}
FST_INLINE IntVec to_int(Vec a) {
  return {_mm512_cvttps_epi32(a.v)};
}
FST_INLINE IntVec add_int(IntVec a, IntVec b) {
  return {_mm512_add_epi32(a.v, b.v)};
}
FST_INLINE IntVec sub_int(IntVec a, IntVec b) {
  return {_mm512_sub_epi32(a.v, b.v)};
}
FST_INLINE IntVec and_int(IntVec a, IntVec b) {
  return {_mm512_and_si512(a.v, b.v)};
}
FST_INLINE IntVec or_int(IntVec a, IntVec b) {
  return {_mm512_or_si512(a.v, b.v)};
}
template <int k>
FST_INLINE IntVec shift_left(IntVec a) {
  return {_mm512_slli_epi32(a.v, k)};
}
template <int k>
FST_INLINE IntVec shift_right(IntVec a) {
  return {_mm512_srli_epi32(a.v, k)};
}

FST_INLINE Vec scale(Vec a, Vec n) {
  return {_mm512_scalef_ps(a.v, n.v)};
}

/// The 16 lanes joined by halving: lane j + lane j+8, then +4, +2, +1.
FST_INLINE float sum(Vec a) {
  const __m256 by8 = _mm256_add_ps(_mm512_castps512_ps256(a.v), _mm512_extractf32x8_ps(a.v, 1));
  const __m128 by4 = _mm_add_ps(_mm256_castps256_ps128(by8), _mm256_extractf128_ps(by8, 1));
  const __m128 by2 = _mm_add_ps(by4, _mm_movehl_ps(by4, by4));
  return _mm_cvtss_f32(_mm_add_ss(by2, _mm_movehdup_ps(by2)));
}
/// The greatest lane, same tree.
FST_INLINE float maximum(Vec a) {
  const __m256 by8 = _mm256_max_ps(_mm512_castps512_ps256(a.v), _mm512_extractf32x8_ps(a.v, 1));
  const __m128 by4 = _mm_max_ps(_mm256_castps256_ps128(by8), _mm256_extractf128_ps(by8, 1));
  const __m128 by2 = _mm_max_ps(by4, _mm_movehl_ps(by4, by4));
  return _mm_cvtss_f32(_mm_max_ss(by2, _mm_movehdup_ps(by2)));
}

/// Rows become columns. Four rows are interleaved within 128-bit parts, then the parts are
/// exchanged.
FST_INLINE void transpose(Vec (&rows)[16]) {
  __m512 b[16];
  for (int i = 0; i < 16; i += 4) {
    const __m512d low = _mm512_castps_pd(_mm512_unpacklo_ps(rows[i].v, rows[i + 1].v));
    const __m512d high = _mm512_castps_pd(_mm512_unpackhi_ps(rows[i].v, rows[i + 1].v));
    const __m512d low2 = _mm512_castps_pd(_mm512_unpacklo_ps(rows[i + 2].v, rows[i + 3].v));
    const __m512d high2 = _mm512_castps_pd(_mm512_unpackhi_ps(rows[i + 2].v, rows[i + 3].v));
    b[i] = _mm512_castpd_ps(_mm512_unpacklo_pd(low, low2));
    b[i + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(low, low2));
    b[i + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(high, high2));
    b[i + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(high, high2));
  }
  for (int k = 0; k < 4; ++k) {  // part p of b[4 g + k]: column 4 p + k of rows 4 g ..
    const __m512 even = _mm512_shuffle_f32x4(b[k], b[4 + k], 0x88);
    const __m512 odd = _mm512_shuffle_f32x4(b[k], b[4 + k], 0xdd);
    const __m512 even2 = _mm512_shuffle_f32x4(b[8 + k], b[12 + k], 0x88);
    const __m512 odd2 = _mm512_shuffle_f32x4(b[8 + k], b[12 + k], 0xdd);
    rows[k].v = _mm512_shuffle_f32x4(even, even2, 0x88);
    rows[4 + k].v = _mm512_shuffle_f32x4(odd, odd2, 0x88);
    rows[8 + k].v = _mm512_shuffle_f32x4(even, even2, 0xdd);
    rows[12 + k].v = _mm512_shuffle_f32x4(odd, odd2, 0xdd);
  }
}

}  // namespace fst::kernels::FST_ISA_NS
