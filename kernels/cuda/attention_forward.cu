#include "kernels/cuda/attention_bf16_forward.h"
#include "kernels/cuda/attention_decode.h"

/// Attention over float32; over Bf16 only what ends a decode step is here, and tensor cores do the
/// rest (attention_bf16_forward.cu). A block takes up to 64 row-head pairs of one KV head and walks
/// the keys that they see, in tiles of 128. Scores and outputs are products on register tiles: a
/// warp owns 16 pairs and 64 keys, or half of the head, a thread four pairs. K and V stream through
/// shared memory in pieces, the next one on its way while this one is used. Between the products
/// sixteen lanes take care of a pair, as on the CPU. A sequence with a single row is for
/// attention_decode.cu, which cuts it into its splits; they are joined by a kernel here.
namespace fst::kernels {

namespace gpu::forward {

namespace {

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

/// Where four elements lie that this thread has joined: row r and column c of its output.
template <int D>
DEVICE float* joined_at(const Shared<D>& s, int r, int c) {
  return s.joined + ((r * (D / 64) + c) * threads + static_cast<int>(threadIdx.x)) * 4;
}

/// The same for the outputs, which start anew; `first`: nothing was joined before.
template <int D>
DEVICE void join_outputs(Output<D>& out, const Shared<D>& s, const Unit& unit, int limit,
                         bool first) {
  const Place place;
#pragma unroll
  for (int r = 0; r < 4; ++r) {
    const int pair = place.pair + r;
    if (unit.visible(pair) <= limit) continue;
#pragma unroll
    for (int c = 0; c < D / 64; ++c) {
      float* const to = joined_at(s, r, c);
      const float4 joined = first ? float4{0.0f, 0.0f, 0.0f, 0.0f} : read4(to);
      write4(to, fma(s.before[pair], joined, multiply(out[r][c], s.now[pair])));
      out[r][c] = {0.0f, 0.0f, 0.0f, 0.0f};
    }
  }
}

/// The scores of a tile, whose first piece of K is in `buffer`; leaves the first piece of V there.
template <int D>
DEVICE void walk_keys(Shared<D>& s, const Arguments<float>& a, const Unit& unit, int tile,
                      int& buffer, const Place& place) {
  const int dim = static_cast<int>(a.batch.dim);
  Staged staged;
  float4 score[4][2];
#pragma unroll
  for (int i = 0; i < 8; ++i) score[i / 2][i % 2] = {0.0f, 0.0f, 0.0f, 0.0f};
  for (int h = 0; h < dim; h += piece, buffer ^= 1) {
    const bool last = h + piece >= dim;
    if (last) {
      fetch_values<D>(staged, s, a, unit, tile, 0, place.thread);
    } else {
      fetch_keys<D>(staged, s, a, unit, tile, h + piece, place.thread);
    }
    if (place.warp_pair < unit.pairs) multiply_keys<D>(score, s, buffer, h, dim - h, place);
    if (last) {
      keep_values<D>(s, buffer ^ 1, staged, place.thread);
    } else {
      keep_keys<D>(s, buffer ^ 1, staged, place.thread);
    }
    sync_block();
  }
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    const float4 column{part(score[0][i / 4], i % 4), part(score[1][i / 4], i % 4),
                        part(score[2][i / 4], i % 4), part(score[3][i / 4], i % 4)};
    write4(&s.scores[place.key + i / 4 * 32 + i % 4][place.pair], column);
  }
}

/// The output of a tile, whose first piece of V is in `buffer`; leaves the next tile's first piece
/// of K there.
template <int D>
DEVICE void walk_values(Output<D>& out, Shared<D>& s, const Arguments<float>& a, const Unit& unit,
                        int tile, int& buffer, const Place& place) {
  const bool works = place.warp_pair < unit.pairs, more = tile + tile_keys < unit.last;
  const int keys = more ? tile_keys : unit.last - tile;
  Staged staged;
  if (works) {
    const float4 shrink = read4(&s.shrink[place.pair]);
#pragma unroll
    for (int i = 0; i < D / 16; ++i)
      out[i % 4][i / 4] = multiply(out[i % 4][i / 4], part(shrink, i % 4));
  }
  for (int key = 0; key < keys; key += piece, buffer ^= 1) {
    const bool last = key + piece >= keys;
    if (!last) {
      fetch_values<D>(staged, s, a, unit, tile, key + piece, place.thread);
    } else if (more) {
      fetch_keys<D>(staged, s, a, unit, tile + tile_keys, 0, place.thread);
    }
    if (works) multiply_values<D>(out, s, unit, buffer, tile, key, place);
    if (!last) {
      keep_values<D>(s, buffer ^ 1, staged, place.thread);
    } else if (more) {
      keep_keys<D>(s, buffer ^ 1, staged, place.thread);
    }
    sync_block();
  }
}

template <int D>
DEVICE void walk_tile(Output<D>& out, Shared<D>& s, const Arguments<float>& a, const Unit& unit,
                      int tile, int& buffer) {
  const Place place;
  load_blocks(s, unit, tile + tile_keys, place.thread);
  walk_keys<D>(s, a, unit, tile, buffer, place);
  sync_block();
  soften<D>(s, unit, tile, a.scale);
  sync_block();
  walk_values<D>(out, s, a, unit, tile, buffer, place);
}

/// Normalises and writes; what saw more than one split is joined a last time.
template <int D>
DEVICE void finish(Output<D>& out, Shared<D>& s, const Arguments<float>& a, const Unit& unit) {
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
  join_outputs<D>(out, s, unit, split_keys, false);
#pragma unroll
  for (int r = 0; r < 4; ++r) {
    const int pair = place.pair + r;
    if (pair >= unit.pairs) continue;
    const std::int64_t row = unit.sequence.first_row + unit.row(pair);
    float* const to = a.out.data + row * a.out.stride + unit.head(pair) * a.batch.dim;
#pragma unroll
    for (int c = 0; c < D / 64; ++c) {
      const int h = place.template element<D>(c);
      const bool joined = unit.visible(pair) > split_keys;
      const float4 value = joined ? read4(joined_at(s, r, c)) : out[r][c];
      write4_upto(to + h, multiply(value, s.normal[pair]), static_cast<int>(a.batch.dim) - h);
    }
  }
}

template <int D>
DEVICE void walk_unit(Shared<D>& s, const Arguments<float>& a, const Unit& unit) {
  const int thread = Place().thread;
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
  load_queries<D>(s, a, unit, thread);
  load_blocks<D>(s, unit, 0, thread);
  sync_block();
  Staged staged;
  int buffer = 0;
  fetch_keys<D>(staged, s, a, unit, 0, 0, thread);
  keep_keys<D>(s, buffer, staged, thread);
  sync_block();
  for (int tile = 0; tile < unit.last; tile += tile_keys) {
    if (tile > 0 && tile % split_keys == 0) {
      join_states<D>(s, unit, tile);
      restart_states<D>(s, unit, tile);
      sync_block();
      join_outputs<D>(out, s, unit, tile, tile == split_keys);
    }
    walk_tile<D>(out, s, a, unit, tile, buffer);
  }
  finish<D>(out, s, a, unit);
  sync_block();
}

template <int D>
KERNEL(threads, 2)
forward_kernel(Arguments<float> a) {
  Shared<D>& s = shared_memory<Shared<D>>();
  const bool leader = threadIdx.x == 0;
  if (leader) {
    s.next = static_cast<int>(blockIdx.y);
    const std::int64_t block = static_cast<std::int64_t>(blockIdx.y) * gridDim.x + blockIdx.x;
    s.joined = a.joined + block * (most_pairs * D);
  }
  for (;;) {
    if (leader) {
      find_unit(s.unit, a.batch, s.next);
      s.next += static_cast<int>(gridDim.y);
    }
    sync_block();
    if (s.unit.pairs == 0) return;
    walk_unit<D>(s, a, s.unit);
  }
}

/// Block x: head x % heads of sequence x / heads, if it has one row and several splits. A thread
/// joins one element, or more, in the order of the splits.
template <class T>
KERNEL(128, 4)
join_kernel(Arguments<T> a) {
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
    a.out.data[sequence.first_row * a.out.stride + head * dim + h] =
        narrowed_to<T>(joined * (1.0f / joined_sum));
    if (h == 0) a.lse[sequence.first_row * a.batch.heads + head] = joined_m + log(joined_sum);
  }
}

template <int D>
void run(const Cuda& cuda, Arguments<float> a) {
  const dim3 grid = unit_grid(a.batch);
  if (a.splits > 1) {
    const std::size_t floats = std::size_t{grid.x} * grid.y * most_pairs * D;
    a.joined = static_cast<float*>(scratch(cuda, floats * sizeof(float)));
  }
  allow_shared(forward_kernel<D>, sizeof(Shared<D>));
  launch(forward_kernel<D>, grid, dim3(threads), sizeof(Shared<D>), cuda.stream, a);
}

void run_long(const Cuda& cuda, const Arguments<float>& a) {
  a.batch.dim <= 64 ? run<64>(cuda, a) : run<128>(cuda, a);
}

/// The sequences with a single row: their splits, and where there are several, the join.
template <class T>
void run_single(const Cuda& cuda, Arguments<T> a) {
  const PagedBatch& batch = a.batch;
  if (a.splits > 1) {
    const std::int64_t slots = batch.sequences * batch.heads * a.splits;
    const auto floats = static_cast<std::size_t>(slots * (batch.dim + 2));
    a.values = static_cast<float*>(scratch(cuda, floats * sizeof(float)));
    a.states = a.values + slots * batch.dim;
  }
  decode(cuda, a);
  if (a.splits == 1) return;
  launch(join_kernel<T>, dim3(static_cast<unsigned>(batch.sequences * batch.heads)), dim3(128), 0,
         cuda.stream, a);
}

template <class T>
void attend(const Cuda& cuda, Rows<T> out, float* lse, ConstRows<T> q, const T* cache,
            const PagedBatch& batch, float scale) {
  check_head(batch);
  if (batch.sequences <= 0 || batch.max_blocks <= 0) return;
  const std::int64_t splits = parts_of(batch.max_blocks * attention_block, split_keys);
  const Arguments<T> a{out, lse, q, cache, batch, scale, splits, nullptr, nullptr, nullptr};
  if (batch.longer) run_long(cuda, a);
  if (batch.single) run_single(cuda, a);
}

}  // namespace

}  // namespace gpu::forward

template <>
void attention_forward(const Cuda& cuda, Rows<float> out, float* lse, ConstRows<float> q,
                       const float* cache, const PagedBatch& batch, float scale) {
  gpu::forward::attend(cuda, out, lse, q, cache, batch, scale);
}

template <>
void attention_forward(const Cuda& cuda, Rows<Bf16> out, float* lse, ConstRows<Bf16> q,
                       const Bf16* cache, const PagedBatch& batch, float scale) {
  gpu::forward::attend(cuda, out, lse, q, cache, batch, scale);
}

}  // namespace fst::kernels
