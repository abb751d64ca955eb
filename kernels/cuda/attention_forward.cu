#include "kernels/cuda/attention_forward.h"
#include "kernels/cuda/attention_walk.h"

/// The schedule FloatPairs of sequences with several rows, in float32, and the join of the splits
/// of those with one, in both types. A block takes up to 64 row-head pairs of one KV head. Scores
/// and outputs are products on register tiles: a warp owns 16 pairs and 64 keys, or half of the
/// head, a thread four pairs. K and V stream through shared memory in pieces, the next one on its
/// way while this one is used. Between the products sixteen lanes take care of a pair, as on the
/// CPU.
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
    float m = s.m[pair];
    const float shrink = grow(m, maximum(greatest));
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

/// Joins the softmax of a split to those before, for pairs that see more than `limit` keys; these
/// begin anew.
template <int D>
DEVICE void join_states(Shared<D>& s, const Unit& unit, int limit) {
#pragma unroll 1
  for (int i = 0; i * lanes < unit.pairs; ++i) {
    const int pair = half_warp_of() + i * lanes;
    const float total = sum(s.sum[pair][lane_of()]);
    if (unit.visible(pair) <= limit || lane_of() != 0) continue;
    s.rescale[pair] = s.joined[pair].join({s.m[pair], total});
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
  return s.units.joined + ((r * (D / 64) + c) * threads + static_cast<int>(threadIdx.x)) * 4;
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
      write4(to, s.rescale[pair].join(joined, out[r][c]));
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

/// What the softmax adds up to, and what outputs are multiplied by; of what saw more than one
/// split, as it was joined.
template <int D>
DEVICE void normalise(Shared<D>& s, const Arguments<float>& a, const Unit& unit) {
#pragma unroll 1
  for (int i = 0; i * lanes < unit.pairs; ++i) {
    const int pair = half_warp_of() + i * lanes;
    const float total = sum(s.sum[pair][lane_of()]);
    if (pair >= unit.pairs || lane_of() != 0) continue;
    const Softmax last{s.m[pair], total};
    const Softmax state = unit.visible(pair) > split_keys ? s.joined[pair] : last;
    s.normal[pair] = state.normal();
    a.lse[(unit.sequence.first_row + unit.row(pair)) * a.batch.heads + unit.head(pair)] =
        state.log_sum();
  }
}
template <int D>
DEVICE void write_outputs(const Output<D>& out, const Shared<D>& s, const Arguments<float>& a,
                          const Unit& unit) {
  const Place place;
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

/// What a thread carries from tile to tile.
template <int D>
struct Carried {
  Output<D> out = {};
};

template <int D>
class FloatPairs {
 public:
  using Element = float;
  using Work = Units;
  using Shared = forward::Shared<D>;
  static constexpr int threads = forward::threads, step = tile_keys, joined_floats = most_pairs * D;

  DEVICE static Work work(Shared& s, const Arguments<float>& a) {
    return Work(s.units, a, joined_floats);
  }
  DEVICE FloatPairs(Shared& s, const Arguments<float>& a, const Work&)
      : s_(s), a_(a), unit_(s.units.unit) {}

  DEVICE Carried<D> begin() {
    const int thread = Place().thread;
    Carried<D> carried;
#pragma unroll 1
    for (int i = thread; i < most_pairs * lanes; i += threads) s_.sum[i / lanes][i % lanes] = 0.0f;
    if (thread < most_pairs) {
      s_.m[thread] = -infinity();
      s_.joined[thread] = Softmax();
    }
    load_queries<D>(s_, a_, unit_, thread);
    load_blocks<D>(s_, unit_, 0, thread);
    sync_block();
    Staged staged;
    fetch_keys<D>(staged, s_, a_, unit_, 0, 0, thread);
    keep_keys<D>(s_, buffer_, staged, thread);
    sync_block();
    return carried;
  }
  DEVICE void join(Carried<D>& carried, int limit, bool first) const {
    join_states<D>(s_, unit_, limit);
    restart_states<D>(s_, unit_, limit);
    sync_block();
    join_outputs<D>(carried.out, s_, unit_, limit, first);
  }
  DEVICE void walk(Carried<D>& carried, int tile) {
    const Place place;
    load_blocks(s_, unit_, tile + tile_keys, place.thread);
    walk_keys<D>(s_, a_, unit_, tile, buffer_, place);
    sync_block();
    soften<D>(s_, unit_, tile, a_.scale);
    sync_block();
    walk_values<D>(carried.out, s_, a_, unit_, tile, buffer_, place);
  }
  DEVICE void write(const Carried<D>& carried) const {
    normalise<D>(s_, a_, unit_);
    sync_block();
    write_outputs<D>(carried.out, s_, a_, unit_);
  }

 private:
  Shared& s_;
  const Arguments<float>& a_;
  const Unit& unit_;
  int buffer_ = 0;  // where the next piece of K or V is
};

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
    Softmax state;
    float joined = 0.0f;
    for (int k = 0; k < splits; ++k) {
      const float* const split = a.states + 2 * (slot + k);
      joined = state.join({split[0], split[1]}).join(joined, a.values[(slot + k) * dim + h]);
    }
    a.out.data[sequence.first_row * a.out.stride + head * dim + h] =
        narrowed_to<T>(joined * state.normal());
    if (h == 0) a.lse[sequence.first_row * a.batch.heads + head] = state.log_sum();
  }
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
  attend_row(cuda, a);
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
  if (batch.longer) attend_pairs(cuda, a);
  if (batch.single) run_single(cuda, a);
}

}  // namespace

template <>
void attend_pairs(const Cuda& cuda, const Arguments<float>& a) {
  a.batch.dim <= 64 ? attend_by<FloatPairs<64>>(cuda, a) : attend_by<FloatPairs<128>>(cuda, a);
}

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
