#include "kernels/cuda/attention_decode.h"

/// One row of a sequence, as in decoding. A block takes one split of the keys and up to eight query
/// heads of one KV head. First a thread takes a key and runs the chains of its scores; then a
/// half-warp takes a head and runs the softmax over the tiles in order; then a thread takes an
/// element of the output and runs the chains over the keys. What is loaded in one of these steps is
/// independent of everything but the query, so many loads are on their way at a time.
namespace fst::kernels::gpu::forward {

namespace {

constexpr int most_heads = 8, loads = 32, value_loads = 16;
constexpr int split_tiles = split_keys / tile_keys;

struct DecodeShared {
  float q[most_heads][largest_head];
  float scores[most_heads][split_keys];    // and then e^(score - m)
  float shrink[most_heads][split_tiles];   // what a tile does to the output so far
  float m[most_heads], total[most_heads];  // of the split
  float normal[most_heads];
};

/// What a block takes: keys [first, last) and heads [head, head + count).
struct Part {
  Sequence sequence;
  std::int64_t index, kv_head, head;
  int count, first, last, visible;
};

DEVICE Part part_of_block(const Arguments& a) {
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

/// A thread's key: its scores with all heads, each one chain over the head's elements.
DEVICE void score_keys(DecodeShared& s, const Arguments& a, const Part& part) {
  const int dim = static_cast<int>(a.batch.dim);
  for (int key = part.first + static_cast<int>(threadIdx.x); key < part.last; key += threads) {
    const float* const from =
        keys_of(a.cache, a.batch, part.sequence.table[key / cache_block], part.kv_head) +
        key % cache_block;
    float score[most_heads] = {};
    int h = 0;
    for (; h + loads <= dim; h += loads) {
      float k[loads];
#pragma unroll
      for (int i = 0; i < loads; ++i) k[i] = from[(h + i) * cache_block];
#pragma unroll
      for (int i = 0; i < loads; ++i) {
#pragma unroll
        for (int g = 0; g < most_heads; ++g) {
          if (g < part.count) score[g] = fma(s.q[g][h + i], k[i], score[g]);
        }
      }
    }
    for (; h < dim; ++h) {
      const float k = from[h * cache_block];
#pragma unroll
      for (int g = 0; g < most_heads; ++g) {
        if (g < part.count) score[g] = fma(s.q[g][h], k, score[g]);
      }
    }
#pragma unroll
    for (int g = 0; g < most_heads; ++g) s.scores[g][key - part.first] = score[g] * a.scale;
  }
}

/// A half-warp's head: the softmax, tile by tile.
DEVICE void soften_head(DecodeShared& s, const Part& part) {
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

/// A thread's element of the output, for every (threads / C)-th head: one chain over the keys.
template <int C>
DEVICE void weigh_values(DecodeShared& s, const Arguments& a, const Part& part) {
  constexpr int shares = threads / C, heads = most_heads / shares;
  const int dim = static_cast<int>(a.batch.dim), keys = part.last - part.first;
  const int h = static_cast<int>(threadIdx.x) % C, share = static_cast<int>(threadIdx.x) / C;
  if (h >= dim) return;
  const auto value = [&](int key) {
    const std::int32_t block = part.sequence.table[(part.first + key) / cache_block];
    return keys_of(a.cache, a.batch, block,
                   part.kv_head)[(cache_block + key % cache_block) * dim + h];
  };
  float out[heads] = {};
  for (int begin = 0; begin < keys; begin += value_loads) {
    float v[value_loads];
#pragma unroll
    for (int i = 0; i < value_loads; ++i) v[i] = begin + i < keys ? value(begin + i) : 0.0f;
#pragma unroll
    for (int r = 0; r < heads; ++r) {
      const int g = r * shares + share;
      if (begin % tile_keys == 0) out[r] = out[r] * s.shrink[g][begin / tile_keys];
#pragma unroll
      for (int i = 0; i < value_loads; ++i) {
        if (begin + i < keys) out[r] = fma(s.scores[g][begin + i], v[i], out[r]);
      }
    }
  }
  const bool whole = part.visible <= split_keys;
#pragma unroll
  for (int r = 0; r < heads; ++r) {
    const int g = r * shares + share;
    if (g >= part.count) continue;
    const std::int64_t head = part.head + g;
    const std::int64_t slot =
        (part.index * a.batch.heads + head) * a.splits + part.first / split_keys;
    if (whole) {
      a.out.data[part.sequence.first_row * a.out.stride + head * dim + h] = out[r] * s.normal[g];
    } else {
      a.values[slot * dim + h] = out[r];
    }
    if (h != 0) continue;
    if (whole) {
      a.lse[part.sequence.first_row * a.batch.heads + head] = s.m[g] + log(s.total[g]);
    } else {
      a.states[2 * slot] = s.m[g];
      a.states[2 * slot + 1] = s.total[g];
    }
  }
}

template <int C>
KERNEL(threads, 2)
decode_kernel(Arguments a) {
  DecodeShared& s = shared_memory<DecodeShared>();
  const Part part = part_of_block(a);
  if (part.sequence.rows != 1 || part.first >= part.last) return;
  const int dim = static_cast<int>(a.batch.dim);
  const float* const q = a.q.data + part.sequence.first_row * a.q.stride + part.head * dim;
  for (int i = static_cast<int>(threadIdx.x); i < part.count * dim; i += threads) {
    s.q[i / dim][i % dim] = q[i];
  }
  sync_block();
  score_keys(s, a, part);
  sync_block();
  soften_head(s, part);
  sync_block();
  weigh_values<C>(s, a, part);
}

}  // namespace

void decode(const Cuda& cuda, const Arguments& a) {
  const PagedBatch& batch = a.batch;
  const std::int64_t chunks = parts_of(batch.heads / batch.kv_heads, most_heads);
  const dim3 grid(static_cast<unsigned>(batch.sequences * batch.kv_heads),
                  static_cast<unsigned>(a.splits * chunks));
  const auto kernel = batch.dim <= 64 ? decode_kernel<64> : decode_kernel<128>;
  allow_shared(kernel, sizeof(DecodeShared));
  launch(kernel, grid, dim3(threads), sizeof(DecodeShared), cuda.stream, a);
}

}  // namespace fst::kernels::gpu::forward
