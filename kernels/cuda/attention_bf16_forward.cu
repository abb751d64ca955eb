#include "kernels/cuda/attention_bf16_forward.h"
#include "kernels/cuda/attention_bf16_softmax.h"
#include "kernels/cuda/attention_walk.h"

/// The schedule TensorPairs: sequences with several rows by tensor cores. A warp owns 16 row-head
/// pairs of a unit from its first key to its last: their queries, the scores of a tile and their
/// outputs stay in registers, where what one product leaves is what the next one takes.
/// Exponentials of 16 keys are computed while the tensor cores multiply those before. Nothing but
/// keys and values passes through shared memory.
namespace fst::kernels::gpu::forward {

namespace {

/// A thread's share of its warp's work: 16 pairs, of which it has the rows lane / 4 and + 8.
template <int D>
struct Share {
  std::uint32_t q[D / 16][4];
  float out[D / 8][4] = {};
  RowState rows[2];
  int first, last;  // keys that the warp's first and last pair see; 0 where it has none
};

/// The pair that row r of a thread's two is.
DEVICE int pair_of(int r) {
  return 16 * static_cast<int>(threadIdx.x / 32) + lane_of_warp() / 4 + 8 * r;
}

/// A pair behind the last one sees what that one sees, and its query is zeros.
DEVICE int visible_to(const Unit& unit, int pair) {
  return unit.visible(pair < unit.pairs ? pair : unit.pairs - 1);
}

/// A lane's pair out of 16, as rows of heads; negative where there is none.
DEVICE std::int64_t place_of(const Unit& unit, std::int64_t stride, std::int64_t dim, int pair) {
  const std::int64_t row = unit.sequence.first_row + unit.row(pair);
  return pair < unit.pairs ? row * stride + unit.head(pair) * dim : -1;
}

/// Scores of the tile's keys. What is left out is zeros too: were it nothing, the compiler would
/// keep 64 registers from one tile to the next.
template <bool whole, int D>
DEVICE void multiply_keys(Scores& score, const Share<D>& share, KeyTile<D> keys, int count) {
  each_32<whole>(count, [&](int j) {
#pragma unroll
    for (int i = 0; i < 16; ++i) score[j + i / 4][i % 4] = 0.0f;
#pragma unroll
    for (int e = 0; e < D / 16; ++e) {
      std::uint32_t right[2][4];
#pragma unroll
      for (int i = 0; i < 2; ++i) rows_on_the_right(right[i], keys, j / 2 + i, 16 * e);
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        multiply_16x16x16(score[j + 2 * i], score[j + 2 * i + 1], share.q[e], right[i]);
      }
    }
  });
  if constexpr (!whole) {
#pragma unroll
    for (int i = 0; i < 8 * tile_blocks; ++i) {
      if (i / 16 >= count) score[i / 4][i % 4] = 0.0f;
    }
  }
}

/// The tile's maximum, and what the rows have so far in terms of it.
template <bool whole, int D>
DEVICE void grow(Share<D>& share, const Scores& score, int count) {
  float shrink[2];
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    shrink[r] = share.rows[r].grow(greatest_score<whole>(score, count, r));
  }
  if (!any(shrink[0] != 1.0f || shrink[1] != 1.0f)) return;
#pragma unroll
  for (int i = 0; i < D / 2; ++i) {
    share.out[i / 4][i % 4] = share.out[i / 4][i % 4] * shrink[i / 2 % 2];
  }
}

template <bool whole, int D>
DEVICE void multiply_values(Share<D>& share, Scores& score, RowTile<D> values, int count) {
  each_32<whole>(count, [&](int first) {
#pragma unroll
    for (int b = first / 2; b < first / 2 + 2; ++b) {
      std::uint32_t left[4];
      soften(score, share.rows, b);
      narrowed_operand(left, score[2 * b], score[2 * b + 1]);
#pragma unroll
      for (int e = 0; e < D / 16; ++e) {
        std::uint32_t right[4];
        elements_on_the_right(right, values, b * cache_block, 16 * e);
        multiply_16x16x16(share.out[2 * e], share.out[2 * e + 1], left, right);
      }
    }
  });
}

/// `whole`: all pairs of the warp see all keys of the tile.
template <bool whole, int D, bool wide>
DEVICE void walk_tile(Share<D>& share, Turn<D>& turn, Feed<D, wide>& feed, const Unit& unit,
                      int tile, float scale) {
  const int count = (share.last - tile + 31) / 32;
  const int visible[2] = {visible_to(unit, pair_of(0)) - tile, visible_to(unit, pair_of(1)) - tile};
  Scores score;
  const KeyTile<D> k{turn.take()};
  feed.bring_keys(turn.free());
  multiply_keys<whole>(score, share, k, count);
  scale_scores<whole>(score, count, visible, scale);
  grow<whole>(share, score, count);
  const RowTile<D> v{turn.take()};
  feed.bring_values(turn.free());
  multiply_values<whole>(share, score, v, count);
}
/// The block's barriers, for warps that have done all their tiles.
template <int D, bool wide>
DEVICE void pass_tile(Turn<D>& turn, Feed<D, wide>& feed) {
  turn.take();
  feed.bring_keys(turn.free());
  turn.take();
  feed.bring_values(turn.free());
}

/// What the splits so far of this thread's rows are joined to lies in device memory, four floats of
/// all threads together: outputs, then maxima and sums.
template <int D, class Float>
DEVICE Float* joined_at(Float* joined, int i) {
  return joined + (i * unit_threads + static_cast<int>(threadIdx.x)) * 4;
}
/// Joins the split that ends to those before, for rows that see more than `limit` keys; these begin
/// anew. `first`: there are none before.
template <int D>
DEVICE void join_split(Share<D>& share, const Unit& unit, float* joined, int limit, bool first) {
  const float4 states =
      first ? float4{-infinity(), 0.0f, -infinity(), 0.0f} : read4(joined_at<D>(joined, D / 8));
  Softmax state[2] = {{states.x, states.y}, {states.z, states.w}};
  bool joins[2];
  Rescale by[2];
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    RowState& row = share.rows[r];
    Softmax both = state[r];
    by[r] = both.join({row.m, row.total()});
    joins[r] = visible_to(unit, pair_of(r)) > limit;
    if (!joins[r]) continue;
    state[r] = both;
    row = RowState();
  }
  write4(joined_at<D>(joined, D / 8), {state[0].m, state[0].sum, state[1].m, state[1].sum});
#pragma unroll
  for (int i = 0; i < D / 8; ++i) {
    float* const at = joined_at<D>(joined, i);
    const float4 before = first ? float4{0.0f, 0.0f, 0.0f, 0.0f} : read4(at);
    float now[4] = {before.x, before.y, before.z, before.w};
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      if (!joins[e / 2]) continue;
      now[e] = by[e / 2].join(now[e], share.out[i][e]);
      share.out[i][e] = 0.0f;
    }
    write4(at, {now[0], now[1], now[2], now[3]});
  }
}

/// Outputs over the sums, and what the softmax adds up to. Neighbouring lanes have two columns of
/// two rows each and exchange: the even one writes four of the first row.
template <bool wide, int D>
DEVICE void write_rows(const Share<D>& share, const Softmax (&state)[2], const Arguments<Bf16>& a,
                       const Unit& unit) {
  const int lane = lane_of_warp(), dim = dim_of<D, wide>(a);
  const float normal[2] = {state[0].normal(), state[1].normal()};
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    const std::int64_t at = place_of(unit, a.batch.heads, 1, pair_of(r));
    if (lane % 4 == 0 && at >= 0) a.lse[at] = state[r].log_sum();
  }
  const std::int64_t begin = place_of(unit, a.out.stride, dim, pair_of(lane % 2));
  const int first = lane % 4 / 2 * 4, left = dim - first;
  Bf16* const to = a.out.data + begin + first;
#pragma unroll
  for (int i = 0; i < D / 8; ++i) {
    const float(&out)[4] = share.out[i];
    const float4 quad =
        quad_of({out[0] * normal[0], out[1] * normal[0], out[2] * normal[1], out[3] * normal[1]});
    if (begin >= 0) write4_upto(to + 8 * i, quad, left - 8 * i);
  }
}

/// What was joined takes the place of what rows have, where they see more than a split.
template <int D>
DEVICE void take_joined(Share<D>& share, Softmax (&state)[2], const Unit& unit,
                        const float* joined) {
  const float4 states = read4(joined_at<D>(joined, D / 8));
  bool joins[2];
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    joins[r] = visible_to(unit, pair_of(r)) > split_keys;
    if (joins[r]) state[r] = {part(states, 2 * r), part(states, 2 * r + 1)};
  }
#pragma unroll
  for (int i = 0; i < D / 8; ++i) {
    const float4 out = read4(joined_at<D>(joined, i));
#pragma unroll
    for (int e = 0; e < 4; ++e) share.out[i][e] = joins[e / 2] ? part(out, e) : share.out[i][e];
  }
}

template <int D, bool wide>
class TensorPairs {
 public:
  using Element = Bf16;
  using Work = Units;
  struct Shared {
    TileRing<D> ring;
    Units::Shared units;
  };
  static constexpr int threads = unit_threads, step = tile_keys;
  static constexpr int joined_floats = unit_threads * (D / 8 + 1) * 4;

  DEVICE static Work work(Shared& s, const Arguments<Bf16>& a) {
    return Work(s.units, a, joined_floats);
  }
  DEVICE TensorPairs(Shared& s, const Arguments<Bf16>& a, const Work&)
      : s_(s), a_(a), unit_(s.units.unit), feed_(a, unit_, warp_of_block()), turn_(s.ring) {}

  DEVICE Share<D> begin() {
    const int warp = warp_of_block(), lane = lane_of_warp();
    const int dim = dim_of<D, wide>(a_);
    const RowTile<D> queries{s_.ring.tiles[ring_tiles - 1]};  // whose turn comes behind a barrier
    bring_rows(queries, 16 * warp, a_.q.data,
               place_of(unit_, a_.q.stride, dim, 16 * warp + lane % 16), dim);
    copy_async_commit();
    feed_.bring_keys(s_.ring.tiles[0]);
    feed_.bring_values(s_.ring.tiles[1]);
    Share<D> share;
    const bool works = 16 * warp < unit_.pairs;
    share.first = works ? visible_to(unit_, 16 * warp) : 0;
    share.last = works ? visible_to(unit_, 16 * warp + 15) : 0;
    copy_async_wait<2>();
    sync_warp();
#pragma unroll
    for (int e = 0; e < D / 16; ++e) rows_on_the_left(share.q[e], queries, 16 * warp, 16 * e);
    return share;
  }
  DEVICE void join(Share<D>& share, int limit, bool first) const {
    if (limit < share.last) join_split(share, unit_, s_.units.joined, limit, first);
  }
  DEVICE void walk(Share<D>& share, int key) {
    if (key + tile_keys <= share.first) {
      walk_tile<true>(share, turn_, feed_, unit_, key, a_.scale);
    } else if (key < share.last) {
      walk_tile<false>(share, turn_, feed_, unit_, key, a_.scale);
    } else {
      pass_tile(turn_, feed_);
    }
  }
  DEVICE void write(Share<D>& share) const {
    if (share.last == 0) return;
    const RowState(&rows)[2] = share.rows;
    Softmax state[2] = {{rows[0].m, rows[0].total()}, {rows[1].m, rows[1].total()}};
    if (share.last > split_keys) take_joined(share, state, unit_, s_.units.joined);
    write_rows<wide>(share, state, a_, unit_);
  }

 private:
  Shared& s_;
  const Arguments<Bf16>& a_;
  const Unit& unit_;
  Feed<D, wide> feed_;
  Turn<D> turn_;
};

}  // namespace

template <>
void attend_pairs(const Cuda& cuda, const Arguments<Bf16>& a) {
  const bool aligned = reinterpret_cast<std::uintptr_t>(a.cache) % 16 == 0;
  const bool wide = aligned && (a.batch.dim == 64 || a.batch.dim == 128);
  if (a.batch.dim <= 64) {
    wide ? attend_by<TensorPairs<64, true>>(cuda, a) : attend_by<TensorPairs<64, false>>(cuda, a);
  } else {
    wide ? attend_by<TensorPairs<128, true>>(cuda, a) : attend_by<TensorPairs<128, false>>(cuda, a);
  }
}

}  // namespace fst::kernels::gpu::forward
