#include "kernels/cuda/attention_bf16_tiles.h"
#include "kernels/cuda/attention_split.h"
#include "kernels/cuda/attention_walk.h"

/// The schedule TensorRow: one row of a sequence, in bfloat16. A block takes one split of the keys
/// and up to eight query heads of one KV head, which are the columns of the tensor cores'
/// operation: its left operand are K and V, sixteen keys or sixteen elements of the head at a time,
/// so that each is multiplied once. A block's sum is symmetric in its factors: the bits are those
/// of kernels that have the queries on the left.
///
/// K and V pass through a ring of stages of 128 keys each, first K of a tile, then V. All of the
/// ring but the stage in use is under way at any time, which is what the memory's speed takes. For
/// the scores the warps share the keys out, for the output the elements of the head, since the
/// chain over the keys is one.
namespace fst::kernels::gpu::forward {

namespace {

constexpr int columns = 8;  // heads of a block
constexpr int tile_stages = 2;

/// Of heads with up to D elements: a warp for each 16 of them, and 96 KiB of stages.
template <int D>
struct Shape {
  static constexpr int threads = 2 * D, warps = D / cache_block;
  static constexpr int warp_blocks = tile_blocks / warps;  // that a warp brings, and scores
  static constexpr int stages = 3 * 128 / D;
};

/// Rows have 16 bytes more than they hold: eight of them lie in different banks.
template <int D>
struct alignas(128) DecodeShared {
  Bf16 ring[Shape<D>::stages][tile_keys * D];
  Bf16 q[columns][D + piece_size];
  Bf16 weights[columns][tile_keys + piece_size];  // e^(score - m), rounded, for the output
  float p[columns][tile_keys + 4];                // and for the sum
  float greatest[columns][Shape<D>::warps];       // score of the tile
  float shrink[columns];                          // what the tile does to the sum so far
  float total[columns];
  const Bf16* blocks[split_blocks];  // K of the KV head in the cache blocks of the split
};

/// The thread's place: what multiply_16x8x16 gives it are rows `row` and row + 8 of columns
/// `column` and column + 1. Its warp takes the cache blocks block(0), block(1), ... of a tile.
template <int D>
struct Thread {
  int warp, lane, row, column;
  DEVICE Thread() {
    warp = warp_of_block();
    lane = lane_of_warp();
    row = lane / 4;
    column = lane % 4 * 2;
  }
  DEVICE int block(int i) const { return warp + i * Shape<D>::warps; }
};

/// Where the split lies: also what is behind its end, so that nothing waits for where that is, nor
/// for whether there is one.
template <int D>
DEVICE void find_blocks(DecodeShared<D>& s, const Arguments<Bf16>& a, const Part& part) {
  const int thread = static_cast<int>(threadIdx.x), block = part.first / cache_block + thread;
  if (thread >= split_blocks) return;
  const bool exists = block < static_cast<int>(a.batch.max_blocks);
  s.blocks[thread] =
      keys_of(a.cache, a.batch, exists ? part.sequence.table[block] : 0, part.kv_head);
}

/// The stages of a block's keys: number 2 t is K of tile t, number 2 t + 1 is V. `exact`: heads
/// have D elements and the cache is aligned; then there are zeros where no keys are.
template <int D, bool exact>
struct Stages {
  DecodeShared<D>& s;
  Thread<D> own;
  int dim, keys;  // elements of a head, keys of the part
  bool wide;

  DEVICE Stages(DecodeShared<D>& shared, const Arguments<Bf16>& a, const Part& part) : s(shared) {
    dim = exact ? D : static_cast<int>(a.batch.dim);
    keys = part.keys;
    wide = exact || (dim % piece_size == 0 && aligned16(a.cache));
  }
  DEVICE Bf16* slot(int stage) const { return s.ring[stage % Shape<D>::stages]; }

  /// A cache block of which `count` keys exist. What K holds of the others makes scores that nobody
  /// reads.
  template <bool by_pieces>
  DEVICE void bring_block(int stage, int block, const Bf16* from, int count) const {
    if (stage % tile_stages == 0) {
      bring_keys<by_pieces>(KeyTile<D>{slot(stage)}, block, from, count > 0 ? dim : 0);
    } else {
      bring_values<by_pieces>(RowTile<D>{slot(stage)}, block * cache_block, from, dim, count);
    }
  }
  /// A group of copies, empty behind the last tile.
  DEVICE void bring(int stage) const {
    const int tile = stage / tile_stages * tile_keys;
    if (tile < keys) {
#pragma unroll
      for (int i = 0; i < Shape<D>::warp_blocks; ++i) {
        const int block = own.block(i), count = keys - tile - block * cache_block;
        const Bf16* const from = s.blocks[tile / cache_block + block];
        if (!exact && count <= 0) break;
        if (wide) {
          bring_block<true>(stage, block, from, count);
        } else {
          bring_block<false>(stage, block, from, count);
        }
      }
    }
    copy_async_commit();
  }
  DEVICE void begin() const {
#pragma unroll 1
    for (int stage = 0; stage < Shape<D>::stages - 1; ++stage) bring(stage);
  }
  /// Waits for a stage; the one before it has been used by all, its place is filled anew.
  DEVICE Bf16* next(int stage) const {
    copy_async_wait<Shape<D>::stages - 2>();
    sync_block();
    bring(stage + Shape<D>::stages - 1);
    return slot(stage);
  }
};

/// The queries as right operand, zeros beyond the heads and their elements.
template <int D>
DEVICE void bring_queries(DecodeShared<D>& s, const Arguments<Bf16>& a, const Part& part) {
  constexpr int across = D / piece_size;
  const int thread = static_cast<int>(threadIdx.x), dim = static_cast<int>(a.batch.dim);
  const int g = thread / across, h = thread % across * piece_size;
  if (g >= columns) return;
  const Bf16* const from = queries_of(a, part) + g * dim + h;
  const int count = g < part.count ? dim - h : 0;
  if (count >= piece_size && aligned16(from)) {
    bring_piece<true>(&s.q[g][h], from, count);
  } else {
    bring_piece<false>(&s.q[g][h], from, count);
  }
}
template <int D>
using Queries = std::uint32_t[D / cache_block][2];
template <int D>
DEVICE void load_queries(Queries<D>& q, const DecodeShared<D>& s, const Thread<D>& own) {
#pragma unroll
  for (int i = 0; i < D / cache_block; i += 2) {
    std::uint32_t two[4];
    load_matrix_x4(two, &s.q[own.lane % 8][i * cache_block + own.lane / 8 * piece_size]);
#pragma unroll
    for (int e = 0; e < 4; ++e) q[i + e / 2][e % 2] = two[e];
  }
}

/// The thread's scores of a tile, of keys key(own, i) and + 8: two heads each.
template <int D>
struct Scores {
  float of[Shape<D>::warp_blocks][4];
  DEVICE static int key(const Thread<D>& own, int i) {
    return own.block(i) * cache_block + own.row;
  }
};

/// The scores of the warp's keys: chains from +0 over blocks of 16 elements of the head. Where
/// heads are exact, blocks without a key are taken too: no loads wait for branches then.
template <int D, bool exact>
DEVICE void multiply_keys(Scores<D>& scores, KeyTile<D> tile, const Queries<D>& q, int dim,
                          int keys, const Thread<D>& own) {
#pragma unroll
  for (int i = 0; i < Shape<D>::warp_blocks; ++i) {
    if (!exact && own.block(i) * cache_block >= keys) break;
#pragma unroll
    for (int j = 0; j < D / cache_block; ++j) {
      if (j * cache_block >= dim) break;
      std::uint32_t left[4];
      rows_on_the_left(left, tile, own.block(i), j * cache_block);
      multiply_16x8x16(scores.of[i], left, q[j]);
    }
  }
}

/// Scales the scores of a tile of `keys` keys and finds the greatest of the warp's.
template <int D>
DEVICE void scale_scores(Scores<D>& scores, DecodeShared<D>& s, float scale, int keys,
                         const Thread<D>& own) {
  float most[2] = {-infinity(), -infinity()};
#pragma unroll
  for (int i = 0; i < Shape<D>::warp_blocks * 4; ++i) {
    float& score = scores.of[i / 4][i % 4];
    const int key = Scores<D>::key(own, i / 4) + i % 4 / 2 * 8;
    score = key < keys ? score * scale : -infinity();
    most[i % 2] = greatest(most[i % 2], score);
  }
#pragma unroll
  for (int e = 0; e < 2; ++e) {
#pragma unroll
    for (int step = 4; step < 32; step *= 2) {
      most[e] = greatest(most[e], shuffle_xor(most[e], step));
    }
    if (own.row == 0) s.greatest[own.column + e][own.warp] = most[e];
  }
}

/// Turns the scores into weights, exact zeros where there is no key, and says how the output so far
/// shrinks: by exactly 1 where the maximum stays, by NaN where it is infinite or NaN. m goes on
/// from tile to tile.
template <int D>
DEVICE void soften(float (&shrink)[2], float (&m)[2], const Scores<D>& scores, DecodeShared<D>& s,
                   const Thread<D>& own) {
#pragma unroll
  for (int e = 0; e < 2; ++e) {
    const float before = m[e];
#pragma unroll
    for (int w = 0; w < Shape<D>::warps; w += 4) {
      const float4 four = read4(&s.greatest[own.column + e][w]);
      m[e] = greatest(m[e], greatest(greatest(four.x, four.y), greatest(four.z, four.w)));
    }
    shrink[e] = exp_falling(before - m[e]) + (m[e] - m[e]);
    if (own.warp == 0 && own.row == 0) s.shrink[own.column + e] = shrink[e];
  }
#pragma unroll
  for (int i = 0; i < Shape<D>::warp_blocks * 2; ++i) {
    const int key = Scores<D>::key(own, i / 2) + i % 2 * 8;
    float p[2];
#pragma unroll
    for (int e = 0; e < 2; ++e) {
      p[e] = exp_falling(scores.of[i / 2][i % 2 * 2 + e] - m[e]);
      s.p[own.column + e][key] = p[e];
    }
    const std::uint32_t pair = narrowed_pair(p[0], p[1]);
    s.weights[own.column][key].bits = static_cast<std::uint16_t>(pair);
    s.weights[own.column + 1][key].bits = static_cast<std::uint16_t>(pair >> 16);
  }
}

/// The head whose sum this half-warp takes, a lane each; the two of a warp are chosen so that they
/// read from different banks.
DEVICE int head_of_sum() {
  return half_warp_of() / 2 + half_warp_of() % 2 * (columns / 2);
}
DEVICE bool has_sum() {
  return static_cast<int>(threadIdx.x) < columns * lanes;
}
template <int D>
DEVICE float add_weights(float total, const DecodeShared<D>& s) {
  total = total * s.shrink[head_of_sum()];
#pragma unroll
  for (int b = 0; b < tile_blocks; ++b) {
    total = total + s.p[head_of_sum()][b * lanes + lane_of()];
  }
  return total;
}

/// Elements 16 warp + row and + 8 of the outputs of two heads.
using Output = float[4];

/// Continues the chains of the outputs over a tile of `keys` keys, in blocks of 16. A block of
/// zeros changes nothing.
template <int D, bool exact>
DEVICE void multiply_values(Output& out, const DecodeShared<D>& s, RowTile<D> values, int keys,
                            const Thread<D>& own) {
  const Bf16* const from = &s.weights[own.lane % 8][own.lane / 8 * piece_size];
#pragma unroll
  for (int b = 0; b < tile_blocks; b += 2) {
    std::uint32_t two[4];
    if (exact || b * cache_block < keys) load_matrix_x4(two, from + b * cache_block);
#pragma unroll
    for (int j = 0; j < 2; ++j) {
      if (!exact && (b + j) * cache_block >= keys) return;
      const std::uint32_t weights[2] = {two[2 * j], two[2 * j + 1]};
      std::uint32_t left[4];
      elements_on_the_left(left, values, (b + j) * cache_block, own.warp * cache_block);
      multiply_16x8x16(out, left, weights);
    }
  }
}

/// What a thread carries from tile to tile.
template <int D>
struct Carried {
  Queries<D> q;
  Output out = {};
  float m[2] = {-infinity(), -infinity()};  // of its two heads
  float total = 0.0f;                       // of its lane of head_of_sum()
};

template <int D, bool exact>
class TensorRow {
 public:
  using Element = Bf16;
  using Work = Parts<columns>;
  using Shared = DecodeShared<D>;
  static constexpr int threads = Shape<D>::threads, step = tile_keys;

  DEVICE static Work work(Shared& s, const Arguments<Bf16>& a) {
    const Work work(a);
    find_blocks(s, a, work.part());
    return work;
  }
  DEVICE TensorRow(Shared& s, const Arguments<Bf16>& a, const Work& work)
      : s_(s), a_(a), part_(work.part()), ring_(s, a, part_) {}
  DEVICE Carried<D> begin() const {
    Carried<D> carried;
    bring_queries(s_, a_, part_);
    sync_block();
    ring_.begin();
    copy_async_wait<Shape<D>::stages - 2>();
    sync_block();  // the queries came with the first stage
    load_queries<D>(carried.q, s_, ring_.own);
    return carried;
  }
  DEVICE void walk(Carried<D>& carried, int key) const {
    const int at = key - part_.first, stage = at / tile_keys * tile_stages;
    const int keys = ring_.keys - at;
    const Thread<D>& own = ring_.own;
    Scores<D> scores = {};
    multiply_keys<D, exact>(scores, KeyTile<D>{ring_.next(stage)}, carried.q, ring_.dim, keys, own);
    scale_scores(scores, s_, a_.scale, keys, own);
    sync_block();
    float shrink[2];
    soften(shrink, carried.m, scores, s_, own);
#pragma unroll
    for (int i = 0; i < 4; ++i) carried.out[i] = carried.out[i] * shrink[i % 2];
    const RowTile<D> values{ring_.next(stage + 1)};
    if (own.warp * cache_block < ring_.dim) {
      multiply_values<D, exact>(carried.out, s_, values, keys, own);
    }
    if (has_sum()) carried.total = add_weights(carried.total, s_);
  }
  DEVICE void write(const Carried<D>& carried) const {
    const Thread<D>& own = ring_.own;
    if (has_sum()) {
      const float total = sum(carried.total);
      if (lane_of() == 0) s_.total[head_of_sum()] = total;
    }
    sync_block();
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int h = own.warp * cache_block + own.row + i / 2 * 8, g = own.column + i % 2;
      if (h >= static_cast<int>(a_.batch.dim) || g >= part_.count) continue;
      keep_output(carried.out[i], {carried.m[i % 2], s_.total[g]}, a_, part_, h, g);
    }
  }

 private:
  Shared& s_;
  const Arguments<Bf16>& a_;
  const Part& part_;
  const Stages<D, exact> ring_;
};

template <int D>
void attend(const Cuda& cuda, const Arguments<Bf16>& a) {
  const bool exact = a.batch.dim == D && reinterpret_cast<std::uintptr_t>(a.cache) % 16 == 0;
  exact ? attend_by<TensorRow<D, true>>(cuda, a) : attend_by<TensorRow<D, false>>(cuda, a);
}

}  // namespace

template <>
void attend_row(const Cuda& cuda, const Arguments<Bf16>& a) {
  a.batch.dim <= 64 ? attend<64>(cuda, a) : attend<128>(cuda, a);
}

}  // namespace fst::kernels::gpu::forward
