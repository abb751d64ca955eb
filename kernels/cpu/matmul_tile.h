#pragma once

#include <cstdint>

#include "kernels/cpu/matmul_isa.h"
#include "kernels/cpu/vec.h"

/// The inner kernel of the matrix products: a tile of the output held in registers while the inner
/// index runs. Lanes are output columns, so every element is one chain whatever the tile's shape.
namespace fst::kernels::FST_ISA_NS {

/// Where the rows of the left operand lie: a(r, k) = a[r * a_step + k] or a[k * a_step + r].
enum class Left { rows, inner };

/// Rows and vectors of 16 columns of a tile: as many accumulators as registers allow. The wide
/// shapes keep enough independent chains in flight where there are few rows.
struct TileShape {
  std::int64_t rows, vectors;
};
#if defined(FST_ISA_avx512)
inline constexpr TileShape narrow_tile{14, 2}, wide_tile{6, 4};
inline constexpr std::int64_t left_width = 16;  // packed rows of a tile: a whole cache line
#elif defined(FST_ISA_avx2)
inline constexpr TileShape narrow_tile{6, 1}, wide_tile{2, 2};
inline constexpr std::int64_t left_width = 8;
#else
inline constexpr TileShape narrow_tile{4, 1}, wide_tile{2, 1};
inline constexpr std::int64_t left_width = 8;
#endif

/// One tile of r(i, j) = start(i, j) + chain over the inner index of a(i, k) b(k, j), then
/// joined, biased and added as asked.
struct Tile {
  const float* a;
  std::int64_t a_step;
  const float* b;        // panels [inner][32]
  std::int64_t b_panel;  // from one panel to the next
  std::int64_t inner;
  std::int64_t columns;  // to be written; at most those of the tile
  const float* start;    // nullptr: +0
  std::int64_t start_step;
  float* out;
  std::int64_t out_step;
  const float* join[3];  // out = join[2] + (join[1] + (join[0] + r)), those that are there
  std::int64_t joins, join_step;
  std::int64_t leaf_bits;     // the inner range is cut in 2^leaf_bits leaves,
  const std::int64_t* sizes;  // or that of each matrix
  std::int64_t matrices;
  const float* bias;
  Update update;
  const float* next_start;  // start of the tile that follows, to be fetched ahead; or nullptr
  const float* ahead;       // this tile's share of the next panels, to be fetched into L2
  std::int64_t ahead_step;  // per inner index
};

/// How many inner indices ahead operands are fetched: 24 cache lines of each hide the way from L2.
inline constexpr std::int64_t prefetch_steps = 24;

/// The first `n` of 16 elements, n may be anything; all of them if `full`.
template <bool full>
FST_INLINE Vec load_some(const float* p, std::int64_t n) {
  if (full || n >= lanes) return load(p);
  return n <= 0 ? zero() : load_first(p, n);
}
template <bool full>
FST_INLINE void store_some(float* p, Vec v, std::int64_t n) {
  if (full || n >= lanes) {
    store(p, v);
  } else if (n > 0) {
    store_first(p, v, n);
  }
}

/// Continues the chains of a tile over `count` inner indices.
template <int rows, int vectors, Left left>
FST_INLINE void accumulate(Vec (&sum)[rows][vectors], const float* a, std::int64_t a_step,
                           const float* b, std::int64_t b_panel, const float* ahead,
                           std::int64_t ahead_step, std::int64_t count) {
#pragma GCC unroll 4
  for (std::int64_t k = 0; k < count; ++k) {
    Vec column[vectors];
#pragma GCC unroll 4
    for (int v = 0; v < vectors; ++v) {
      const float* at = b + (v / 2) * b_panel + (v % 2) * lanes;
      column[v] = load(at);
      __builtin_prefetch(at + prefetch_steps * panel_columns);
    }
#pragma GCC unroll 16
    for (int r = 0; r < rows; ++r) {
      const Vec factor = set(left == Left::rows ? a[r * a_step] : a[r]);
#pragma GCC unroll 4
      for (int v = 0; v < vectors; ++v) sum[r][v] = fma(factor, column[v], sum[r][v]);
    }
    a += left == Left::rows ? 1 : a_step;
    if (left == Left::inner) __builtin_prefetch(a + prefetch_steps * left_width);
    // With few rows every tile waits for memory anyway, and there is no time for more requests.
    if (rows > wide_tile.rows) {
#pragma GCC unroll 4
      for (int v = 0; v < vectors; ++v) __builtin_prefetch(ahead + v * lanes, 0, 2);
      ahead += ahead_step;
    }
    b += panel_columns;
  }
}

template <int rows, int vectors>
FST_INLINE void clear(Vec (&sum)[rows][vectors]) {
#pragma GCC unroll 16
  for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < vectors; ++v) sum[r][v] = zero();
  }
}

template <bool full, int rows, int vectors>
FST_INLINE void begin(Vec (&sum)[rows][vectors], const Tile& t) {
#pragma GCC unroll 16
  for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < vectors; ++v) {
      sum[r][v] = load_some<full>(t.start + r * t.start_step + v * lanes, t.columns - v * lanes);
    }
  }
}

template <bool full, int rows, int vectors>
FST_INLINE void finish(Vec (&sum)[rows][vectors], const Tile& t) {
#pragma GCC unroll 4
  for (int v = 0; v < vectors; ++v) {
    const std::int64_t room = t.columns - v * lanes;
    const Vec bias = t.bias == nullptr ? zero() : load_some<full>(t.bias + v * lanes, room);
#pragma GCC unroll 16
    for (int r = 0; r < rows; ++r) {
      Vec total = sum[r][v];
      for (std::int64_t i = 0; i < t.joins; ++i) {
        total = load_some<full>(t.join[i] + r * t.join_step + v * lanes, room) + total;
      }
      if (t.bias != nullptr) total = total + bias;
      float* out = t.out + r * t.out_step + v * lanes;
      if (t.update == Update::add) total = load_some<full>(out, room) + total;
      store_some<full>(out, total, room);
    }
  }
}

template <int rows, int vectors>
FST_INLINE void finish_any(Vec (&sum)[rows][vectors], const Tile& t) {
  if (t.columns >= vectors * lanes) {
    finish<true>(sum, t);
  } else {
    finish<false>(sum, t);
  }
}

/// Asks for what is read after the chains, and for what the next tile starts from.
template <int rows, int vectors>
FST_INLINE void fetch_ahead(const Tile& t) {
  for (int r = 0; r < rows; ++r) {
    for (int v = 0; v < vectors; ++v) {
      __builtin_prefetch(t.out + r * t.out_step + v * lanes, 1);
      if (t.next_start != nullptr) {
        __builtin_prefetch(t.next_start + r * t.start_step + v * lanes);
      }
      for (std::int64_t i = 0; i < t.joins; ++i) {
        __builtin_prefetch(t.join[i] + r * t.join_step + v * lanes);
      }
    }
  }
}

/// A tile whose inner range is one piece of a chain.
template <int rows, int vectors, Left left>
void chain_tile(const Tile& t) {
  Vec sum[rows][vectors];
  if (t.start == nullptr) {
    clear(sum);
  } else if (t.columns >= vectors * lanes) {
    begin<true>(sum, t);
  } else {
    begin<false>(sum, t);
  }
  fetch_ahead<rows, vectors>(t);
  accumulate<rows, vectors, left>(sum, t.a, t.a_step, t.b, t.b_panel, t.ahead, t.ahead_step,
                                  t.inner);
  finish_any(sum, t);
}

template <int rows, int vectors>
using StoredTile = float[rows][vectors * lanes];

/// sum = stored + sum.
template <int rows, int vectors>
FST_INLINE void add_stored(Vec (&sum)[rows][vectors], const StoredTile<rows, vectors>& stored) {
#pragma GCC unroll 16
  for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < vectors; ++v) sum[r][v] = load(&stored[r][v * lanes]) + sum[r][v];
  }
}
template <int rows, int vectors>
FST_INLINE void store_all(StoredTile<rows, vectors>& stored, const Vec (&sum)[rows][vectors]) {
#pragma GCC unroll 16
  for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < vectors; ++v) store(&stored[r][v * lanes], sum[r][v]);
  }
}

/// The tree over inner indices [begin, begin + size), cut in 1, 2, 4 or 8 leaves. A finished leaf
/// joins the finished halves to its left: a stack of three tiles is enough.
template <int rows, int vectors, Left left>
FST_INLINE void tree(Vec (&sum)[rows][vectors], StoredTile<rows, vectors> (&stack)[4],
                     const Tile& t, std::int64_t begin, std::int64_t size) {
  const std::int64_t leaves = std::int64_t{1} << t.leaf_bits;
  for (std::int64_t leaf = 0;; ++leaf) {
    const std::int64_t first = begin + (leaf * size >> t.leaf_bits);
    const std::int64_t last = begin + ((leaf + 1) * size >> t.leaf_bits);
    clear(sum);
    accumulate<rows, vectors, left>(sum, t.a + first * (left == Left::rows ? 1 : t.a_step),
                                    t.a_step, t.b + first * panel_columns, t.b_panel,
                                    t.ahead + first * t.ahead_step, t.ahead_step, last - first);
    std::int64_t level = 0;
    for (; (leaf >> level & 1) != 0; ++level) add_stored(sum, stack[level]);
    if (leaf + 1 == leaves) return;
    store_all(stack[level], sum);
  }
}

/// A tile whose inner range, or that of each of several matrices, is cut in leaves.
template <int rows, int vectors, Left left>
void leaves_tile(const Tile& t) {
  alignas(64) StoredTile<rows, vectors> stack[4];
  StoredTile<rows, vectors>& total = stack[3];  // of the matrices before
  Vec sum[rows][vectors];
  std::int64_t begin = 0;
  for (std::int64_t matrix = 0;; ++matrix) {
    const std::int64_t size = t.sizes == nullptr ? t.inner : t.sizes[matrix];
    tree<rows, vectors, left>(sum, stack, t, begin, size);
    if (matrix > 0) add_stored(sum, total);
    if (matrix + 1 == t.matrices) break;
    store_all(total, sum);
    begin += size;
  }
  finish_any(sum, t);
}

}  // namespace fst::kernels::FST_ISA_NS
