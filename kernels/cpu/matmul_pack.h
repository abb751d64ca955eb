#pragma once

#include <cstdint>

#include "kernels/cpu/matmul_isa.h"
#include "kernels/cpu/vec.h"

#if defined(FST_ISA_avx512) || defined(FST_ISA_avx2)
#include <immintrin.h>
#endif

/// Copies of operands in the order in which the inner kernel reads them.
namespace fst::kernels::FST_ISA_NS {

/// to[k * to_step + r] = from[r * from_step + k] for r < rows, k < count; zero for rows <= r <
/// width.
FST_INLINE void transpose_any(float* to, std::int64_t to_step, const float* from,
                              std::int64_t from_step, std::int64_t rows, std::int64_t count,
                              std::int64_t width) {
  for (std::int64_t k = 0; k < count; ++k) {
    for (std::int64_t r = 0; r < width; ++r) {
      to[k * to_step + r] = r < rows ? from[r * from_step + k] : 0.0f;
    }
  }
}

#if defined(FST_ISA_avx512)
/// The same for 16 inner indices and width 16: rows in pairs, pairs in fours, then quarters of
/// vectors.
FST_INLINE void transpose_16(float* to, std::int64_t to_step, const float* from,
                             std::int64_t from_step, std::int64_t rows) {
  __m512 x[16], y[16];
#pragma GCC unroll 16
  for (int r = 0; r < 16; ++r) {
    x[r] = r < rows ? _mm512_loadu_ps(from + r * from_step) : _mm512_setzero_ps();
  }
#pragma GCC unroll 16
  for (int r = 0; r < 16; r += 2) {
    y[r] = _mm512_unpacklo_ps(x[r], x[r + 1]);
    y[r + 1] = _mm512_unpackhi_ps(x[r], x[r + 1]);
  }
  // x[4 g + c]: rows 4 g .. 4 g + 3 of the columns c, c + 4, c + 8, c + 12.
#pragma GCC unroll 16
  for (int g = 0; g < 16; g += 4) {
    x[g] = _mm512_shuffle_ps(y[g], y[g + 2], 0x44);
    x[g + 1] = _mm512_shuffle_ps(y[g], y[g + 2], 0xee);
    x[g + 2] = _mm512_shuffle_ps(y[g + 1], y[g + 3], 0x44);
    x[g + 3] = _mm512_shuffle_ps(y[g + 1], y[g + 3], 0xee);
  }
#pragma GCC unroll 16
  for (int c = 0; c < 4; ++c) {
    const __m512 top_even = _mm512_shuffle_f32x4(x[c], x[c + 4], 0x88);
    const __m512 top_odd = _mm512_shuffle_f32x4(x[c], x[c + 4], 0xdd);
    const __m512 low_even = _mm512_shuffle_f32x4(x[c + 8], x[c + 12], 0x88);
    const __m512 low_odd = _mm512_shuffle_f32x4(x[c + 8], x[c + 12], 0xdd);
    _mm512_storeu_ps(to + c * to_step, _mm512_shuffle_f32x4(top_even, low_even, 0x88));
    _mm512_storeu_ps(to + (c + 4) * to_step, _mm512_shuffle_f32x4(top_odd, low_odd, 0x88));
    _mm512_storeu_ps(to + (c + 8) * to_step, _mm512_shuffle_f32x4(top_even, low_even, 0xdd));
    _mm512_storeu_ps(to + (c + 12) * to_step, _mm512_shuffle_f32x4(top_odd, low_odd, 0xdd));
  }
}
inline constexpr std::int64_t transpose_step = 16;
#elif defined(FST_ISA_avx2)
/// The same for 8 inner indices, eight rows at a time.
FST_INLINE void transpose_8(float* to, std::int64_t to_step, const float* from,
                            std::int64_t from_step, std::int64_t rows, std::int64_t width) {
  for (std::int64_t half = 0; half < width; half += 8) {
    __m256 x[8], y[8];
#pragma GCC unroll 8
    for (int r = 0; r < 8; ++r) {
      x[r] = half + r < rows ? _mm256_loadu_ps(from + (half + r) * from_step) : _mm256_setzero_ps();
    }
#pragma GCC unroll 8
    for (int r = 0; r < 8; r += 2) {
      y[r] = _mm256_unpacklo_ps(x[r], x[r + 1]);
      y[r + 1] = _mm256_unpackhi_ps(x[r], x[r + 1]);
    }
#pragma GCC unroll 8
    for (int g = 0; g < 8; g += 4) {
      x[g] = _mm256_shuffle_ps(y[g], y[g + 2], 0x44);
      x[g + 1] = _mm256_shuffle_ps(y[g], y[g + 2], 0xee);
      x[g + 2] = _mm256_shuffle_ps(y[g + 1], y[g + 3], 0x44);
      x[g + 3] = _mm256_shuffle_ps(y[g + 1], y[g + 3], 0xee);
    }
#pragma GCC unroll 8
    for (int c = 0; c < 4; ++c) {
      float* out = to + c * to_step + half;
      _mm256_storeu_ps(out, _mm256_permute2f128_ps(x[c], x[c + 4], 0x20));
      _mm256_storeu_ps(out + 4 * to_step, _mm256_permute2f128_ps(x[c], x[c + 4], 0x31));
    }
  }
}
inline constexpr std::int64_t transpose_step = 8;
#endif

/// to[k * to_step + r] = from[r * from_step + k] for r < rows, k < count; zero for rows <= r <
/// width. `width` is 16 or, without AVX-512, 8 or 16.
FST_INLINE void transpose(float* to, std::int64_t to_step, const float* from,
                          std::int64_t from_step, std::int64_t rows, std::int64_t count,
                          std::int64_t width) {
  std::int64_t k = 0;
#if defined(FST_ISA_avx512)
  for (; k + transpose_step <= count; k += transpose_step) {
    transpose_16(to + k * to_step, to_step, from + k, from_step, rows);
  }
#elif defined(FST_ISA_avx2)
  for (; k + transpose_step <= count; k += transpose_step) {
    transpose_8(to + k * to_step, to_step, from + k, from_step, rows, width);
  }
#endif
  transpose_any(to + k * to_step, to_step, from + k, from_step, rows, count - k, width);
}

/// to[k * to_step + r] = from[k * from_step + r] for r < rows <= to_step; k ascending, each k also
/// writes zeros up to 16 elements from its start.
FST_INLINE void copy_left(float* to, std::int64_t to_step, const float* from,
                          std::int64_t from_step, std::int64_t rows, std::int64_t count) {
  for (std::int64_t k = 0; k < count; ++k) {
    store(to + k * to_step, load_first(from + k * from_step, rows));
  }
}

/// Panels [count][32] of `columns` columns of a matrix with rows `from_step` apart; the missing
/// columns of the last panel are zero.
FST_INLINE void copy_panels(float* to, const float* from, std::int64_t from_step,
                            std::int64_t columns, std::int64_t count) {
  for (std::int64_t first = 0; first < columns; first += panel_columns) {
    const std::int64_t room = columns - first;
    const float* row = from + first;
    for (std::int64_t k = 0; k < count; ++k, row += from_step, to += panel_columns) {
      if (room >= panel_columns) {
        store(to, load(row));
        store(to + lanes, load(row + lanes));
      } else {
        store(to, load_first(row, room < lanes ? room : lanes));
        store(to + lanes, room <= lanes ? zero() : load_first(row + lanes, room - lanes));
      }
    }
  }
}

}  // namespace fst::kernels::FST_ISA_NS
