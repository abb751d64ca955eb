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

/// Rows cut in the fewest tiles of at most `most` rows, as equal as can be.
struct Tiles {
  std::int64_t count, least_rows, longer;  // the first `longer` tiles have one row more

  Tiles(std::int64_t rows, std::int64_t most)
      : count((rows + most - 1) / most), least_rows(rows / count), longer(rows % count) {}
  std::int64_t first(std::int64_t i) const { return i * least_rows + (i < longer ? i : longer); }
  std::int64_t rows(std::int64_t i) const { return least_rows + (i < longer ? 1 : 0); }
};

/// The rows of a matrix that is read by columns, tile after tile, each [count][to_step];
/// to_step <= 16. Inner index outside, so that memory is read in order.
FST_INLINE void copy_left(float* to, std::int64_t to_step, const float* from,
                          std::int64_t from_step, const Tiles& tiles, std::int64_t count) {
  for (std::int64_t k = 0; k < count; ++k) {
    const float* row = from + k * from_step;
    __builtin_prefetch(row + 4 * from_step);
    for (std::int64_t i = 0; i < tiles.count; ++i) {
      const Vec values = load_first(row + tiles.first(i), tiles.rows(i));
      float* out = to + (i * count + k) * to_step;
      if (to_step == lanes) {
        store(out, values);
      } else {
        store_first(out, values, to_step);
      }
    }
  }
}

/// Panels [count][32] of `columns` columns of a matrix with rows `from_step` apart; the missing
/// columns of the last panel are zero. Eight panels at a time: a kilobyte of each row.
FST_INLINE void copy_panels(float* to, const float* from, std::int64_t from_step,
                            std::int64_t columns, std::int64_t count) {
  constexpr std::int64_t group = 8 * panel_columns;
  for (std::int64_t start = 0; start < columns; start += group) {
    const std::int64_t end = start + group < columns ? start + group : columns;
    for (std::int64_t k = 0; k < count; ++k) {
      const float* row = from + k * from_step;
      float* out = to + start * count + k * panel_columns;
      for (std::int64_t j = start; j < end; j += panel_columns, out += count * panel_columns) {
        const std::int64_t room = columns - j;
        __builtin_prefetch(row + j + 4 * from_step);
        __builtin_prefetch(row + j + 4 * from_step + lanes);
        if (room >= panel_columns) {
          store(out, load(row + j));
          store(out + lanes, load(row + j + lanes));
        } else {
          store(out, load_first(row + j, room < lanes ? room : lanes));
          store(out + lanes, room <= lanes ? zero() : load_first(row + j + lanes, room - lanes));
        }
      }
    }
  }
}

}  // namespace fst::kernels::FST_ISA_NS
