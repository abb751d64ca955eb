#include "kernels/cpu/attention_isa.h"
#include "kernels/cpu/attention_tiles.h"
#include "kernels/cpu/vec_math.h"

namespace fst::kernels {

namespace lane = FST_ISA_NS;
using lane::lanes;
using lane::Vec;

namespace {

constexpr std::int64_t tile_blocks = attention_tile / attention_block;
constexpr float minus_infinity = -__builtin_inff();

/// Softmax over some keys of one row-head pair: sum_j e^(s_j - m) and sum_j e^(s_j - m) v_j. The
/// output vector lies elsewhere.
struct Softmax {
  float m;
  float sum[attention_block];  // by lane
};

/// Everything one unit needs, cut from its scratch memory. Keys and values hold T.
template <class T>
struct Work {
  const ForwardUnit& unit;
  const PagedBatch& batch;
  float scale;
  std::int64_t first_row;    // of the sequence
  std::int64_t dim, padded;  // head size; rounded up to full vectors
  float* packed;             // [pairs / 16][dim, 16] queries as `scores` takes them
  float* output;             // [pairs, padded] of the current split
  float* joined;             // [pairs, padded] of the splits before
  float* scores;             // [tile_rows, 128]
  const std::int64_t* row;   // [pairs] in the sequence
  const std::int64_t* head;  // [pairs]
  Softmax* state;            // [pairs]
  float* joined_m;           // [pairs]
  float* joined_sum;         // [pairs]
  const T* keys[tile_blocks] = {};
  const T* values[tile_blocks] = {};

  /// Keys that pair i of the unit sees.
  std::int64_t visible(std::int64_t i) const { return batch.context[unit.sequence] + row[i] + 1; }
};

/// Joins the split's result to those before it: both are rescaled to the greater maximum.
template <class T>
void join_split(Work<T>& w, std::int64_t i) {
  const float m = w.joined_m[i] > w.state[i].m ? w.joined_m[i] : w.state[i].m;
  const float a = lane::exp(w.joined_m[i] - m), b = lane::exp(w.state[i].m - m);
  const Vec before = lane::set(a), now = lane::set(b);
  for (std::int64_t h = 0; h < w.padded; h += lanes) {
    float* const to = w.joined + i * w.padded + h;
    lane::store(to, fma(lane::load(to), before, lane::load(w.output + i * w.padded + h) * now));
  }
  w.joined_m[i] = m;
  w.joined_sum[i] = __builtin_fmaf(w.joined_sum[i], a, sum(lane::load(w.state[i].sum)) * b);
}

template <class T>
void start_split(Work<T>& w, std::int64_t i) {
  w.state[i].m = minus_infinity;
  lane::store(w.state[i].sum, lane::zero());
  for (std::int64_t h = 0; h < w.padded; h += lanes) {
    lane::store(w.output + i * w.padded + h, lane::zero());
  }
}

/// Turns the scores of pair i in `s` into e^(s - m), as T holds them, and brings its sum and output
/// to the new maximum; `visible` > 0 keys of the tile count.
template <class T>
void soften(Work<T>& w, std::int64_t i, float* s, std::int64_t visible) {
  const Vec scale = lane::set(w.scale);
  Vec greatest = lane::set(minus_infinity);
  for (std::int64_t j = 0; j < visible; j += lanes) {
    Vec v = lane::load(s + j) * scale;
    if (visible - j < lanes) v = select(lane::first(visible - j), v, lane::set(minus_infinity));
    lane::store(s + j, v);
    greatest = max(greatest, v);
  }
  Softmax& state = w.state[i];
  Vec total = lane::load(state.sum);
  const float tile_m = maximum(greatest);
  if (tile_m > state.m) {
    if (state.m != minus_infinity) {
      const Vec shrink = lane::set(lane::exp(state.m - tile_m));
      total = total * shrink;
      for (std::int64_t h = 0; h < w.padded; h += lanes) {
        float* const to = w.output + i * w.padded + h;
        lane::store(to, lane::load(to) * shrink);
      }
    }
    state.m = tile_m;
  }
  const Vec m = lane::set(state.m);
  for (std::int64_t j = 0; j < visible; j += lanes) {
    const Vec p = lane::exp(lane::load(s + j) - m);
    lane::store(s + j, lane::held<T>(p));
    total = total + p;
  }
  lane::store(state.sum, total);
}

/// One tile of keys for the pairs [i, i + R), which see them in ascending number.
template <int R, class T>
void tile_of_pairs(Work<T>& w, std::int64_t i, std::int64_t tile_begin) {
  std::int64_t visible[R];
  for (int r = 0; r < R; ++r) {
    const std::int64_t n = w.visible(i + r) - tile_begin;
    visible[r] = n < 0 ? 0 : n < attention_tile ? n : attention_tile;
  }
  const std::int64_t most = visible[R - 1];
  if (most == 0) return;
  const std::int64_t blocks = (most + attention_block - 1) / attention_block;
  lane::scores<R>(w.scores, w.packed + i / lanes * lanes * w.dim + i % lanes, w.keys, blocks,
                  w.dim);
  for (int r = 0; r < R; ++r) {
    if (visible[r] == 0) continue;
    if (tile_begin > 0 && tile_begin % attention_split == 0) {
      join_split(w, i + r);
      start_split(w, i + r);
    }
    soften(w, i + r, w.scores + r * attention_tile, visible[r]);
  }
  // The keys that all see together, the others row by row: a masked key must not be touched.
  float* const output = w.output + i * w.padded;
  lane::block_chains<R>(output, w.padded, w.scores, w.values, w.dim, 0, visible[0], w.dim);
  for (int r = 1; r < R; ++r) {
    lane::block_chains<1>(output + r * w.padded, w.padded, w.scores + r * attention_tile, w.values,
                          w.dim, visible[0], visible[r], w.dim);
  }
}

template <class T>
void finish(Work<T>& w, std::int64_t i, Rows<T> out, float* lse) {
  const float* from = w.output + i * w.padded;
  float m = w.state[i].m, total = sum(lane::load(w.state[i].sum));
  if (w.visible(i) > attention_split) {
    join_split(w, i);
    from = w.joined + i * w.padded;
    m = w.joined_m[i];
    total = w.joined_sum[i];
  }
  const std::int64_t row = w.first_row + w.row[i];
  T* const to = out.data + row * out.stride + w.head[i] * w.dim;
  const Vec normalise = lane::set(1.0f / total);
  for (std::int64_t h = 0; h < w.dim; h += lanes) {
    lane::store_upto(to + h, lane::load(from + h) * normalise, w.dim - h);
  }
  lse[row * w.batch.heads + w.head[i]] = m + lane::log(total);
}

FST_INLINE std::int64_t pad(std::int64_t dim) {
  return (dim + lanes - 1) / lanes * lanes;
}

}  // namespace

template <Isa isa, class T>
std::int64_t AttentionForward<isa, T>::scratch(std::int64_t dim) {
  return 3 * attention_pairs * pad(dim) + lane::tile_rows * attention_tile;
}

template <Isa isa, class T>
void AttentionForward<isa, T>::run(Rows<T> out, float* lse, ConstRows<T> q, const T* cache,
                                   const PagedBatch& batch, float scale, const ForwardUnit& unit,
                                   float* scratch) {
  const std::int64_t padded = pad(batch.dim);
  // A step of decoding has thousands of units of a few pairs: nothing is cleared, little divided.
  const std::int64_t pairs = unit.end - unit.begin, group = batch.heads / batch.kv_heads;
  std::int64_t row[attention_pairs], head[attention_pairs];
  row[0] = unit.begin / group;
  head[0] = unit.kv_head * group + unit.begin % group;
  for (std::int64_t i = 1; i < pairs; ++i) {
    const bool next = head[i - 1] == unit.kv_head * group + group - 1;
    row[i] = row[i - 1] + (next ? 1 : 0);
    head[i] = next ? unit.kv_head * group : head[i - 1] + 1;
  }
  Softmax state[attention_pairs];
  float joined_m[attention_pairs], joined_sum[attention_pairs];
  Work<T> w{.unit = unit,
            .batch = batch,
            .scale = scale,
            .first_row = batch.cu_seqlens[unit.sequence],
            .dim = batch.dim,
            .padded = padded,
            .packed = scratch,
            .output = scratch + attention_pairs * padded,
            .joined = scratch + 2 * attention_pairs * padded,
            .scores = scratch + 3 * attention_pairs * padded,
            .row = row,
            .head = head,
            .state = state,
            .joined_m = joined_m,
            .joined_sum = joined_sum};
  for (std::int64_t i = 0; i < pairs; i += lanes) {
    const T* rows[lanes];
    for (std::int64_t r = 0; r < lanes; ++r) {
      const std::int64_t pair =
          i + r < pairs ? i + r : pairs - 1;  // a stand-in where there is none
      rows[r] = q.data + (w.first_row + w.row[pair]) * q.stride + w.head[pair] * w.dim;
    }
    lane::pack_rows(w.packed + i * w.dim, rows, w.dim);
  }
  const std::int64_t keys = w.visible(pairs - 1);
  for (std::int64_t i = 0; i < pairs; ++i) {
    start_split(w, i);
    if (keys <= attention_split) continue;
    w.joined_m[i] = minus_infinity;
    w.joined_sum[i] = 0.0f;
    for (std::int64_t h = 0; h < padded; ++h) w.joined[i * padded + h] = 0.0f;
  }
  const std::int32_t* const table = batch.block_table + unit.sequence * batch.max_blocks;
  const std::int64_t block_size = attention_block * batch.dim;
  for (std::int64_t begin = 0; begin < keys; begin += attention_tile) {
    for (std::int64_t b = 0; b < tile_blocks && begin + b * attention_block < keys; ++b) {
      const std::int64_t block = table[begin / attention_block + b];
      w.keys[b] = cache + (block * batch.kv_heads + unit.kv_head) * 2 * block_size;
      w.values[b] = w.keys[b] + block_size;
    }
    lane::in_groups(pairs, [&]<int R>(std::int64_t i) { tile_of_pairs<R>(w, i, begin); });
  }
  for (std::int64_t i = 0; i < pairs; ++i) finish(w, i, out, lse);
}

template struct AttentionForward<Isa::FST_ISA_NS, float>;
template struct AttentionForward<Isa::FST_ISA_NS, Bf16>;

}  // namespace fst::kernels
