#pragma once

#include "kernels/cuda/attention_bf16_tiles.h"
#include "kernels/cuda/attention_passes.h"
#include "kernels/cuda/math.h"

/// What the two passes of the backward pass over Bf16 share: shared memory and the way there, the
/// ring of what a block walks, and what becomes of 16 rows x 16 keys of scores.
namespace fst::kernels::gpu::backward {

inline constexpr int threads = attention_threads;
inline constexpr int owned = threads / 32 * cache_block;  // keys, or rows, of a block
inline constexpr int walked = 64;                         // rows, or keys, of a step
inline constexpr int walked_blocks = walked / cache_block;
inline constexpr int stages = 3;
static_assert(2 * walked_blocks * 32 == threads);  // a warp brings 16 of them of one tensor

struct Arguments {
  AttentionGradients<Bf16> gradients;
  ConstRows<Bf16> q;
  const Bf16* cache;
  PagedBatch batch;
  float scale;
  const float4* states;  // [rows, heads]: lse, dout . out, and 0, or NaN where lse is not finite
  bool wide;             // each eight elements of rows and cache are there together and aligned
};

/// What a block walks at a time: q, dout and states of rows, or K and V of keys.
template <int D>
struct alignas(128) Stage {
  Bf16 first[walked * D], second[walked * D];
  float4 states[walked];
};
/// And K and V, or q and dout, of what it owns, each warp its 16.
template <int D>
struct alignas(128) Shared {
  Bf16 first[owned * D], second[owned * D];
  Stage<D> ring[stages];
};

/// A piece that a thread brings: where it goes, where it comes from, and how many of its elements
/// exist (any count).
struct Piece {
  Bf16* to;
  const Bf16* from;
  int count;
  DEVICE bool whole() const { return count >= piece_size || count <= 0; }
};

/// A warp brings 16 x D elements, piece(i) for i < D / 16, with zeros for those that do not exist.
/// `whole`: no piece ends within.
template <int D, class Pieces>
DEVICE void bring(bool wide, bool whole, const Pieces& piece) {
  if (wide) {
#pragma unroll
    for (int i = 0; i < D / 16; ++i) {
      const Piece p = piece(i);
      if (whole || p.whole()) bring_piece<true>(p.to, p.from, p.count);
    }
    if (whole) return;
  }
#pragma unroll 1
  for (int i = 0; i < D / 16; ++i) {
    const Piece p = piece(i);
    if (!wide || !p.whole()) bring_piece<false>(p.to, p.from, p.count);
  }
}

/// 16 rows of a matrix that lie `stride` apart, the first `count` (any count) of them.
template <int D>
DEVICE void bring_rows(RowTile<D> to, int row, const Bf16* from, std::int64_t stride, int count,
                       const Arguments& a) {
  constexpr int across = RowTile<D>::pieces, rows = 32 / across;
  const int first = lane_of_warp() / across, p = lane_of_warp() % across;
  const int elements = static_cast<int>(a.batch.dim) - p * piece_size;
  const Bf16* const pieces = from + first * stride + p * piece_size;
  bring<D>(a.wide, true, [&](int i) -> Piece {
    const int r = first + rows * i;
    return {to.piece(row + r, p), pieces + rows * i * stride, r < count ? elements : 0};
  });
}
/// The same of a head's rows from `from` of the sequence on.
template <int D>
DEVICE void bring_rows(RowTile<D> to, int row, ConstRows<Bf16> of, const Sequence& sequence,
                       int head, int from, const Arguments& a) {
  bring_rows(to, row, of.data + (sequence.first_row + from) * of.stride + head * a.batch.dim,
             of.stride, sequence.rows - from, a);
}

/// K, which V follows, of the cache block of a key; of any block where there is none.
DEVICE const Bf16* block_of(const Sequence& sequence, int kv_head, int key, const Arguments& a) {
  const std::int64_t block = key < sequence.rows ? sequence.table[key / cache_block] : 0;
  return keys_of(a.cache, a.batch, block, kv_head);
}
/// K of the 16 keys from `key` on. Tokens behind the sequence may be anything in the cache; here
/// they are zeros.
template <int D>
DEVICE void bring_keys(KeyTile<D> to, int block, const Sequence& sequence, int kv_head, int key,
                       const Arguments& a) {
  const int first = lane_of_warp() / 2, half = lane_of_warp() % 2;
  const Bf16* const pieces =
      block_of(sequence, kv_head, key, a) + first * cache_block + half * piece_size;
  const int count = sequence.rows - key - half * piece_size, dim = static_cast<int>(a.batch.dim);
  bring<D>(a.wide, key + cache_block <= sequence.rows, [&](int i) -> Piece {
    const int h = first + 16 * i;
    return {to.piece(block, h, half), pieces + i * 16 * cache_block, h < dim ? count : 0};
  });
}
/// V of the 16 keys from `key` on.
template <int D>
DEVICE void bring_values(RowTile<D> to, int row, const Sequence& sequence, int kv_head, int key,
                         const Arguments& a) {
  bring_rows(to, row, block_of(sequence, kv_head, key, a) + cache_block * a.batch.dim, a.batch.dim,
             sequence.rows - key, a);
}

/// Takes steps through the ring of stages, two of them under way; bring(stage) fills one with the
/// next step's, and leaves it where there is none. All threads of the block do this together.
template <int D, class Bring>
class Ring {
 public:
  static constexpr int under_way = stages - 1;

  DEVICE Ring(Stage<D> (&ring)[stages], const Bring& bring)
      : stages_(ring), bring_(bring), slot_(0) {
#pragma unroll
    for (int i = 0; i < under_way; ++i) bring_step(i);
  }
  /// The stage of the next step, which all threads may read until they call this again.
  DEVICE Stage<D>& take() {
    copy_async_wait<under_way - 1>();
    sync_block();  // the copies of all are there, and nobody reads the stage that is filled next
    bring_step(slot_ == 0 ? stages - 1 : slot_ - 1);
    Stage<D>& stage = stages_[slot_];
    slot_ = slot_ + 1 == stages ? 0 : slot_ + 1;
    return stage;
  }

 private:
  DEVICE void bring_step(int slot) {
    bring_(stages_[slot]);
    copy_async_commit();
  }
  Stage<D> (&stages_)[stages];
  const Bring& bring_;
  int slot_;
};

/// 16 keys or rows of a warp, as left operands over the elements of the heads.
template <int D>
struct Owned {
  std::uint32_t first[D / 16][4], second[D / 16][4];
};
template <int D, class First>
DEVICE void take_owned(Owned<D>& own, First first, int first_at, RowTile<D> second, int row) {
#pragma unroll
  for (int b = 0; b < D / 16; ++b) {
    rows_on_the_left(own.first[b], first, first_at, 16 * b);
    rows_on_the_left(own.second[b], second, row, 16 * b);
  }
}

/// Sums of a warp, 16 x 8 n, as multiply_16x8x16 has them: a thread holds columns 8 j + 2 t and
/// behind (t = lane % 4) of the rows lane / 4 and + 8.
template <int n>
using Sums = float[n][4];

template <int n>
DEVICE void clear(Sums<n>& sum) {
#pragma unroll
  for (int i = 0; i < 4 * n; ++i) sum[i / 4][i % 4] = 0.0f;
}

/// Row and column of number i of fragment j.
DEVICE int row_of(int i) {
  return lane_of_warp() / 4 + i / 2 * 8;
}
DEVICE int column_of(int j, int i) {
  return 8 * j + lane_of_warp() % 4 * 2 + i % 2;
}

/// A RowTile whose rows a loop walks 16 at a time: `element`, a multiple of 16, comes last, so that
/// a lane has one register for all pieces of a row and not one for each.
template <int D>
struct WalkedTile {
  Bf16* elements;
  /// Piece p, 0 or 1, behind `element`.
  DEVICE Bf16* piece(int r, int p, int element) const {
    return elements + ((r * D + (p ^ (r & 7)) * piece_size) ^ element);
  }
};
/// As of a RowTile.
template <int D>
DEVICE void rows_on_the_right(std::uint32_t (&to)[4], WalkedTile<D> tile, int row, int element) {
  const int lane = lane_of_warp();
  load_matrix_x4(to, tile.piece(row + lane / 16 * 8 + lane % 8, lane / 8 % 2, element));
}
template <int D>
DEVICE void elements_on_the_right(std::uint32_t (&to)[4], WalkedTile<D> tile, int row,
                                  int element) {
  const int lane = lane_of_warp();
  load_matrix_x4_transposed(to, tile.piece(row + lane % 16, lane / 16, element));
}

/// Scores and products dout . v of the owned 16 with 16 others.
template <int D, class First>
DEVICE void multiply_owned(Sums<2>& score, Sums<2>& slope, const Owned<D>& own, First first,
                           int first_at, WalkedTile<D> second, int row) {
  clear<2>(score);
  clear<2>(slope);
#pragma unroll
  for (int b = 0; b < D / 16; ++b) {
    std::uint32_t right[4];
    rows_on_the_right(right, first, first_at, 16 * b);
    multiply_16x16x16(score[0], score[1], own.first[b], right);
    rows_on_the_right(right, second, row, 16 * b);
    multiply_16x16x16(slope[0], slope[1], own.second[b], right);
  }
}

/// A score becomes p, the product dout . v becomes ds. A score that is seen is above lse by
/// roundings at most, unless lse is not finite, which makes p NaN, as score - lse then is.
DEVICE void soften(float& score, float& slope, float4 state, float scale) {
  score = exp_falling(score * scale - state.x) + state.z;
  slope = (score * (slope - state.y)) * scale;
}

/// sum += factors, rounded, times the 16 rows (keys) of a tile that begin at `at`.
template <int D, class Tile>
DEVICE void multiply_elements(Sums<D / 8>& sum, const Sums<2>& factors, Tile tile, int at) {
  std::uint32_t left[4];
  narrowed_operand(left, factors[0], factors[1]);
#pragma unroll
  for (int j = 0; j < D / 16; ++j) {
    std::uint32_t right[4];
    elements_on_the_right(right, tile, at, 16 * j);
    multiply_16x16x16(sum[2 * j], sum[2 * j + 1], left, right);
  }
}

/// Writes the warp's sums, rows [row, row + 16) of the sequence of one head.
template <int D>
DEVICE void write_rows(Rows<Bf16> to, const Sums<D / 8>& sum, const Arguments& a,
                       const Sequence& sequence, int head, int row) {
  const int lane = lane_of_warp(), dim = static_cast<int>(a.batch.dim);
  const int r = row + lane / 4 + lane % 2 * 8, first = lane % 4 / 2 * 4, left = dim - first;
  Bf16* const at = to.data + (sequence.first_row + r) * to.stride + head * dim + first;
#pragma unroll
  for (int j = 0; j < D / 8; ++j) {
    const float4 quad = quad_of(sum[j]);
    if (r < sequence.rows) write4_upto(at + 8 * j, quad, left - 8 * j);
  }
}

}  // namespace fst::kernels::gpu::backward
