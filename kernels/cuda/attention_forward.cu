#include "kernels/cuda/attention_work.h"

/// A block takes up to 64 row-head pairs of one KV head and walks the keys that they see, in tiles
/// of 128. Scores and outputs are products on register tiles: a warp owns 16 pairs and 64 keys, or
/// half of the head, a thread four pairs. K and V stream through shared memory in pieces, the next
/// one on its way while this one is used. Between the products sixteen lanes take care of a pair,
/// as on the CPU. A sequence with a single row is cut into its splits, which other blocks take;
/// they are joined by a second kernel.
namespace fst::kernels {

namespace {

using namespace gpu;

constexpr int threads = attention_threads;
constexpr int most_pairs = 64;
constexpr int tile_keys = static_cast<int>(attention_tile);
constexpr int split_keys = static_cast<int>(attention_split);
constexpr int tile_blocks = tile_keys / cache_block;
constexpr int piece = 16;                 // elements of K's heads, or keys of V, at a time
constexpr int key_step = tile_keys + 16;  // + 16: rows that are written together, other banks
constexpr int row_size = most_pairs + 4;

/// Pairs [begin, begin + pairs) of a sequence and KV head, pair i being row i / group, query head
/// i % group; and the keys [first, last) that this block walks.
struct Unit {
  Sequence sequence;
  std::int64_t index, kv_head;
  int group, begin, pairs, first, last;

  DEVICE int row(int i) const { return (begin + i) / group; }
  DEVICE std::int64_t head(int i) const { return kv_head * group + (begin + i) % group; }
  /// Keys that pair i sees.
  DEVICE int visible(int i) const { return i < pairs ? sequence.context + row(i) + 1 : 0; }
};

template <int D>
struct alignas(16) Shared {
  float q[D][row_size];
  float scores[tile_keys][row_size];  // and then e^(score - m)
  float pieces[2][piece * key_step];
  std::int32_t blocks[2][tile_blocks];          // of this tile and the next
  float shrink[most_pairs];                     // what a tile does to the output so far
  float m[most_pairs], sum[most_pairs][lanes];  // softmax of the pairs; sums by lane
  float before[most_pairs], now[most_pairs];    // factors of a join
  float joined_m[most_pairs], joined_sum[most_pairs];
  float normal[most_pairs];
  Unit unit;
};

struct Arguments {
  Rows out;
  float* lse;
  ConstRows q;
  const float* cache;
  PagedBatch batch;
  float scale;
  std::int64_t splits;  // that a sequence can have
  float* values;        // [sequences, heads, splits, dim] and
  float* states;        // [sequences, heads, splits, 2]: m and sum, of sequences with one row
};

/// A thread's four pairs, and its columns: four keys twice, or D / 64 times four elements.
struct Place {
  int warp_pair, pair, key, half;
  DEVICE Place() {
    const int warp = uniform(static_cast<int>(threadIdx.x) / 32);
    const int lane = static_cast<int>(threadIdx.x) % 32;
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
using Output = float4[4][D / 64];

template <int D>
DEVICE void load_queries(Shared<D>& s, const Arguments& a, const Unit& unit) {
  const std::int64_t dim = a.batch.dim;
#pragma unroll 1
  for (int i = static_cast<int>(threadIdx.x); i < most_pairs * D / 4; i += threads) {
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
DEVICE void load_blocks(Shared<D>& s, const Unit& unit, int tile) {
  const int b = static_cast<int>(threadIdx.x);
  if (b >= tile_blocks) return;
  const int key = tile + b * cache_block;
  s.blocks[tile / tile_keys % 2][b] = key < unit.last ? unit.sequence.table[key / cache_block] : 0;
}

using Staged = float4[2];

/// 16 elements of all keys of the tile, from element h on: four keys of one element at a time.
template <int D>
DEVICE void fetch_keys(Staged& staged, const Shared<D>& s, const Arguments& a, const Unit& unit,
                       int tile, int h) {
  const int thread = static_cast<int>(threadIdx.x);
  const int element = h + thread % 64 / 4;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const int b = thread / 64 + 4 * i;
    const bool exists = tile + b * cache_block < unit.last && element < a.batch.dim;
    const float* const keys =
        keys_of(a.cache, a.batch, s.blocks[tile / tile_keys % 2][b], unit.kv_head);
    staged[i] = read4_upto(keys + element * cache_block + thread % 4 * 4, exists ? 4 : 0);
  }
}
template <int D>
DEVICE void keep_keys(Shared<D>& s, int buffer, const Staged& staged) {
  const int thread = static_cast<int>(threadIdx.x);
  float* const to = &s.pieces[buffer][thread % 64 / 4 * key_step + thread % 4 * 4];
#pragma unroll
  for (int i = 0; i < 2; ++i) write4(to + (thread / 64 + 4 * i) * cache_block, staged[i]);
}

/// The 16 values of the tile's cache block that begins at `key`.
template <int D>
DEVICE void fetch_values(Staged& staged, const Shared<D>& s, const Arguments& a, const Unit& unit,
                         int tile, int key) {
  constexpr int row_quads = D / 4;
  const int thread = static_cast<int>(threadIdx.x), h = thread % row_quads * 4;
  const std::int64_t dim = a.batch.dim;
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
DEVICE void keep_values(Shared<D>& s, int buffer, const Staged& staged) {
#pragma unroll
  for (int i = 0; i < D / 64; ++i) {
    write4(&s.pieces[buffer][(static_cast<int>(threadIdx.x) + threads * i) * 4], staged[i]);
  }
}

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

/// Turns scores into e^(score - m) and says how the output so far shrinks.
template <int D>
DEVICE void soften(Shared<D>& s, const Unit& unit, int tile, float scale) {
#pragma unroll 1
  for (int i = 0; i * lanes < unit.pairs; ++i) {
    const int pair = half_warp_of() + i * lanes, visible = unit.visible(pair) - tile;
    float score[tile_blocks], greatest = -infinity();
#pragma unroll
    for (int b = 0; b < tile_blocks; ++b) {
      const int key = lane_of() + b * lanes;
      score[b] = key < visible ? s.scores[key][pair] * scale : -infinity();
      greatest = greater(greatest, score[b]);
    }
    const float tile_m = maximum(greatest), old_m = s.m[pair];
    const bool grows = tile_m > old_m;
    const float shrink = grows && old_m != -infinity() ? exp(old_m - tile_m) : 1.0f;
    const float m = grows ? tile_m : old_m;
    float total = s.sum[pair][lane_of()] * shrink;
#pragma unroll
    for (int b = 0; b < tile_blocks; ++b) {
      if (b * lanes >= visible) continue;
      const float p = exp(score[b] - m);
      s.scores[lane_of() + b * lanes][pair] = p;
      total = total + p;
    }
    s.sum[pair][lane_of()] = total;
    sync_warp();  // all lanes have read m
    if (lane_of() != 0) continue;
    s.m[pair] = m;
    s.shrink[pair] = shrink;
  }
}

/// Joins the softmax of a split to those before, for pairs that see more than `limit` keys: both
/// are rescaled to the greater maximum. The factors are for the output.
template <int D>
DEVICE void join_states(Shared<D>& s, const Unit& unit, int limit) {
#pragma unroll 1
  for (int i = 0; i * lanes < unit.pairs; ++i) {
    const int pair = half_warp_of() + i * lanes;
    const float total = sum(s.sum[pair][lane_of()]);
    if (unit.visible(pair) <= limit || lane_of() != 0) continue;
    const float m = greater(s.joined_m[pair], s.m[pair]);
    const float before = exp(s.joined_m[pair] - m), now = exp(s.m[pair] - m);
    s.joined_sum[pair] = fma(s.joined_sum[pair], before, total * now);
    s.joined_m[pair] = m;
    s.before[pair] = before;
    s.now[pair] = now;
  }
}
template <int D>
DEVICE void restart_states(Shared<D>& s, const Unit& unit, int limit) {
#pragma unroll 1
  for (int i = 0; i * lanes < unit.pairs; ++i) {
    const int pair = half_warp_of() + i * lanes;
    if (unit.visible(pair) <= limit) continue;
    s.sum[pair][lane_of()] = 0.0f;
    if (lane_of() == 0) s.m[pair] = -infinity();
  }
}

/// Where element h of pair i of the output lies. It also holds the splits joined so far.
DEVICE float* output_at(const Arguments& a, const Unit& unit, int i, int h) {
  const std::int64_t row = unit.sequence.first_row + unit.row(i);
  return a.out.data + row * a.out.stride + unit.head(i) * a.batch.dim + h;
}

/// The same for the outputs, which start anew; `first`: nothing was joined before.
template <int D>
DEVICE void join_outputs(Output<D>& out, const Shared<D>& s, const Arguments& a, const Unit& unit,
                         int limit, bool first) {
  const Place place;
#pragma unroll
  for (int r = 0; r < 4; ++r) {
    const int pair = place.pair + r;
    if (unit.visible(pair) <= limit) continue;
#pragma unroll
    for (int c = 0; c < D / 64; ++c) {
      const int h = place.template element<D>(c);
      const std::int64_t count = a.batch.dim - h;
      float* const to = output_at(a, unit, pair, h);
      const float4 joined = read4_upto(to, first ? 0 : count);
      write4_upto(to, fma(s.before[pair], joined, multiply(out[r][c], s.now[pair])), count);
      out[r][c] = {0.0f, 0.0f, 0.0f, 0.0f};
    }
  }
}

/// One tile of keys. `more`: another follows.
template <int D>
DEVICE void walk_tile(Output<D>& out, Shared<D>& s, const Arguments& a, const Unit& unit, int tile,
                      int& buffer) {
  const Place place;
  const bool works = place.warp_pair < unit.pairs, more = tile + tile_keys < unit.last;
  const int dim = static_cast<int>(a.batch.dim);
  Staged staged;
  float4 score[4][2];
#pragma unroll
  for (int r = 0; r < 8; ++r) score[r / 2][r % 2] = {0.0f, 0.0f, 0.0f, 0.0f};
  if (more) load_blocks(s, unit, tile + tile_keys);
  for (int h = 0; h < dim; h += piece, buffer ^= 1) {
    const bool last = h + piece >= dim;
    if (last) {
      fetch_values<D>(staged, s, a, unit, tile, 0);
    } else {
      fetch_keys<D>(staged, s, a, unit, tile, h + piece);
    }
    if (works) multiply_keys<D>(score, s, buffer, h, dim - h, place);
    if (last) {
      keep_values<D>(s, buffer ^ 1, staged);
    } else {
      keep_keys<D>(s, buffer ^ 1, staged);
    }
    if (last) break;
    sync_block();
  }
  buffer ^= 1;
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    const float4 column{part(score[0][i / 4], i % 4), part(score[1][i / 4], i % 4),
                        part(score[2][i / 4], i % 4), part(score[3][i / 4], i % 4)};
    write4(&s.scores[place.key + i / 4 * 32 + i % 4][place.pair], column);
  }
  sync_block();
  soften<D>(s, unit, tile, a.scale);
  sync_block();
  if (works) {
    const float4 shrink = read4(&s.shrink[place.pair]);
#pragma unroll
    for (int r = 0; r < 4; ++r) {
#pragma unroll
      for (int c = 0; c < D / 64; ++c) out[r][c] = multiply(out[r][c], part(shrink, r));
    }
  }
  const int keys = unit.last - tile < tile_keys ? unit.last - tile : tile_keys;
  for (int key = 0; key < keys; key += piece, buffer ^= 1) {
    const bool last = key + piece >= keys;
    if (!last) {
      fetch_values<D>(staged, s, a, unit, tile, key + piece);
    } else if (more) {
      fetch_keys<D>(staged, s, a, unit, tile + tile_keys, 0);
    }
    if (works) multiply_values<D>(out, s, unit, buffer, tile, key, place);
    if (!last) {
      keep_values<D>(s, buffer ^ 1, staged);
    } else if (more) {
      keep_keys<D>(s, buffer ^ 1, staged);
    }
    sync_block();
  }
}

/// Normalises and writes; what saw more than one split is joined a last time.
template <int D>
DEVICE void finish(Output<D>& out, Shared<D>& s, const Arguments& a, const Unit& unit) {
  const Place place;
  join_states<D>(s, unit, split_keys);
#pragma unroll 1
  for (int i = 0; i * lanes < unit.pairs; ++i) {
    const int pair = half_warp_of() + i * lanes;
    const float last_total = sum(s.sum[pair][lane_of()]);
    if (pair >= unit.pairs || lane_of() != 0) continue;
    const bool joined = unit.visible(pair) > split_keys;
    const float m = joined ? s.joined_m[pair] : s.m[pair];
    const float total = joined ? s.joined_sum[pair] : last_total;
    s.normal[pair] = 1.0f / total;
    a.lse[(unit.sequence.first_row + unit.row(pair)) * a.batch.heads + unit.head(pair)] =
        m + log(total);
  }
  sync_block();
  join_outputs<D>(out, s, a, unit, split_keys, false);
#pragma unroll
  for (int r = 0; r < 4; ++r) {
    const int pair = place.pair + r;
    if (pair >= unit.pairs) continue;
#pragma unroll
    for (int c = 0; c < D / 64; ++c) {
      const int h = place.template element<D>(c);
      const std::int64_t count = a.batch.dim - h;
      float* const to = output_at(a, unit, pair, h);
      const bool joined = unit.visible(pair) > split_keys;
      const float4 value = joined ? read4_upto(to, count) : out[r][c];
      write4_upto(to, multiply(value, s.normal[pair]), count);
    }
  }
}

/// The result of one split of a sequence with one row.
template <int D>
DEVICE void keep_split(const Output<D>& out, const Shared<D>& s, const Arguments& a,
                       const Unit& unit) {
  const Place place;
  const auto slot = [&](int pair) {
    return (unit.index * a.batch.heads + unit.head(pair)) * a.splits + unit.first / split_keys;
  };
#pragma unroll 1
  for (int i = 0; i * lanes < unit.pairs; ++i) {
    const int pair = half_warp_of() + i * lanes;
    const float total = sum(s.sum[pair][lane_of()]);
    if (pair >= unit.pairs || lane_of() != 0) continue;
    a.states[2 * slot(pair)] = s.m[pair];
    a.states[2 * slot(pair) + 1] = total;
  }
#pragma unroll
  for (int r = 0; r < 4; ++r) {
    if (place.pair + r >= unit.pairs) continue;
#pragma unroll
    for (int c = 0; c < D / 64; ++c) {
      const int h = place.template element<D>(c);
      write4_upto(a.values + slot(place.pair + r) * a.batch.dim + h, out[r][c], a.batch.dim - h);
    }
  }
}

template <int D>
DEVICE void walk_unit(Shared<D>& s, const Arguments& a, const Unit& unit) {
  const int thread = static_cast<int>(threadIdx.x);
  Output<D> out;
#pragma unroll
  for (int i = 0; i < D / 16; ++i) out[i % 4][i / 4] = {0.0f, 0.0f, 0.0f, 0.0f};
#pragma unroll 1
  for (int i = thread; i < most_pairs * lanes; i += threads) s.sum[i / lanes][i % lanes] = 0.0f;
  if (thread < most_pairs) {
    s.m[thread] = -infinity();
    s.joined_m[thread] = -infinity();
    s.joined_sum[thread] = 0.0f;
  }
  load_queries<D>(s, a, unit);
  load_blocks<D>(s, unit, unit.first);
  sync_block();
  Staged staged;
  int buffer = 0;
  fetch_keys<D>(staged, s, a, unit, unit.first, 0);
  keep_keys<D>(s, buffer, staged);
  sync_block();
  for (int tile = unit.first; tile < unit.last; tile += tile_keys) {
    if (tile > unit.first && tile % split_keys == 0) {
      join_states<D>(s, unit, tile);
      restart_states<D>(s, unit, tile);
      sync_block();
      join_outputs<D>(out, s, a, unit, tile, tile == split_keys);
    }
    walk_tile<D>(out, s, a, unit, tile, buffer);
  }
  if (unit.sequence.rows == 1 && unit.visible(0) > split_keys) {
    keep_split<D>(out, s, a, unit);
  } else {
    finish<D>(out, s, a, unit);
  }
  sync_block();
}

/// Unit `i` of block column x; no pairs where there are no more. The splits of one row; or all rows
/// in groups of pairs, those with most keys first.
DEVICE Unit unit_at(const PagedBatch& batch, int i) {
  Unit unit;
  unit.index = blockIdx.x / batch.kv_heads;
  unit.kv_head = blockIdx.x % batch.kv_heads;
  unit.sequence = sequence_of(batch, unit.index);
  unit.group = static_cast<int>(batch.heads / batch.kv_heads);
  const int rows = unit.sequence.rows, keys = unit.sequence.context + rows;
  const int pairs = rows * unit.group, groups = (pairs + most_pairs - 1) / most_pairs;
  const int splits = rows == 1 ? (keys + split_keys - 1) / split_keys : 1;
  unit.pairs = 0;
  if (i >= groups * splits) return unit;
  unit.begin = (groups - 1 - i / splits) * most_pairs;
  unit.pairs = pairs - unit.begin < most_pairs ? pairs - unit.begin : most_pairs;
  unit.first = i % splits * split_keys;
  unit.last = unit.visible(unit.pairs - 1);
  if (splits > 1 && unit.last > unit.first + split_keys) unit.last = unit.first + split_keys;
  return unit;
}

template <int D>
KERNEL(threads, 2)
forward_kernel(Arguments a) {
  Shared<D>& s = shared_memory<Shared<D>>();
  for (int i = static_cast<int>(blockIdx.y);; i += static_cast<int>(gridDim.y)) {
    if (threadIdx.x == 0) s.unit = unit_at(a.batch, i);
    sync_block();
    if (s.unit.pairs == 0) return;
    walk_unit<D>(s, a, s.unit);
  }
}

/// Block x: head x % heads of sequence x / heads, if it has one row and several splits. A thread
/// joins one element, or more, in the order of the splits.
KERNEL(128, 4) join_kernel(Arguments a) {
  const std::int64_t index = blockIdx.x / a.batch.heads, head = blockIdx.x % a.batch.heads;
  const Sequence sequence = sequence_of(a.batch, index);
  const int keys = sequence.context + 1, splits = (keys + split_keys - 1) / split_keys;
  if (sequence.rows != 1 || splits == 1) return;
  const std::int64_t dim = a.batch.dim, slot = blockIdx.x * a.splits;
  for (std::int64_t h = threadIdx.x; h < dim; h += 128) {
    float joined_m = -infinity(), joined_sum = 0.0f, joined = 0.0f;
    for (int k = 0; k < splits; ++k) {
      const float split_m = a.states[2 * (slot + k)], split_sum = a.states[2 * (slot + k) + 1];
      const float m = greater(joined_m, split_m);
      const float before = exp(joined_m - m), now = exp(split_m - m);
      joined = fma(joined, before, a.values[(slot + k) * dim + h] * now);
      joined_sum = fma(joined_sum, before, split_sum * now);
      joined_m = m;
    }
    a.out.data[sequence.first_row * a.out.stride + head * dim + h] = joined * (1.0f / joined_sum);
    if (h == 0) a.lse[sequence.first_row * a.batch.heads + head] = joined_m + log(joined_sum);
  }
}

template <int D>
void run(const Cuda& cuda, const Arguments& a) {
  const PagedBatch& batch = a.batch;
  const std::int64_t longest = batch.max_blocks * attention_block;
  const std::int64_t units =
      std::max(tiles_of(longest * (batch.heads / batch.kv_heads), most_pairs), a.splits);
  allow_shared(forward_kernel<D>, sizeof(Shared<D>));
  launch(forward_kernel<D>, attention_grid(batch.sequences * batch.kv_heads, units), dim3(threads),
         sizeof(Shared<D>), cuda.stream, a);
}

}  // namespace

template <>
void attention_forward(const Cuda& cuda, Rows out, float* lse, ConstRows q, const float* cache,
                       const PagedBatch& batch, float scale) {
  check_head(batch);
  if (batch.sequences <= 0 || batch.max_blocks <= 0) return;
  Arguments a{out, lse, q, cache, batch, scale, 1, nullptr, nullptr};
  a.splits = tiles_of(batch.max_blocks * attention_block, attention_split);
  if (a.splits > 1) {
    const std::int64_t slots = batch.sequences * batch.heads * a.splits;
    const auto floats = static_cast<std::size_t>(slots * (batch.dim + 2));
    a.values = static_cast<float*>(scratch(cuda, floats * sizeof(float)));
    a.states = a.values + slots * batch.dim;
  }
  batch.dim <= 64 ? run<64>(cuda, a) : run<128>(cuda, a);
  if (a.splits > 1) {
    launch(join_kernel, dim3(static_cast<unsigned>(batch.sequences * batch.heads)), dim3(128), 0,
           cuda.stream, a);
  }
}

}  // namespace fst::kernels
