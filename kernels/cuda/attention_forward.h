#pragma once

#include "kernels/cuda/attention_softmax.h"
#include "kernels/cuda/attention_unit.h"

/// How float32 products take a unit: its way into shared memory, and the two products.
namespace fst::kernels::gpu::forward {

inline constexpr int threads = attention_threads;
inline constexpr int piece = 16;                 // elements of K's heads, or keys of V, at a time
inline constexpr int key_step = tile_keys + 16;  // rows written together lie in other banks
inline constexpr int row_size = most_pairs + 4;

template <int D>
struct alignas(16) Shared {
  float q[D][row_size];
  float scores[tile_keys][row_size];  // and then e^(score - m)
  float pieces[2][piece * key_step];
  std::int32_t blocks[2][tile_blocks];          // of this tile and the next
  float shrink[most_pairs];                     // what a tile does to the output so far
  float m[most_pairs], sum[most_pairs][lanes];  // softmax of the pairs; sums by lane
  Softmax joined[most_pairs];                   // of the splits so far
  Rescale rescale[most_pairs];                  // what a join does to the outputs
  float normal[most_pairs];
  Units::Shared units;
};

/// A thread's four pairs, and its columns: four keys twice, or D / 64 times four elements.
struct Place {
  int thread, warp_pair, pair, key, half;
  DEVICE Place() {
    const int warp = uniform(static_cast<int>(threadIdx.x) / 32);
    const int lane = static_cast<int>(threadIdx.x) % 32;
    thread = warp * 32 + lane;
    warp_pair = warp / 2 * 16;
    pair = warp_pair + lane / 8 * 4;
    half = warp % 2;
    key = half * 64 + lane % 8 * 4;
  }
  template <int D>
  DEVICE int element(int j) const {
    return half * (D / 2) + key % 64 + 32 * j;
  }
};

template <int D>
DEVICE void load_queries(Shared<D>& s, const Arguments<float>& a, const Unit& unit, int thread) {
  const int dim = static_cast<int>(a.batch.dim);
#pragma unroll 1
  for (int i = thread; i < most_pairs * D / 4; i += threads) {
    const int pair = i / (D / 4), h = i % (D / 4) * 4;
    const std::int64_t row = unit.sequence.first_row + unit.row(pair);
    const float* const from = a.q.data + row * a.q.stride + unit.head(pair) * dim + h;
    const float4 four = read4_upto(from, pair < unit.pairs ? dim - h : 0);
#pragma unroll
    for (int e = 0; e < 4; ++e) s.q[h + e][pair] = part(four, e);
  }
}

/// Which cache blocks hold the tile's keys; 0 where there are none.
template <int D>
DEVICE void load_blocks(Shared<D>& s, const Unit& unit, int tile, int b) {
  if (b >= tile_blocks) return;
  const int key = tile + b * cache_block;
  s.blocks[tile / tile_keys % 2][b] = key < unit.last ? unit.sequence.table[key / cache_block] : 0;
}

using Staged = float4[2];

/// Which of a piece of K a thread brings: of the cache blocks `block` and block + 4, element
/// `element` of 16, four keys from `key` on. A thread's number might be negative for all ptxas
/// knows; shifts and masks are the same, and cheaper to find anew than to keep.
struct KeyPlace {
  int block, element, key, within;  // within: floats of the block's piece before the thread's
  DEVICE explicit KeyPlace(int thread)
      : block(thread >> 6),
        element(thread >> 2 & 15),
        key((thread & 3) * 4),
        within((thread & 63) * 4) {}
};

/// 16 elements of all keys of the tile, from element h on: four keys of one element at a time.
template <int D>
DEVICE void fetch_keys(Staged& staged, const Shared<D>& s, const Arguments<float>& a,
                       const Unit& unit, int tile, int h, int thread) {
  const KeyPlace place(thread);
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const int b = place.block + 4 * i;
    const bool exists =
        tile + b * cache_block < unit.last && h + place.element < static_cast<int>(a.batch.dim);
    const float* const keys =
        keys_of(a.cache, a.batch, s.blocks[tile / tile_keys % 2][b], unit.kv_head);
    staged[i] = read4_upto(keys + h * cache_block + place.within, exists ? 4 : 0);
  }
}
template <int D>
DEVICE void keep_keys(Shared<D>& s, int buffer, const Staged& staged, int thread) {
  const KeyPlace place(thread);
  float* const to = &s.pieces[buffer][place.element * key_step + place.key];
#pragma unroll
  for (int i = 0; i < 2; ++i) write4(to + (place.block + 4 * i) * cache_block, staged[i]);
}

/// The 16 values of the tile's cache block that begins at `key`.
template <int D>
DEVICE void fetch_values(Staged& staged, const Shared<D>& s, const Arguments<float>& a,
                         const Unit& unit, int tile, int key, int thread) {
  constexpr int row_quads = D / 4;
  const int h = thread % row_quads * 4;
  const int dim = static_cast<int>(a.batch.dim);
  const float* const values =
      keys_of(a.cache, a.batch, s.blocks[tile / tile_keys % 2][key / cache_block], unit.kv_head) +
      cache_block * dim + h;
#pragma unroll
  for (int i = 0; i < D / 64; ++i) {
    const int j = thread / row_quads + threads / row_quads * i;
    staged[i] = read4_upto(values + j * dim, tile + key + j < unit.last ? dim - h : 0);
  }
}
template <int D>
DEVICE void keep_values(Shared<D>& s, int buffer, const Staged& staged, int thread) {
#pragma unroll
  for (int i = 0; i < D / 64; ++i) {
    write4(&s.pieces[buffer][(thread + threads * i) * 4], staged[i]);
  }
}

template <int D>
using Output = float4[4][D / 64];

/// Continues the chains of scores over up to 16 elements of the heads from element h on.
template <int D>
DEVICE void multiply_keys(float4 (&score)[4][2], const Shared<D>& s, int buffer, int h, int count,
                          const Place& place) {
  const auto step = [&](int i) {
    const float4 q = read4(&s.q[h + i][place.pair]);
    const float* const keys = &s.pieces[buffer][i * key_step + place.key];
    const float4 k[2] = {read4(keys), read4(keys + 32)};
#pragma unroll
    for (int r = 0; r < 4; ++r) {
#pragma unroll
      for (int j = 0; j < 2; ++j) score[r][j] = fma(part(q, r), k[j], score[r][j]);
    }
  };
  if (count >= piece) {
#pragma unroll 8
    for (int i = 0; i < piece; ++i) step(i);
  } else {
#pragma unroll 1
    for (int i = 0; i < count; ++i) step(i);
  }
}

/// Continues the chains of the output over 16 keys from `key` of the tile on; a key that a pair
/// does not see is not touched.
template <int D>
DEVICE void multiply_values(Output<D>& out, const Shared<D>& s, const Unit& unit, int buffer,
                            int tile, int key, const Place& place) {
  const auto step = [&](int j, const auto& sees) {
    const float4 p = read4(&s.scores[key + j][place.pair]);
#pragma unroll
    for (int c = 0; c < D / 64; ++c) {
      const float4 v = read4(&s.pieces[buffer][j * D + place.template element<D>(c)]);
#pragma unroll
      for (int r = 0; r < 4; ++r) {
        if (sees(r)) out[r][c] = fma(part(p, r), v, out[r][c]);
      }
    }
  };
  if (tile + key + piece <= unit.visible(0)) {
#pragma unroll 8
    for (int j = 0; j < piece; ++j) step(j, [](int) { return true; });
    return;
  }
  int visible[4];
#pragma unroll
  for (int r = 0; r < 4; ++r) visible[r] = unit.visible(place.pair + r) - tile - key;
#pragma unroll 1
  for (int j = 0; j < piece; ++j) step(j, [&](int r) { return j < visible[r]; });
}

}  // namespace fst::kernels::gpu::forward
