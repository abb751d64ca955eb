#include "kernels/cuda/attention_split.h"
#include "kernels/cuda/attention_walk.h"

/// The schedule FloatRow: one row of a sequence, as in decoding, in float32. A block takes one
/// split of the keys and up to eight query heads of one KV head. First a thread takes four keys and
/// runs the chains of their scores, with many loads under way at a time; then a half-warp takes a
/// tile of a head and runs its softmax; then a thread takes an element of the output and runs the
/// chains over the keys. Values come by asynchronous copies through a ring of stages in shared
/// memory, as they are stored; the first are under way from the beginning on.
namespace fst::kernels::gpu::forward {

namespace {

constexpr int threads = attention_threads;
constexpr int split_tiles = split_keys / tile_keys;
constexpr int half_warps = threads / lanes;
constexpr int columns = static_cast<int>(largest_head), shares = threads / columns;
constexpr int stages = 4;

constexpr int key_loads = 16;  // of four keys: a thread has 256 bytes of them under way
constexpr int stage_blocks = 2, stage_keys = stage_blocks * cache_block;
static_assert(split_keys == 4 * threads && tile_keys % stage_keys == 0);

/// G: query heads of the block, of which the last ones may not exist. Their queries are zeros.
template <int G>
struct alignas(16) DecodeShared {
  float ring[stages][stage_keys * columns];
  float q[G][columns];
  float scores[G][split_keys];        // and then e^(score - m)
  float greatest[G][split_tiles];     // score of a tile
  float shrink[G][split_tiles];       // what a tile does to the output so far
  float m[G], total[G];               // of the split
  std::int32_t blocks[split_blocks];  // of the cache, that hold the split
};

/// The queries, and which cache blocks hold the split: also those behind its end, so that nothing
/// waits for where that is.
template <int G>
DEVICE void load_part(DecodeShared<G>& s, const Arguments<float>& a, const Part& part) {
  const int thread = static_cast<int>(threadIdx.x), dim = static_cast<int>(a.batch.dim);
  const int block = part.first / cache_block + thread;
  if (thread < split_blocks && block < static_cast<int>(a.batch.max_blocks)) {
    s.blocks[thread] = part.sequence.table[block];
  }
  const int h = thread % columns;
  const float* const q = queries_of(a, part);
#pragma unroll
  for (int g = thread / columns; g < G; g += shares) {
    s.q[g][h] = g < part.count && h < dim ? q[g * dim + h] : 0.0f;
  }
}

/// Continues the scores of four keys with element h of the heads.
template <int G>
DEVICE void score_element(float4 (&score)[G], const DecodeShared<G>& s, int h, float4 k) {
#pragma unroll
  for (int g = 0; g < G; ++g) score[g] = fma(s.q[g][h], k, score[g]);
}

/// A thread's four keys: their scores with all heads, each one chain over the head's elements.
template <int G>
DEVICE void score_keys(DecodeShared<G>& s, const Arguments<float>& a, const Part& part) {
  const int thread = static_cast<int>(threadIdx.x), dim = static_cast<int>(a.batch.dim);
  const int key = 4 * thread;
  if (key >= part.keys) return;
  const float* const from =
      keys_of(a.cache, a.batch, s.blocks[key / cache_block], part.kv_head) + key % cache_block;
  float4 score[G] = {};
  int h = 0;
  if (aligned4(from)) {
#pragma unroll 1
    for (; h + key_loads <= dim; h += key_loads) {
      float4 k[key_loads];
#pragma unroll
      for (int i = 0; i < key_loads; ++i) k[i] = read4(from + (h + i) * cache_block);
#pragma unroll
      for (int i = 0; i < key_loads; ++i) score_element(score, s, h + i, k[i]);
    }
  }
#pragma unroll 1
  for (; h < dim; ++h) score_element(score, s, h, read4_upto(from + h * cache_block, 4));
#pragma unroll
  for (int g = 0; g < G; ++g) write4(&s.scores[g][key], multiply(score[g], a.scale));
}

/// Half-warps take the tiles of the heads: first the greatest scores, then what these make of the
/// maxima so far, and all e^(score - m).
template <int G>
DEVICE void soften_tiles(DecodeShared<G>& s, int keys) {
  static_assert(G * split_tiles % half_warps == 0);  // whole warps
#pragma unroll 1
  for (int unit = half_warp_of(); unit < G * split_tiles; unit += half_warps) {
    const int g = unit / split_tiles, tile = unit % split_tiles * tile_keys;
    float greatest = -infinity();
#pragma unroll
    for (int b = 0; b < tile_blocks; ++b) {
      const int key = tile + b * lanes + lane_of();
      greatest = greater(greatest, key < keys ? s.scores[g][key] : -infinity());
    }
    greatest = maximum(greatest);
    if (lane_of() == 0) s.greatest[g][tile / tile_keys] = greatest;
  }
  sync_block();
#pragma unroll 1
  for (int unit = half_warp_of(); unit < G * split_tiles; unit += half_warps) {
    const int g = unit / split_tiles, tile = unit % split_tiles * tile_keys;
    if (tile >= keys) continue;
    float m = -infinity();
    for (int i = 0; i < tile / tile_keys; ++i) m = greater(s.greatest[g][i], m);
    const float shrink = grow(m, s.greatest[g][tile / tile_keys]);
#pragma unroll
    for (int b = 0; b < tile_blocks; ++b) {
      const int key = tile + b * lanes + lane_of();
      if (tile + b * lanes < keys) {
        s.scores[g][key] = exp((key < keys ? s.scores[g][key] : -infinity()) - m);
      }
    }
    if (lane_of() != 0) continue;
    s.shrink[g][tile / tile_keys] = shrink;
    if (tile + tile_keys >= keys) s.m[g] = m;
  }
}

/// A half-warp's head: the sum, rescaled at every tile.
template <int G>
DEVICE void add_weights(DecodeShared<G>& s, int keys) {
  const int g = half_warp_of();
  if (g >= G) return;  // whole warps
  float total = 0.0f;
#pragma unroll 1
  for (int tile = 0; tile < keys; tile += tile_keys) {
    total = total * s.shrink[g][tile / tile_keys];
#pragma unroll
    for (int b = 0; b < tile_blocks; ++b) {
      if (tile + b * lanes < keys) total = total + s.scores[g][tile + b * lanes + lane_of()];
    }
  }
  total = sum(total);
  if (lane_of() != 0) return;
  s.total[g] = total;
}

/// The values of a block's keys, whole cache blocks at a time.
template <int G>
struct Stages {
  DecodeShared<G>& s;
  const float* values;    // of the KV head in cache block 0
  std::int64_t stride;    // from one cache block to the next
  int size, keys, count;  // elements of a block; keys; stages
  bool aligned;

  DEVICE Stages(DecodeShared<G>& shared, const Arguments<float>& a, const Part& part) : s(shared) {
    size = cache_block * static_cast<int>(a.batch.dim);
    values = keys_of(a.cache, a.batch, 0, part.kv_head) + size;
    stride = a.batch.kv_heads * 2 * size;
    keys = part.keys;
    count = (keys + stage_keys - 1) / stage_keys;
    aligned = aligned16(a.cache);
  }
  DEVICE float* slot(int stage) const { return s.ring[stage % stages]; }

  /// A group of copies, empty behind the last stage.
  DEVICE void bring(int stage) const {
    constexpr int per_copy = static_cast<int>(16 / sizeof(float));
    const int thread = static_cast<int>(threadIdx.x);
#pragma unroll
    for (int b = 0; b < stage_blocks; ++b) {
      const int block = stage * stage_blocks + b;
      if (block * cache_block >= keys) break;
      const float* const from = values + s.blocks[block] * stride;
      float* const to = slot(stage) + b * size;
      if (aligned) {
#pragma unroll 1
        for (int at = thread * per_copy; at < size; at += threads * per_copy) {
          copy_async_16(to + at, from + at);
        }
      } else {
#pragma unroll 1
        for (int at = thread; at < size; at += threads) to[at] = from[at];
      }
    }
    copy_async_commit();
  }
  DEVICE void begin() const {
#pragma unroll 1
    for (int stage = 0; stage < stages - 1; ++stage) bring(stage);
  }
  /// Waits for a stage; the one before it has been used by all, its place is filled anew.
  DEVICE const float* next(int stage) const {
    copy_async_wait<stages - 2>();
    sync_block();
    bring(stage + stages - 1);
    return slot(stage);
  }
};

/// Continues the chains of outputs over `n` keys from `key` on, whose values begin at `from`.
template <int n, int G>
DEVICE void weigh_keys(float (&out)[G / shares], const DecodeShared<G>& s, const float* from,
                       int dim, int key, int share) {
  float v[n];
#pragma unroll
  for (int i = 0; i < n; ++i) v[i] = from[i * dim];
#pragma unroll
  for (int r = 0; r < G / shares; ++r) {
    const float* const weights = &s.scores[r * shares + share][key];
    if constexpr (n % 4 == 0) {
#pragma unroll
      for (int i = 0; i < n; i += 4) {
        const float4 four = read4(weights + i);
#pragma unroll
        for (int e = 0; e < 4; ++e) out[r] = fma(gpu::part(four, e), v[i + e], out[r]);
      }
    } else {
#pragma unroll
      for (int i = 0; i < n; ++i) out[r] = fma(weights[i], v[i], out[r]);
    }
  }
}

/// A thread's element of the output, for the heads share_of_thread(), + shares, ...: chains over
/// the keys.
DEVICE int element_of_thread() {
  return static_cast<int>(threadIdx.x) % columns;
}
DEVICE int share_of_thread() {
  return static_cast<int>(threadIdx.x) / columns;
}
template <int G>
DEVICE void weigh_values(float (&out)[G / shares], const DecodeShared<G>& s, const Stages<G>& ring,
                         int dim) {
  constexpr int many = stage_keys;
  const int h = element_of_thread(), share = share_of_thread();
  for (int stage = 0; stage < ring.count; ++stage) {
    const float* const from = ring.next(stage) + h;
    if (h >= dim) continue;
    const int begin = stage * stage_keys, rest = ring.keys - begin;
    const int count = rest < stage_keys ? rest : stage_keys;
    if (begin % tile_keys == 0) {
#pragma unroll
      for (int r = 0; r < G / shares; ++r) {
        out[r] = out[r] * s.shrink[r * shares + share][begin / tile_keys];
      }
    }
    int i = 0;
#pragma unroll 1
    for (; i + many <= count; i += many) {
      weigh_keys<many>(out, s, from + i * dim, dim, begin + i, share);
    }
#pragma unroll 1
    for (; i + 4 <= count; i += 4) {
      weigh_keys<4>(out, s, from + i * dim, dim, begin + i, share);
    }
#pragma unroll 1
    for (; i < count; ++i) weigh_keys<1>(out, s, from + i * dim, dim, begin + i, share);
  }
}

/// The elements of the output that a thread owns.
template <int G>
struct Owned {
  float out[G / shares] = {};
};

template <int G>
class FloatRow {
 public:
  using Element = float;
  using Work = Parts<G>;
  using Shared = DecodeShared<G>;
  static constexpr int threads = forward::threads, step = split_keys;

  DEVICE static Work work(Shared&, const Arguments<float>& a) { return Work(a); }
  DEVICE FloatRow(Shared& s, const Arguments<float>& a, const Work& work)
      : s_(s), a_(a), part_(work.part()), ring_(s, a, part_) {}
  DEVICE Owned<G> begin() const {
    load_part(s_, a_, part_);
    sync_block();
    ring_.begin();
    return {};
  }
  DEVICE void walk(Owned<G>& owned, int) const {
    score_keys(s_, a_, part_);
    sync_block();
    soften_tiles(s_, ring_.keys);
    sync_block();
    add_weights(s_, ring_.keys);
    weigh_values(owned.out, s_, ring_, static_cast<int>(a_.batch.dim));
  }
  DEVICE void write(const Owned<G>& owned) const {
    const int h = element_of_thread();
    if (h >= static_cast<int>(a_.batch.dim)) return;
#pragma unroll
    for (int r = 0; r < G / shares; ++r) {
      const int g = r * shares + share_of_thread();
      if (g >= part_.count) continue;
      keep_output(owned.out[r], {s_.m[g], s_.total[g]}, a_, part_, h, g);
    }
  }

 private:
  Shared& s_;
  const Arguments<float>& a_;
  const Part& part_;
  const Stages<G> ring_;
};

}  // namespace

template <>
void attend_row(const Cuda& cuda, const Arguments<float>& a) {
  const std::int64_t group = a.batch.heads / a.batch.kv_heads;
  if (group <= 2) {
    attend_by<FloatRow<2>>(cuda, a);
  } else if (group <= 4) {
    attend_by<FloatRow<4>>(cuda, a);
  } else {
    attend_by<FloatRow<8>>(cuda, a);
  }
}

}  // namespace fst::kernels::gpu::forward
