#include "kernels/cuda/attention_decode.h"

/// One row of a sequence, as in decoding. A block takes one split of the keys and up to eight query
/// heads of one KV head. First a thread takes four keys and runs the chains of their scores, with
/// many loads under way at a time; then a half-warp takes a tile of a head and runs its softmax;
/// then a thread takes an element of the output and runs the chains over the keys. Values come by
/// asynchronous copies through a ring of stages in shared memory, as they are stored; the first are
/// under way from the beginning on.
namespace fst::kernels::gpu::forward {

namespace {

constexpr int split_tiles = split_keys / tile_keys, split_blocks = split_keys / cache_block;
constexpr int half_warps = threads / lanes;
constexpr int columns = static_cast<int>(largest_head), shares = threads / columns;
constexpr int stages = 4;

/// The sizes that depend on what an element is: a thread has 256 bytes of keys under way, a stage
/// of the ring holds 16 KiB of values.
template <class T>
constexpr int key_loads = static_cast<int>(64 / sizeof(T));
template <class T>
constexpr int stage_blocks = static_cast<int>(8 / sizeof(T));
template <class T>
constexpr int stage_keys = stage_blocks<T>* cache_block;
static_assert(split_keys == 4 * threads && tile_keys % stage_keys<Bf16> == 0);

/// G: query heads of the block, of which the last ones may not exist. Their queries are zeros.
template <class T, int G>
struct alignas(16) DecodeShared {
  T ring[stages][stage_keys<T> * columns];
  float q[G][columns];
  float scores[G][split_keys];     // and then e^(score - m)
  float greatest[G][split_tiles];  // score of a tile
  float shrink[G][split_tiles];    // what a tile does to the output so far
  float m[G], total[G];            // of the split
  float normal[G];
  std::int32_t blocks[split_blocks];  // of the cache, that hold the split
};

/// What a block takes: keys [first, last) and heads [head, head + count).
struct Part {
  Sequence sequence;
  int index, kv_head, head, count, first, last, visible;
};

template <int G, class T>
DEVICE Part part_of_block(const Arguments<T>& a) {
  const int kv_heads = static_cast<int>(a.batch.kv_heads);
  const int group = static_cast<int>(a.batch.heads) / kv_heads, chunks = (group + G - 1) / G;
  const int block = static_cast<int>(blockIdx.x), other = static_cast<int>(blockIdx.y);
  const int chunk = other % chunks, rest = group - chunk * G;
  Part part{};
  part.index = block / kv_heads;
  part.kv_head = block % kv_heads;
  part.sequence = sequence_of(a.batch, part.index);
  part.head = part.kv_head * group + chunk * G;
  part.count = rest < G ? rest : G;
  part.visible = part.sequence.context + 1;
  part.first = other / chunks * split_keys;
  part.last = part.visible < part.first + split_keys ? part.visible : part.first + split_keys;
  return part;
}

/// The queries, and which cache blocks hold the split: also those behind its end, so that nothing
/// waits for where that is.
template <class T, int G>
DEVICE void load_part(DecodeShared<T, G>& s, const Arguments<T>& a, const Part& part) {
  const int thread = static_cast<int>(threadIdx.x), dim = static_cast<int>(a.batch.dim);
  const int block = part.first / cache_block + thread;
  if (thread < split_blocks && block < static_cast<int>(a.batch.max_blocks)) {
    s.blocks[thread] = part.sequence.table[block];
  }
  const int h = thread % columns;
  const T* const q =
      a.q.data + part.sequence.first_row * a.q.stride + std::int64_t{part.head} * dim;
#pragma unroll
  for (int g = thread / columns; g < G; g += shares) {
    s.q[g][h] = g < part.count && h < dim ? widened(q[g * dim + h]) : 0.0f;
  }
}

/// Continues the scores of four keys with element h of the heads.
template <class T, int G>
DEVICE void score_element(float4 (&score)[G], const DecodeShared<T, G>& s, int h, float4 k) {
#pragma unroll
  for (int g = 0; g < G; ++g) score[g] = fma(s.q[g][h], k, score[g]);
}

/// A thread's four keys: their scores with all heads, each one chain over the head's elements.
template <class T, int G>
DEVICE void score_keys(DecodeShared<T, G>& s, const Arguments<T>& a, const Part& part) {
  const int thread = static_cast<int>(threadIdx.x), dim = static_cast<int>(a.batch.dim);
  const int key = 4 * thread;
  if (part.first + key >= part.last) return;
  const T* const from =
      keys_of(a.cache, a.batch, s.blocks[key / cache_block], part.kv_head) + key % cache_block;
  float4 score[G] = {};
  int h = 0;
  if (aligned4(from)) {
#pragma unroll 1
    for (; h + key_loads<T> <= dim; h += key_loads<T>) {
      float4 k[key_loads<T>];
#pragma unroll
      for (int i = 0; i < key_loads<T>; ++i) k[i] = read4(from + (h + i) * cache_block);
#pragma unroll
      for (int i = 0; i < key_loads<T>; ++i) score_element(score, s, h + i, k[i]);
    }
  }
#pragma unroll 1
  for (; h < dim; ++h) score_element(score, s, h, read4_upto(from + h * cache_block, 4));
#pragma unroll
  for (int g = 0; g < G; ++g) write4(&s.scores[g][key], multiply(score[g], a.scale));
}

/// Half-warps take the tiles of the heads: first the greatest scores, then what these make of the
/// maxima so far, and all e^(score - m).
template <class T, int G>
DEVICE void soften_tiles(DecodeShared<T, G>& s, int keys) {
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
    float m = -infinity(), before = m;
    for (int i = 0; i <= tile / tile_keys; ++i) {
      before = m;
      m = s.greatest[g][i] > m ? s.greatest[g][i] : m;
    }
#pragma unroll
    for (int b = 0; b < tile_blocks; ++b) {
      const int key = tile + b * lanes + lane_of();
      if (tile + b * lanes < keys) {
        s.scores[g][key] = exp((key < keys ? s.scores[g][key] : -infinity()) - m);
      }
    }
    if (lane_of() != 0) continue;
    s.shrink[g][tile / tile_keys] = m > before && before != -infinity() ? exp(before - m) : 1.0f;
    if (tile + tile_keys >= keys) s.m[g] = m;
  }
}

/// A half-warp's head: the sum, rescaled at every tile.
template <class T, int G>
DEVICE void add_weights(DecodeShared<T, G>& s, int keys) {
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
  s.normal[g] = 1.0f / total;
}

/// The values of a block's keys, whole cache blocks at a time.
template <class T, int G>
struct Stages {
  DecodeShared<T, G>& s;
  const T* values;        // of the KV head in cache block 0
  std::int64_t stride;    // from one cache block to the next
  int size, keys, count;  // elements of a block; keys; stages
  bool aligned;

  DEVICE Stages(DecodeShared<T, G>& shared, const Arguments<T>& a, const Part& part) : s(shared) {
    size = cache_block * static_cast<int>(a.batch.dim);
    values = keys_of(a.cache, a.batch, 0, part.kv_head) + size;
    stride = a.batch.kv_heads * 2 * size;
    keys = part.last - part.first;
    count = (keys + stage_keys<T> - 1) / stage_keys<T>;
    aligned = aligned16(a.cache);
  }
  DEVICE T* slot(int stage) const { return s.ring[stage % stages]; }

  /// A group of copies, empty behind the last stage.
  DEVICE void bring(int stage) const {
    constexpr int per_copy = static_cast<int>(16 / sizeof(T));
    const int thread = static_cast<int>(threadIdx.x);
#pragma unroll
    for (int b = 0; b < stage_blocks<T>; ++b) {
      const int block = stage * stage_blocks<T> + b;
      if (block * cache_block >= keys) break;
      const T* const from = values + s.blocks[block] * stride;
      T* const to = slot(stage) + b * size;
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
  DEVICE const T* next(int stage) const {
    copy_async_wait<stages - 2>();
    sync_block();
    bring(stage + stages - 1);
    return slot(stage);
  }
};

/// Continues the chains of outputs over `n` keys from `key` on, whose values begin at `from`.
template <int n, class T, int G>
DEVICE void weigh_keys(float (&out)[G / shares], const DecodeShared<T, G>& s, const T* from,
                       int dim, int key, int share) {
  float v[n];
#pragma unroll
  for (int i = 0; i < n; ++i) v[i] = widened(from[i * dim]);
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

/// A thread's element h of the output for the heads `share`, `share` + shares, ...: chains over the
/// keys.
template <class T, int G>
DEVICE void weigh_values(float (&out)[G / shares], const DecodeShared<T, G>& s,
                         const Stages<T, G>& ring, int dim, int h, int share) {
  constexpr int many = stage_keys<float>;
  for (int stage = 0; stage < ring.count; ++stage) {
    const T* const from = ring.next(stage) + h;
    if (h >= dim) continue;
    const int begin = stage * stage_keys<T>, rest = ring.keys - begin;
    const int count = rest < stage_keys<T> ? rest : stage_keys<T>;
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

/// Element h of head part.head + g, and with element 0 what there is of the head's softmax.
template <class T, int G>
DEVICE void keep_output(float out, const DecodeShared<T, G>& s, const Arguments<T>& a,
                        const Part& part, int h, int g) {
  const std::int64_t row = part.sequence.first_row, dim = a.batch.dim, head = part.head + g;
  if (part.visible <= split_keys) {
    a.out.data[row * a.out.stride + head * dim + h] = narrowed_to<T>(out * s.normal[g]);
    if (h == 0) a.lse[row * a.batch.heads + head] = s.m[g] + log(s.total[g]);
    return;
  }
  const std::int64_t slot =
      (part.index * a.batch.heads + head) * a.splits + part.first / split_keys;
  a.values[slot * dim + h] = out;
  if (h != 0) return;
  a.states[2 * slot] = s.m[g];
  a.states[2 * slot + 1] = s.total[g];
}

template <class T, int G>
KERNEL(threads, 2)
decode_kernel(Arguments<T> a) {
  DecodeShared<T, G>& s = shared_memory<DecodeShared<T, G>>();
  const Part part = part_of_block<G>(a);
  if (part.sequence.rows != 1 || part.first >= part.last) return;
  const int dim = static_cast<int>(a.batch.dim), thread = static_cast<int>(threadIdx.x);
  load_part(s, a, part);
  sync_block();
  const Stages<T, G> ring(s, a, part);
  ring.begin();
  score_keys(s, a, part);
  sync_block();
  soften_tiles(s, ring.keys);
  sync_block();
  add_weights(s, ring.keys);
  const int h = thread % columns, share = thread / columns;
  float out[G / shares] = {};
  weigh_values<T, G>(out, s, ring, dim, h, share);
  if (h >= dim) return;
#pragma unroll
  for (int r = 0; r < G / shares; ++r) {
    if (r * shares + share < part.count) keep_output(out[r], s, a, part, h, r * shares + share);
  }
}

template <int G, class T>
void decode_in_groups(const Cuda& cuda, const Arguments<T>& a) {
  const PagedBatch& batch = a.batch;
  const std::int64_t chunks = parts_of(batch.heads / batch.kv_heads, G);
  const dim3 grid(static_cast<unsigned>(batch.sequences * batch.kv_heads),
                  static_cast<unsigned>(a.splits * chunks));
  allow_shared(decode_kernel<T, G>, sizeof(DecodeShared<T, G>));
  launch(decode_kernel<T, G>, grid, dim3(threads), sizeof(DecodeShared<T, G>), cuda.stream, a);
}

}  // namespace

template <class T>
void decode(const Cuda& cuda, const Arguments<T>& a) {
  const std::int64_t group = a.batch.heads / a.batch.kv_heads;
  if (group <= 2) {
    decode_in_groups<2>(cuda, a);
  } else if (group <= 4) {
    decode_in_groups<4>(cuda, a);
  } else {
    decode_in_groups<8>(cuda, a);
  }
}

template void decode(const Cuda&, const Arguments<float>&);
template void decode(const Cuda&, const Arguments<Bf16>&);

}  // namespace fst::kernels::gpu::forward
