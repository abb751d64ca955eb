#include "kernels/cuda/attention_decode.h"

/// One row of a sequence, as in decoding. A block takes one split of the keys and up to eight query
/// heads of one KV head. First a thread takes a key and runs the chains of its scores; then a
/// half-warp takes a head and runs the softmax over the tiles in order; then a thread takes an
/// element of the output and runs the chains over the keys. Keys and values come by asynchronous
/// copies of 16 bytes through a ring of stages in shared memory, as they are stored; while one is
/// used the next three are under way, values already during the softmax.
namespace fst::kernels::gpu::forward {

namespace {

constexpr int most_heads = 8;
constexpr int split_tiles = split_keys / tile_keys, split_blocks = split_keys / cache_block;
constexpr int stages = 4;
// A stage holds 16 elements of the heads of 256 keys, or 32 values. The rows of a block of keys,
// and one more so that the next block's lie in other banks:
constexpr int round_keys = threads, key_block = (piece + 1) * cache_block;
constexpr int value_blocks = 2, value_keys = value_blocks * cache_block;
constexpr int stage_size = round_keys / cache_block * key_block;
static_assert(stage_size >= value_keys * largest_head && tile_keys % value_keys == 0);

template <class T>
struct alignas(16) DecodeShared {
  T ring[stages][stage_size];
  float q[most_heads][largest_head];
  float scores[most_heads][split_keys];    // and then e^(score - m)
  float shrink[most_heads][split_tiles];   // what a tile does to the output so far
  float m[most_heads], total[most_heads];  // of the split
  float normal[most_heads];
  std::int32_t blocks[split_blocks];  // of the cache, that hold the split
};

/// What a block takes: keys [first, last) and heads [head, head + count).
struct Part {
  Sequence sequence;
  std::int64_t index, kv_head, head;
  int count, first, last, visible;
};

template <class T>
DEVICE Part part_of_block(const Arguments<T>& a) {
  const PagedBatch& batch = a.batch;
  const std::int64_t group = batch.heads / batch.kv_heads;
  const auto chunks = parts_of(group, most_heads);
  const std::int64_t chunk = blockIdx.y % chunks, split = blockIdx.y / chunks;
  Part part{};
  part.index = blockIdx.x / batch.kv_heads;
  part.kv_head = blockIdx.x % batch.kv_heads;
  part.sequence = sequence_of(batch, part.index);
  part.head = part.kv_head * group + chunk * most_heads;
  const std::int64_t rest = group - chunk * most_heads;
  part.count = static_cast<int>(rest < most_heads ? rest : most_heads);
  part.visible = part.sequence.context + 1;
  part.first = static_cast<int>(split) * split_keys;
  part.last = part.visible < part.first + split_keys ? part.visible : part.first + split_keys;
  return part;
}

/// 16 bytes on their way to shared memory.
template <class T>
DEVICE void bring16(T* to, const T* from, bool aligned) {
  if (aligned) {
    copy_async_16(to, from);
  } else {
#pragma unroll 1
    for (int i = 0; i < static_cast<int>(16 / sizeof(T)); ++i) to[i] = from[i];
  }
}

/// The stages of a block: first pieces of all heads for 256 keys after the other, then values.
template <class T>
struct Stages {
  static constexpr int per_copy = static_cast<int>(16 / sizeof(T));
  static constexpr int per_piece = piece * cache_block / per_copy;  // copies of a block
  DecodeShared<T>& s;
  const Arguments<T>& a;
  const Part& part;
  int dim, keys, pieces, key_stages, all;
  bool aligned;

  DEVICE Stages(DecodeShared<T>& shared, const Arguments<T>& arguments, const Part& what)
      : s(shared), a(arguments), part(what) {
    dim = static_cast<int>(a.batch.dim);
    keys = part.last - part.first;
    pieces = (dim + piece - 1) / piece;
    key_stages = (keys + round_keys - 1) / round_keys * pieces;
    all = key_stages + (keys + value_keys - 1) / value_keys;
    aligned = aligned16(a.cache);
  }
  DEVICE T* slot(int stage) const { return s.ring[stage % stages]; }

  DEVICE void bring_keys(int stage) const {
    const int begin = stage / pieces * round_keys, h = stage % pieces * piece;
    const int rest = (dim - h) * cache_block;  // elements that the head has
#pragma unroll
    for (int i = 0; i < round_keys / cache_block * per_piece; i += threads) {
      const int copy = i + static_cast<int>(threadIdx.x);
      const int b = copy / per_piece, at = copy % per_piece * per_copy;
      if (begin + b * cache_block >= keys || at >= rest) continue;
      const T* const from =
          keys_of(a.cache, a.batch, s.blocks[begin / cache_block + b], part.kv_head);
      bring16(slot(stage) + b * key_block + at, from + h * cache_block + at, aligned);
    }
  }
  DEVICE void bring_values(int stage) const {
    const int begin = (stage - key_stages) * value_keys, block = cache_block * dim;
#pragma unroll
    for (int b = 0; b < value_blocks; ++b) {
      const int rest = (keys - begin) * dim - b * block;  // elements of keys that exist
      for (int at = static_cast<int>(threadIdx.x) * per_copy; at < block && at < rest;
           at += threads * per_copy) {
        const T* const from =
            keys_of(a.cache, a.batch, s.blocks[begin / cache_block + b], part.kv_head) + block;
        bring16(slot(stage) + b * block + at, from + at, aligned);
      }
    }
  }
  /// A group of copies, empty behind the last stage.
  DEVICE void bring(int stage) const {
    if (stage < key_stages) {
      bring_keys(stage);
    } else if (stage < all) {
      bring_values(stage);
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

/// A thread's key of each round: its scores with all heads, each one chain over the head's
/// elements.
template <class T>
DEVICE void score_keys(DecodeShared<T>& s, const Stages<T>& ring, const Part& part, float scale) {
  float score[most_heads] = {};
  const int thread = static_cast<int>(threadIdx.x);
  for (int stage = 0; stage < ring.key_stages; ++stage) {
    const T* const from =
        ring.next(stage) + thread / cache_block * key_block + thread % cache_block;
    const int h = stage % ring.pieces * piece, key = stage / ring.pieces * round_keys + thread;
    if (key >= ring.keys) continue;
    if (h + piece <= ring.dim) {
      float k[piece];
#pragma unroll
      for (int i = 0; i < piece; ++i) k[i] = widened(from[i * cache_block]);
#pragma unroll
      for (int g = 0; g < most_heads; ++g) {
        if (g >= part.count) break;
#pragma unroll
        for (int i = 0; i < piece; ++i) score[g] = fma(s.q[g][h + i], k[i], score[g]);
      }
    } else {
      for (int i = 0; h + i < ring.dim; ++i) {
        const float k = widened(from[i * cache_block]);
#pragma unroll
        for (int g = 0; g < most_heads; ++g) {
          if (g < part.count) score[g] = fma(s.q[g][h + i], k, score[g]);
        }
      }
    }
    if (h + piece < ring.dim) continue;
#pragma unroll
    for (int g = 0; g < most_heads; ++g) {
      s.scores[g][key] = score[g] * scale;
      score[g] = 0.0f;
    }
  }
}

/// A half-warp's head: the softmax, tile by tile.
template <class T>
DEVICE void soften_head(DecodeShared<T>& s, const Part& part) {
  const int g = half_warp_of(), keys = part.last - part.first;
  if (g / 2 * 2 >= most_heads) return;  // whole warps
  float m = -infinity(), total = 0.0f;
  for (int tile = 0; tile < keys; tile += tile_keys) {
    float score[tile_blocks], greatest = -infinity();
#pragma unroll
    for (int b = 0; b < tile_blocks; ++b) {
      const int key = tile + b * lanes + lane_of();
      score[b] = key < keys ? s.scores[g][key] : -infinity();
      greatest = greater(greatest, score[b]);
    }
    const float tile_m = maximum(greatest);
    const bool grows = tile_m > m;
    const float shrink = grows && m != -infinity() ? exp(m - tile_m) : 1.0f;
    m = grows ? tile_m : m;
    total = total * shrink;
#pragma unroll
    for (int b = 0; b < tile_blocks; ++b) {
      if (tile + b * lanes >= keys) continue;
      const float p = exp(score[b] - m);
      s.scores[g][tile + b * lanes + lane_of()] = p;
      total = total + p;
    }
    if (lane_of() == 0) s.shrink[g][tile / tile_keys] = shrink;
  }
  total = sum(total);
  if (lane_of() != 0) return;
  s.m[g] = m;
  s.total[g] = total;
  s.normal[g] = 1.0f / total;
}

/// Continues the chain of an output over 16 keys, or the first `count`.
DEVICE float weigh_block(float out, const float* weights, const float (&v)[cache_block],
                         int count) {
  if (count >= cache_block) {
#pragma unroll
    for (int i = 0; i < cache_block; i += 4) {
      const float4 four = read4(weights + i);
#pragma unroll
      for (int e = 0; e < 4; ++e) out = fma(gpu::part(four, e), v[i + e], out);
    }
  } else {
#pragma unroll
    for (int i = 0; i < cache_block; ++i) {
      if (i < count) out = fma(weights[i], v[i], out);
    }
  }
  return out;
}

/// A thread's element h of the output for the heads `share`, `share` + shares, ...: chains over the
/// keys.
template <int shares, class T>
DEVICE void weigh_values(float (&out)[most_heads / shares], const DecodeShared<T>& s,
                         const Stages<T>& ring, const Part& part, int h, int share) {
  for (int stage = ring.key_stages; stage < ring.all; ++stage) {
    const T* const from = ring.next(stage) + h;
    const int begin = (stage - ring.key_stages) * value_keys;
    if (h >= ring.dim) continue;
#pragma unroll 1
    for (int b = 0; b < value_keys; b += cache_block) {
      const int first = begin + b, count = ring.keys - first;
      float v[cache_block];
#pragma unroll
      for (int i = 0; i < cache_block; ++i) {
        v[i] = i < count ? widened(from[(b + i) * ring.dim]) : 0.0f;
      }
#pragma unroll
      for (int r = 0; r < most_heads / shares; ++r) {
        const int g = r * shares + share;
        if (g >= part.count) break;
        if (first % tile_keys == 0) out[r] = out[r] * s.shrink[g][first / tile_keys];
        out[r] = weigh_block(out[r], &s.scores[g][first], v, count);
      }
    }
  }
}

/// Element h of head part.head + g, and with element 0 what there is of the head's softmax.
template <class T>
DEVICE void keep_output(float out, const DecodeShared<T>& s, const Arguments<T>& a,
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

template <class T, int C>
KERNEL(threads, 2)
decode_kernel(Arguments<T> a) {
  constexpr int shares = threads / C;
  DecodeShared<T>& s = shared_memory<DecodeShared<T>>();
  const Part part = part_of_block(a);
  if (part.sequence.rows != 1 || part.first >= part.last) return;
  const int dim = static_cast<int>(a.batch.dim), thread = static_cast<int>(threadIdx.x);
  if (part.first + thread * cache_block < part.last && thread < split_blocks) {
    s.blocks[thread] = part.sequence.table[part.first / cache_block + thread];
  }
  const T* const q = a.q.data + part.sequence.first_row * a.q.stride + part.head * dim;
  for (int i = thread; i < part.count * dim; i += threads) s.q[i / dim][i % dim] = widened(q[i]);
  sync_block();
  const Stages<T> ring(s, a, part);
  ring.begin();
  score_keys(s, ring, part, a.scale);
  sync_block();
  soften_head(s, part);
  const int h = thread % C, share = thread / C;
  float out[most_heads / shares] = {};
  weigh_values<shares>(out, s, ring, part, h, share);
  if (h >= dim) return;
#pragma unroll
  for (int r = 0; r < most_heads / shares; ++r) {
    if (r * shares + share < part.count) keep_output(out[r], s, a, part, h, r * shares + share);
  }
}

}  // namespace

template <class T>
void decode(const Cuda& cuda, const Arguments<T>& a) {
  const PagedBatch& batch = a.batch;
  const std::int64_t chunks = parts_of(batch.heads / batch.kv_heads, most_heads);
  const dim3 grid(static_cast<unsigned>(batch.sequences * batch.kv_heads),
                  static_cast<unsigned>(a.splits * chunks));
  const auto kernel = batch.dim <= 64 ? decode_kernel<T, 64> : decode_kernel<T, 128>;
  allow_shared(kernel, sizeof(DecodeShared<T>));
  launch(kernel, grid, dim3(threads), sizeof(DecodeShared<T>), cuda.stream, a);
}

template void decode(const Cuda&, const Arguments<float>&);
template void decode(const Cuda&, const Arguments<Bf16>&);

}  // namespace fst::kernels::gpu::forward
