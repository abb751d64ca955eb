#pragma once

#include <cstdint>

#include "kernels/bf16.h"

/// Sixteen lanes of float32 for the files compiled once per instruction set (`*.isa.cpp`). Every
/// operation is one IEEE operation per lane, so all implementations give the same bits:
///
///   Vec, IntVec, Mask                16 x float32, int32, bool
///   zero() set(s) set_int(i)         broadcast
///   load(p) store(p, v)              16 elements, any alignment
///   load_int(p)                      64 bytes of memory of any type
///   load_first(p, n)                 the first n < 16 elements, zeros behind; touches no others
///   store_first(p, v, n)             the first n elements
///   load, load_first of Bf16         widened exactly
///   store_upper(p, i)                the upper halves of 16 integers to 16 Bf16
///   store_upper_first(p, i, n)       the first n of them
///   + - * /  fma(a, b, c)            a b + c rounded once
///   sqrt(v)  max(a, b)  min(a, b)    max: a > b ? a : b; min: a < b ? a : b, as the x86
///   instructions less(a, b)  equal(a, b)          ordered comparisons: false where a NaN is
///   involved first(n)                         mask of lanes 0 .. n-1 (n <= 0: none, n >= 16: all)
///   select(mask, yes, no)
///   bits(v)  from_bits(i)            reinterpretation
///   to_float(i)  to_int(v)           conversion; to_int truncates, |v| < 2^31
///   add_int, sub_int, and_int, or_int, shift_left<k>, shift_right<k> (logical)
///   scale(v, n)                      v 2^n for integer-valued n; 2^-20 <= |v| < 2^20, |n| <= 200
///   lane0(v)                         the first lane
///   transpose(v[16])                 lane j of v[i] and lane i of v[j] change places
///   sum(v)  maximum(v)               over the lanes: lane j with lane j+8, then +4, +2, +1
///
/// and below, built from these: -v, abs(v), round(v), store and store_first of Bf16 (rounded once),
/// held, load_upto, store_upto, dot.
#define FST_INLINE inline __attribute__((always_inline))

namespace fst::kernels::FST_ISA_NS {
inline constexpr std::int64_t lanes = 16;
}

#if defined(FST_ISA_avx512)
#include "kernels/cpu/vec_avx512.h"
#elif defined(FST_ISA_avx2)
#include "kernels/cpu/vec_avx2.h"
#else
#include "kernels/cpu/vec_array.h"
#endif

namespace fst::kernels::FST_ISA_NS {

FST_INLINE Vec operator-(Vec v) {
  return from_bits(add_int(bits(v), set_int(INT32_MIN)));  // flips the sign bit
}
FST_INLINE Vec abs(Vec v) {
  return from_bits(and_int(bits(v), set_int(INT32_MAX)));
}

/// The nearest integer, ties to even; |v| < 2^22. Adding 1.5 2^23 leaves no bits for a fraction.
FST_INLINE Vec round(Vec v) {
  const Vec magic = set(12582912.0f);
  return (v + magic) - magic;
}

/// narrowed() of kernels/bf16.h, in the upper halves. (VCVTNEPS2BF16 flushes denormal numbers.)
FST_INLINE IntVec rounded_upper(Vec v) {
  const IntVec i = bits(v);
  const IntVec odd = and_int(shift_right<16>(i), set_int(1));
  const IntVec rounded = add_int(add_int(i, set_int(0x7fff)), odd);
  const IntVec quiet_nan = or_int(i, set_int(0x400000));
  return bits(select(equal(v, v), from_bits(rounded), from_bits(quiet_nan)));
}
FST_INLINE void store(Bf16* p, Vec v) {
  store_upper(p, rounded_upper(v));
}
FST_INLINE void store_first(Bf16* p, Vec v, std::int64_t n) {
  store_upper_first(p, rounded_upper(v), n);
}

/// What a T holds of v, as floats. From here on T, X and Y are float or Bf16.
template <class T>
FST_INLINE Vec held(Vec v) {
  if constexpr (sizeof(T) == sizeof(Bf16)) {
    return from_bits(and_int(rounded_upper(v), set_int(-0x10000)));
  } else {
    return v;
  }
}

/// The first min(n, 16) elements.
template <class T>
FST_INLINE Vec load_upto(const T* p, std::int64_t n) {
  return n >= lanes ? load(p) : load_first(p, n);
}
template <class T>
FST_INLINE void store_upto(T* p, Vec v, std::int64_t n) {
  if (n >= lanes) {
    store(p, v);
  } else {
    store_first(p, v, n);
  }
}

/// Sum over elements 0 .. n-1 of x[i] y[i] in the contract's order: lane i takes i, i+16, ... with
/// one fma each; the lanes are then halved by sum().
template <class X, class Y>
FST_INLINE float dot(const X* x, const Y* y, std::int64_t n) {
  Vec total = zero();
  std::int64_t i = 0;
  for (; i + lanes <= n; i += lanes) total = fma(load(x + i), load(y + i), total);
  if (i < n) {
    // Not fma with zeros in the lanes behind: that would turn a -0 into +0.
    const Vec next = fma(load_first(x + i, n - i), load_first(y + i, n - i), total);
    total = select(first(n - i), next, total);
  }
  return sum(total);
}

}  // namespace fst::kernels::FST_ISA_NS
