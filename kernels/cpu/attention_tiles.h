#pragma once

#include "kernels/attention.h"
#include "kernels/cpu/vec.h"

/// The two products of attention on register tiles. How rows are grouped changes no bit: every
/// output element is its own chain. The namespace makes them one copy per instruction set.
// Unrolled completely: an array of accumulators stays in registers only if every index is constant.
#define FST_UNROLL _Pragma("GCC unroll 8")

namespace fst::kernels::FST_ISA_NS {

// Rows whose accumulators are held in registers together, and vectors per row: 16 of the 32
// registers of AVX-512, 8 of the 16 of AVX2.
#if defined(FST_ISA_avx512)
inline constexpr int tile_rows = 8, tile_vecs = 2;
#else
inline constexpr int tile_rows = 4, tile_vecs = 1;
#endif

/// T: what the rows, keys and values hold, float or Bf16.
///
/// packed[h * 16 + r] = rows[r][h]: sixteen rows side by side, as `scores` takes them.
template <class T>
void pack_rows(float* packed, const T* const* rows, std::int64_t dim) {
  for (std::int64_t h = 0; h < dim; h += lanes) {
    Vec v[lanes];
    for (int r = 0; r < lanes; ++r) v[r] = load_upto(rows[r] + h, dim - h);
    transpose(v);
    for (int i = 0; i < lanes && h + i < dim; ++i) store(packed + (h + i) * lanes, v[i]);
  }
}

/// s[r * 128 + 16 b + lane] = chain over h from +0 of packed[h * 16 + r] * blocks[b][h * 16 +
/// lane].
template <int R, int B, class T>
void score_blocks(float* s, const float* packed, const T* const* blocks, std::int64_t dim) {
  Vec total[R][B];
  const T* keys[B];
  FST_UNROLL
  for (int b = 0; b < B; ++b) {
    keys[b] = blocks[b];
    FST_UNROLL
    for (int r = 0; r < R; ++r) total[r][b] = zero();
  }
  for (std::int64_t h = 0; h < dim; ++h, packed += lanes) {
    Vec key[B];
    FST_UNROLL
    for (int b = 0; b < B; ++b) key[b] = load(keys[b] + h * lanes);
    FST_UNROLL
    for (int r = 0; r < R; ++r) {
      const Vec query = set(packed[r]);
      FST_UNROLL
      for (int b = 0; b < B; ++b) total[r][b] = fma(query, key[b], total[r][b]);
    }
  }
  FST_UNROLL
  for (int r = 0; r < R; ++r) {
    FST_UNROLL
    for (int b = 0; b < B; ++b) store(s + r * attention_tile + b * lanes, total[r][b]);
  }
}
template <int R, class T>
void scores(float* s, const float* packed, const T* const* blocks, std::int64_t count,
            std::int64_t dim) {
  std::int64_t b = 0;
  for (; b + tile_vecs <= count; b += tile_vecs) {
    score_blocks<R, tile_vecs>(s + b * lanes, packed, blocks + b, dim);
  }
  for (; b < count; ++b) score_blocks<R, 1>(s + b * lanes, packed, blocks + b, dim);
}

/// out[r * out_stride + c] continues its chain: fma(p[r * PR + j * PJ], x[j * x_stride + c], .) for
/// j = 0 .. count-1, over C whole vectors of columns, or over `columns` < 16 (C = 1).
template <int R, int C, bool whole, int PR, int PJ, class T>
void chain_columns(float* out, std::int64_t out_stride, const float* p, const T* x,
                   std::int64_t x_stride, std::int64_t count, std::int64_t columns) {
  Vec total[R][C];
  FST_UNROLL
  for (int r = 0; r < R; ++r) {
    FST_UNROLL
    for (int c = 0; c < C; ++c) {
      const float* const from = out + r * out_stride + c * lanes;
      total[r][c] = whole ? load(from) : load_first(from, columns);
    }
  }
  for (std::int64_t j = 0; j < count; ++j, x += x_stride, p += PJ) {
    Vec value[C];
    FST_UNROLL
    for (int c = 0; c < C; ++c) {
      value[c] = whole ? load(x + c * lanes) : load_first(x, columns);
    }
    FST_UNROLL
    for (int r = 0; r < R; ++r) {
      const Vec weight = set(p[r * PR]);
      FST_UNROLL
      for (int c = 0; c < C; ++c) total[r][c] = fma(weight, value[c], total[r][c]);
    }
  }
  FST_UNROLL
  for (int r = 0; r < R; ++r) {
    FST_UNROLL
    for (int c = 0; c < C; ++c) {
      float* const to = out + r * out_stride + c * lanes;
      if (whole) {
        store(to, total[r][c]);
      } else {
        store_first(to, total[r][c], columns);
      }
    }
  }
}
/// The same for all `dim` columns.
template <int R, int PR, int PJ, class T>
void chains(float* out, std::int64_t out_stride, const float* p, const T* x, std::int64_t x_stride,
            std::int64_t count, std::int64_t dim) {
  std::int64_t c = 0;
  for (; c + tile_vecs * lanes <= dim; c += tile_vecs * lanes) {
    chain_columns<R, tile_vecs, true, PR, PJ>(out + c, out_stride, p, x + c, x_stride, count, 0);
  }
  if (tile_vecs > 1 && c + lanes <= dim) {
    chain_columns<R, 1, true, PR, PJ>(out + c, out_stride, p, x + c, x_stride, count, 0);
    c += lanes;
  }
  if (c < dim) {
    chain_columns<R, 1, false, PR, PJ>(out + c, out_stride, p, x + c, x_stride, count, dim - c);
  }
}
/// The same for the keys [begin, end) of a tile whose rows lie in blocks of 16.
template <int R, class T>
void block_chains(float* out, std::int64_t out_stride, const float* p, const T* const* blocks,
                  std::int64_t x_stride, std::int64_t begin, std::int64_t end, std::int64_t dim) {
  while (begin < end) {
    const std::int64_t within = begin % lanes;
    const std::int64_t left = end - begin, room = lanes - within;
    const std::int64_t count = left < room ? left : room;
    chains<R, attention_tile, 1>(out, out_stride, p + begin,
                                 blocks[begin / lanes] + within * x_stride, x_stride, count, dim);
    begin += count;
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
