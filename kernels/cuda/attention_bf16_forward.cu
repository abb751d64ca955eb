#include "kernels/cuda/attention_bf16_forward.h"
#include "kernels/cuda/attention_bf16_softmax.h"

/// Attention by tensor cores of sequences with several rows. A warp owns 16 row-head pairs of a
/// unit from its first key to its last: their queries, the scores of a tile and their outputs stay
/// in registers, where what one product leaves is what the next one takes. Exponentials of 16 keys
/// are computed while the tensor cores multiply those before. Nothing but keys and values passes
/// through shared memory.
namespace fst::kernels::gpu::forward {

namespace {

template <int D>
struct Shared {
  TileRing<D> ring;
  Unit unit;
  int next;       // unit of the block
  float* joined;  // the block's part of the arguments' array
};

/// A thread's share of its warp's work: 16 pairs, of which it has the rows lane / 4 and + 8.
template <int D>
struct Share {
  std::uint32_t q[D / 16][4];
  float out[D / 8][4];
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

template <int D>
DEVICE void begin_share(Share<D>& share, const Unit& unit, int warp) {
  for (RowState& row : share.rows) row = RowState();
  const bool works = 16 * warp < unit.pairs;
  share.first = works ? visible_to(unit, 16 * warp) : 0;
  share.last = works ? visible_to(unit, 16 * warp + 15) : 0;
#pragma unroll
  for (int i = 0; i < D / 2; ++i) share.out[i / 4][i % 4] = 0.0f;
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
template <int D>
DEVICE float* joined_at(float* joined, int i) {
  return joined + (i * unit_threads + static_cast<int>(threadIdx.x)) * 4;
}
template <int D>
constexpr int joined_floats = unit_threads*(D / 8 + 1) * 4;

/// Factors of a join for the thread's two rows; rows that do not join keep what is there.
struct Factors {
  bool joins[2];
  float before[2], now[2];
};
/// joined = before * joined + now * out.
DEVICE float4 join(const Factors& f, float4 joined, const float (&out)[4]) {
  if (f.joins[0]) {
    joined.x = fma(joined.x, f.before[0], out[0] * f.now[0]);
    joined.y = fma(joined.y, f.before[0], out[1] * f.now[0]);
  }
  if (f.joins[1]) {
    joined.z = fma(joined.z, f.before[1], out[2] * f.now[1]);
    joined.w = fma(joined.w, f.before[1], out[3] * f.now[1]);
  }
  return joined;
}

/// Joins the split that ends to those before, for rows that see more than `limit` keys: both are
/// rescaled to the greater maximum; the rows begin anew. `first`: there are none before.
template <int D>
DEVICE void join_split(Share<D>& share, const Unit& unit, float* joined, int limit, bool first) {
  float4 state =
      first ? float4{-infinity(), 0.0f, -infinity(), 0.0f} : read4(joined_at<D>(joined, D / 8));
  float* const parts[2][2] = {{&state.x, &state.y}, {&state.z, &state.w}};
  Factors f;
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    RowState& row = share.rows[r];
    const float total = row.total();
    float &joined_m = *parts[r][0], &joined_sum = *parts[r][1];
    f.joins[r] = visible_to(unit, pair_of(r)) > limit;
    const float m = greater(joined_m, row.m);
    f.before[r] = exp(joined_m - m);
    f.now[r] = exp(row.m - m);
    if (!f.joins[r]) continue;
    joined_sum = fma(joined_sum, f.before[r], total * f.now[r]);
    joined_m = m;
    row = RowState();
  }
  write4(joined_at<D>(joined, D / 8), state);
#pragma unroll
  for (int i = 0; i < D / 8; ++i) {
    float* const at = joined_at<D>(joined, i);
    write4(at, join(f, first ? float4{0.0f, 0.0f, 0.0f, 0.0f} : read4(at), share.out[i]));
#pragma unroll
    for (int e = 0; e < 4; ++e) share.out[i][e] = f.joins[e / 2] ? 0.0f : share.out[i][e];
  }
}

/// Outputs over `total`, and what the softmax adds up to. Neighbouring lanes have two columns of
/// two rows each and exchange: the even one writes four of the first row.
template <bool wide, int D>
DEVICE void write_rows(const Share<D>& share, const Arguments<Bf16>& a, const Unit& unit,
                       const float (&m)[2], const float (&total)[2]) {
  const int lane = lane_of_warp(), dim = dim_of<D, wide>(a);
  const float normal[2] = {1.0f / total[0], 1.0f / total[1]};
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    const std::int64_t at = place_of(unit, a.batch.heads, 1, pair_of(r));
    if (lane % 4 == 0 && at >= 0) a.lse[at] = m[r] + log(total[r]);
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

/// Joins the last split where there were others, normalises and writes.
template <bool wide, int D>
DEVICE void finish(Share<D>& share, const Arguments<Bf16>& a, const Unit& unit, float* joined) {
  float m[2], total[2];
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    m[r] = share.rows[r].m;
    total[r] = share.rows[r].total();
  }
  if (share.last > split_keys) {
    join_split(share, unit, joined, split_keys, false);
    const bool joins[2] = {visible_to(unit, pair_of(0)) > split_keys,
                           visible_to(unit, pair_of(1)) > split_keys};
    const float4 state = read4(joined_at<D>(joined, D / 8));
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      m[r] = joins[r] ? part(state, 2 * r) : m[r];
      total[r] = joins[r] ? part(state, 2 * r + 1) : total[r];
    }
#pragma unroll
    for (int i = 0; i < D / 8; ++i) {
      const float4 out = read4(joined_at<D>(joined, i));
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        share.out[i][e] = joins[e / 2] ? part(out, e) : share.out[i][e];
      }
    }
  }
  write_rows<wide>(share, a, unit, m, total);
}

template <int D, bool wide>
DEVICE void walk_unit(Shared<D>& s, const Arguments<Bf16>& a) {
  const Unit& unit = s.unit;
  const int warp = warp_of_block(), lane = lane_of_warp();
  const int dim = dim_of<D, wide>(a);
  const RowTile<D> queries{s.ring.tiles[ring_tiles - 1]};  // whose turn comes behind a barrier
  bring_rows(queries, 16 * warp, a.q.data, place_of(unit, a.q.stride, dim, 16 * warp + lane % 16),
             dim);
  copy_async_commit();
  Feed<D, wide> feed(a, unit, warp);
  Turn<D> turn(s.ring);
  feed.bring_keys(s.ring.tiles[0]);
  feed.bring_values(s.ring.tiles[1]);
  Share<D> share;
  begin_share(share, unit, warp);
  copy_async_wait<2>();
  sync_warp();
#pragma unroll
  for (int e = 0; e < D / 16; ++e) rows_on_the_left(share.q[e], queries, 16 * warp, 16 * e);
  for (int tile = 0; tile < unit.last; tile += tile_keys) {
    const bool splits = tile > 0 && tile % split_keys == 0;
    if (splits && tile < share.last) join_split(share, unit, s.joined, tile, tile == split_keys);
    if (tile + tile_keys <= share.first) {
      walk_tile<true>(share, turn, feed, unit, tile, a.scale);
    } else if (tile < share.last) {
      walk_tile<false>(share, turn, feed, unit, tile, a.scale);
    } else {
      pass_tile(turn, feed);
    }
  }
  if (share.last > 0) finish<wide>(share, a, unit, s.joined);
}

template <int D, bool wide>
KERNEL(unit_threads, 2)
forward_kernel(PARAMETER Arguments<Bf16> a) {
  Shared<D>& s = shared_memory<Shared<D>>();
  const bool leader = threadIdx.x == 0;
  if (leader) {
    s.next = static_cast<int>(blockIdx.y);
    const std::int64_t block = static_cast<std::int64_t>(blockIdx.y) * gridDim.x + blockIdx.x;
    s.joined = a.joined + block * joined_floats<D>;
  }
  for (;;) {
    if (leader) {
      find_unit(s.unit, a.batch, s.next);
      s.next += static_cast<int>(gridDim.y);
    }
    sync_block();
    if (s.unit.pairs == 0) return;
    walk_unit<D, wide>(s, a);
    sync_block();
  }
}

template <int D, bool wide>
void run(const Cuda& cuda, Arguments<Bf16> a) {
  const dim3 grid = unit_grid(a.batch);
  if (a.splits > 1) {
    const std::size_t floats = std::size_t{grid.x} * grid.y * joined_floats<D>;
    a.joined = static_cast<float*>(scratch(cuda, floats * sizeof(float)));
  }
  allow_shared(forward_kernel<D, wide>, sizeof(Shared<D>));
  launch(forward_kernel<D, wide>, grid, dim3(unit_threads), sizeof(Shared<D>), cuda.stream, a);
}

}  // namespace

void run_long(const Cuda& cuda, const Arguments<Bf16>& a) {
  const bool aligned = reinterpret_cast<std::uintptr_t>(a.cache) % 16 == 0;
  const bool wide = aligned && (a.batch.dim == 64 || a.batch.dim == 128);
  if (a.batch.dim <= 64) {
    wide ? run<64, true>(cuda, a) : run<64, false>(cuda, a);
  } else {
    wide ? run<128, true>(cuda, a) : run<128, false>(cuda, a);
  }
}

}  // namespace fst::kernels::gpu::forward
