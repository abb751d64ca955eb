#pragma once

#include "kernels/cpu/vec.h"

/// Philox4x32-10 (kernels/philox.h) on 16 counters at a time.
namespace fst::kernels::FST_ISA_NS {

struct WideProduct {
  IntVec high, low;
};

#if defined(FST_ISA_avx512)

FST_INLINE IntVec xor_int(IntVec a, IntVec b) {
  return {_mm512_xor_si512(a.v, b.v)};
}
/// The 64-bit products of unsigned 32-bit lanes.
FST_INLINE WideProduct multiply_wide(IntVec a, std::uint32_t factor) {
  const __m512i f = _mm512_set1_epi64(static_cast<long long>(factor));
  const __m512i even = _mm512_mul_epu32(a.v, f);
  const __m512i odd = _mm512_mul_epu32(_mm512_srli_epi64(a.v, 32), f);
  constexpr __mmask16 odd_lanes = 0xaaaa;
  return {{_mm512_mask_blend_epi32(odd_lanes, _mm512_srli_epi64(even, 32), odd)},
          {_mm512_mask_blend_epi32(odd_lanes, even, _mm512_slli_epi64(odd, 32))}};
}

#elif defined(FST_ISA_avx2)

FST_INLINE IntVec xor_int(IntVec a, IntVec b) {
  return {_mm256_xor_si256(a.lo, b.lo), _mm256_xor_si256(a.hi, b.hi)};
}
FST_INLINE void multiply_half(__m256i a, __m256i f, __m256i& high, __m256i& low) {
  const __m256i even = _mm256_mul_epu32(a, f);
  const __m256i odd = _mm256_mul_epu32(_mm256_srli_epi64(a, 32), f);
  high = _mm256_blend_epi32(_mm256_srli_epi64(even, 32), odd, 0xaa);
  low = _mm256_blend_epi32(even, _mm256_slli_epi64(odd, 32), 0xaa);
}
FST_INLINE WideProduct multiply_wide(IntVec a, std::uint32_t factor) {
  const __m256i f = _mm256_set1_epi64x(static_cast<long long>(factor));
  WideProduct r;
  multiply_half(a.lo, f, r.high.lo, r.low.lo);
  multiply_half(a.hi, f, r.high.hi, r.low.hi);
  return r;
}

#else

FST_INLINE IntVec xor_int(const IntVec& a, const IntVec& b) {
  return each<IntVec>([&](int i) { return a.v[i] ^ b.v[i]; });
}
FST_INLINE WideProduct multiply_wide(const IntVec& a, std::uint32_t factor) {
  WideProduct r;
  for (int i = 0; i < 16; ++i) {
    const std::uint64_t product = std::uint64_t{factor} * word(a.v[i]);
    r.high.v[i] = static_cast<std::int32_t>(static_cast<std::uint32_t>(product >> 32));
    r.low.v[i] = static_cast<std::int32_t>(static_cast<std::uint32_t>(product));
  }
  return r;
}

#endif

struct PhiloxWords {
  IntVec word[4];
};

FST_INLINE IntVec set_word(std::uint32_t w) {
  return set_int(static_cast<std::int32_t>(w));
}

/// Words of the counters {c0[lane], c1, c2, 0}.
FST_INLINE PhiloxWords philox16(IntVec c0, std::uint32_t c1, std::uint32_t c2, std::uint64_t key) {
  PhiloxWords c{{c0, set_word(c1), set_word(c2), set_int(0)}};
  std::uint32_t k0 = static_cast<std::uint32_t>(key);
  std::uint32_t k1 = static_cast<std::uint32_t>(key >> 32);
  for (int round = 0; round < 10; ++round) {
    const WideProduct p0 = multiply_wide(c.word[0], 0xD2511F53u);
    const WideProduct p1 = multiply_wide(c.word[2], 0xCD9E8D57u);
    c.word[0] = xor_int(xor_int(p1.high, c.word[1]), set_word(k0));
    c.word[2] = xor_int(xor_int(p0.high, c.word[3]), set_word(k1));
    c.word[1] = p1.low;
    c.word[3] = p0.low;
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return c;
}

}  // namespace fst::kernels::FST_ISA_NS
