#pragma once

#include "kernels/attention.h"
#include "kernels/cpu/vec.h"

/// The two products of attention on register tiles. How rows are grouped changes no bit: every
/// output element is its own chain. The namespace makes them one copy per instruction set.
namespace fst::kernels::FST_ISA_NS {

// Rows whose accumulators are held in registers together, and vectors per row: 16 of the 32
// registers of AVX-512, 8 of the 16 of AVX2.
#if defined(FST_ISA_avx512)
inline constexpr int tile_rows = 8, tile_vecs = 2;
#else
inline constexpr int tile_rows = 4, tile_vecs = 1;
#endif

/// packed[h * R + r] = rows[r][h]: the operands of one step of `scores` side by side.
template <int R>
FST_INLINE void pack_rows(float* packed, const float* const* rows, std::int64_t dim) {
  for (int r = 0; r < R; ++r) {
    for (std::int64_t h = 0; h < dim; ++h) packed[h * R + r] = rows[r][h];
  }
}

/// s[r * 128 + 16 b + lane] = chain over h from +0 of packed[h * R + r] * blocks[b][h * 16 + lane].
template <int R, int B>
void score_blocks(float* s, const float* packed, const float* const* blocks, std::int64_t dim) {
  Vec total[R][B];
  for (int r = 0; r < R; ++r) {
    for (int b = 0; b < B; ++b) total[r][b] = zero();
  }
  for (std::int64_t h = 0; h < dim; ++h) {
    Vec key[B];
    for (int b = 0; b < B; ++b) key[b] = load(blocks[b] + h * lanes);
    for (int r = 0; r < R; ++r) {
      const Vec query = set(packed[h * R + r]);
      for (int b = 0; b < B; ++b) total[r][b] = fma(query, key[b], total[r][b]);
    }
  }
  for (int r = 0; r < R; ++r) {
    for (int b = 0; b < B; ++b) store(s + r * attention_tile + b * lanes, total[r][b]);
  }
}
template <int R>
void scores(float* s, const float* packed, const float* const* blocks, std::int64_t count,
            std::int64_t dim) {
  std::int64_t b = 0;
  for (; b + tile_vecs <= count; b += tile_vecs) {
    score_blocks<R, tile_vecs>(s + b * lanes, packed, blocks + b, dim);
  }
  for (; b < count; ++b) score_blocks<R, 1>(s + b * lanes, packed, blocks + b, dim);
}

/// out[r * out_stride + c] continues its chain over j in [begin, end): fma(p[r * PR + j * PJ],
/// x_j[c], .) with x_j = blocks[j / 16] + (j % 16) * x_stride, for c < columns.
template <int R, int C, int PR, int PJ>
void chain_columns(float* out, std::int64_t out_stride, const float* p, const float* const* blocks,
                   std::int64_t x_stride, std::int64_t begin, std::int64_t end,
                   std::int64_t first_column, std::int64_t columns) {
  Vec total[R][C];
  float* const to = out + first_column;
  for (int r = 0; r < R; ++r) {
    for (int c = 0; c < C; ++c) {
      total[r][c] = load_upto(to + r * out_stride + c * lanes, columns - c * lanes);
    }
  }
  std::int64_t j = begin;
  while (j < end) {
    const std::int64_t block_end = (j / lanes + 1) * lanes < end ? (j / lanes + 1) * lanes : end;
    const float* x = blocks[j / lanes] + (j % lanes) * x_stride + first_column;
    for (; j < block_end; ++j, x += x_stride) {
      Vec value[C];
      for (int c = 0; c < C; ++c) value[c] = load_upto(x + c * lanes, columns - c * lanes);
      for (int r = 0; r < R; ++r) {
        const Vec weight = set(p[r * PR + j * PJ]);
        for (int c = 0; c < C; ++c) total[r][c] = fma(weight, value[c], total[r][c]);
      }
    }
  }
  for (int r = 0; r < R; ++r) {
    for (int c = 0; c < C; ++c) {
      store_upto(to + r * out_stride + c * lanes, total[r][c], columns - c * lanes);
    }
  }
}
template <int R, int PR, int PJ>
void chains(float* out, std::int64_t out_stride, const float* p, const float* const* blocks,
            std::int64_t x_stride, std::int64_t begin, std::int64_t end, std::int64_t dim) {
  if (begin >= end) return;
  std::int64_t c = 0;
  for (; c + tile_vecs * lanes <= dim; c += tile_vecs * lanes) {
    chain_columns<R, tile_vecs, PR, PJ>(out, out_stride, p, blocks, x_stride, begin, end, c,
                                        tile_vecs * lanes);
  }
  for (; c < dim; c += lanes) {
    const std::int64_t left = dim - c;
    chain_columns<R, 1, PR, PJ>(out, out_stride, p, blocks, x_stride, begin, end, c,
                                left < lanes ? left : lanes);
  }
}

/// Calls f.operator()<R>(i) on groups [i, i + R) that cover [0, count): as many full tiles as fit,
/// then 4, 2, 1.
template <class F>
FST_INLINE void in_groups(std::int64_t count, F f) {
  std::int64_t i = 0;
  for (; i + tile_rows <= count; i += tile_rows) f.template operator()<tile_rows>(i);
  if (tile_rows > 4 && i + 4 <= count) {
    f.template operator()<4>(i);
    i += 4;
  }
  if (i + 2 <= count) {
    f.template operator()<2>(i);
    i += 2;
  }
  if (i < count) f.template operator()<1>(i);
}

}  // namespace fst::kernels::FST_ISA_NS
