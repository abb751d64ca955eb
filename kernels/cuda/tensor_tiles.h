#pragma once

#include "kernels/cuda/matmul_bf16_kernels.h"

/// Blocks that make a square tile of outputs of 64 m a side by tensor cores: 8 warps, two down and
/// four across, each with 32 m x 16 m of them in registers. Steps of 64 inner indices pass through
/// a ring of stages in shared memory, filled by asynchronous copies.
namespace fst::kernels::gpu {

constexpr int tile_threads = 256;

template <int m>
constexpr int tile_side = 64 * m;

/// 64 m outputs x 64 inner indices of an operand, as it lies. Piece p of row r is at p ^ r % 8, so
/// that eight rows of one p, which ldmatrix takes at a time, lie in different banks.
template <int m, Lies lies>
struct alignas(128) OperandTile {
  static constexpr int rows = lies == Lies::inner ? tile_side<m> : step_depth;
  static constexpr int columns = lies == Lies::inner ? step_depth : tile_side<m>;
  Bf16 elements[rows][columns];

  DEVICE Bf16* piece(int r, int p) { return &elements[r][(p ^ r % 8) * piece_size]; }
};

/// What multiply_16x8x16 wants of the left operand: outputs [row, row + 16) at block `block`.
template <int m, Lies lies>
DEVICE void left_fragment(std::uint32_t (&to)[4], OperandTile<m, lies>& tile, int row, int block) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  if constexpr (lies == Lies::inner) {
    load_matrix_x4(to, tile.piece(row + lane % 16, 2 * block + lane / 16));
  } else {
    load_matrix_x4_transposed(
        to, tile.piece(16 * block + lane / 16 * 8 + lane % 8, row / 8 + lane / 8 % 2));
  }
}
/// And of the right one, for outputs [column, column + 8) and the eight behind.
template <int m, Lies lies>
DEVICE void right_fragments(std::uint32_t (&to)[4], OperandTile<m, lies>& tile, int column,
                            int block) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  if constexpr (lies == Lies::inner) {
    load_matrix_x4(to, tile.piece(column + lane / 16 * 8 + lane % 8, 2 * block + lane / 8 % 2));
  } else {
    load_matrix_x4_transposed(to, tile.piece(16 * block + lane % 16, column / 8 + lane / 16));
  }
}

/// The inner index of row r of a step, or -1.
DEVICE int source(Range range, int r) {
  return range.begin + r < range.end ? range.begin + r : -1;
}

/// Four blocks from number `block` on; the first is in sequence `sequence`.
struct SequenceStep {
  const Sequences& sequences;
  int block, sequence;
};
DEVICE int source(const SequenceStep& step, int r) {
  const Sequences& s = step.sequences;
  const int block = step.block + r / tensor_block;
  if (block >= s.blocks[s.count]) return -1;
  int sequence = step.sequence;
  while (block >= s.blocks[sequence + 1]) ++sequence;
  const int row =
      s.starts[sequence] + (block - s.blocks[sequence]) * tensor_block + r % tensor_block;
  return row < s.starts[sequence + 1] ? row : -1;
}

/// The part of an operand's tiles that this thread brings.
template <int m, Lies lies, bool wide>
struct Feed {
  using Tile = OperandTile<m, lies>;
  static constexpr int across = Tile::columns / piece_size;
  static constexpr int down = tile_threads / across;
  const Bf16* from;
  std::int64_t step;
  int row, piece;  // of the first of the thread's pieces
  int outputs;     // that exist from the tile's first on

  DEVICE Feed(const Bf16* operand, std::int64_t ld, int origin, int extent)
      : from(operand + (lies == Lies::inner ? origin * ld : origin)),
        step(ld),
        row(static_cast<int>(threadIdx.x) / across),
        piece(static_cast<int>(threadIdx.x) % across),
        outputs(extent - origin) {}

  /// `inner` is a Range of at most 64 inner indices, or a SequenceStep.
  template <class Inner>
  DEVICE void bring(Tile& tile, const Inner& inner) const {
#pragma unroll
    for (int i = 0; i < Tile::rows / down; ++i) {
      const int r = row + down * i;
      if constexpr (lies == Lies::inner) {
        const int k = inner.begin + piece_size * piece;
        const int count = r < outputs ? inner.end - k : 0;
        bring_piece<wide>(tile.piece(r, piece), from + r * step + k, count);
      } else {
        const int k = source(inner, r);
        const int count = k >= 0 ? outputs - piece_size * piece : 0;
        bring_piece<wide>(tile.piece(r, piece), from + k * step + piece_size * piece, count);
      }
    }
  }
};

class SequenceSteps {
 public:
  DEVICE explicit SequenceSteps(const Sequences& sequences) : step_{sequences, 0, 0} {}
  DEVICE bool more() const { return step_.block < step_.sequences.blocks[step_.sequences.count]; }
  DEVICE SequenceStep take() {
    const Sequences& s = step_.sequences;
    while (step_.block >= s.blocks[step_.sequence + 1]) ++step_.sequence;
    const SequenceStep step = step_;
    step_.block += step_blocks;
    return step;
  }

 private:
  SequenceStep step_;
};

template <int m, Lies a, Lies b>
struct Stage {
  OperandTile<m, a> left;
  OperandTile<m, b> right;
};
constexpr int ring_stages = 3;
template <int m, Lies a, Lies b>
struct Ring {
  Stage<m, a, b> stages[ring_stages];
};

/// Takes the steps of `Steps` through the ring, two of them under way.
template <int m, Lies a, Lies b, bool wide, class Steps>
class Pipeline {
 public:
  DEVICE Pipeline(Ring<m, a, b>& ring, Feed<m, a, wide> left, Feed<m, b, wide> right, Steps steps)
      : ring_(ring), left_(left), right_(right), steps_(steps), slot_(0) {
#pragma unroll
    for (int i = 0; i < ring_stages - 1; ++i) bring(i);
  }
  /// The next step's stage, which all threads have filled and may read until they call this again.
  DEVICE Stage<m, a, b>& next() {
    copy_async_wait<ring_stages - 2>();
    sync_block();  // the copies of all are there, and nobody reads the stage that is filled next
    bring(slot_ == 0 ? ring_stages - 1 : slot_ - 1);
    Stage<m, a, b>& stage = ring_.stages[slot_];
    slot_ = slot_ + 1 == ring_stages ? 0 : slot_ + 1;
    return stage;
  }

 private:
  DEVICE void bring(int slot) {
    if (steps_.more()) {
      const auto step = steps_.take();
      left_.bring(ring_.stages[slot].left, step);
      right_.bring(ring_.stages[slot].right, step);
    }
    copy_async_commit();
  }
  Ring<m, a, b>& ring_;
  Feed<m, a, wide> left_;
  Feed<m, b, wide> right_;
  Steps steps_;
  int slot_;
};

template <int m>
DEVICE Origin origin_of(int rows, int columns, int tile) {
  return origin_of_tile<tile_side<m>, tile_side<m>>(rows, columns, tile);
}
/// Of this warp's part within its tile.
template <int m>
DEVICE Origin part_of_warp() {
  const int warp = static_cast<int>(threadIdx.x) / 32;
  return {warp / 4 * 32 * m, warp % 4 * 16 * m};
}

/// A thread's sums: [row of fragments][column of fragments][as multiply_16x8x16 has them].
template <int m>
struct Sums {
  static constexpr int count = 16 * m * m;
  float of[2 * m][2 * m][4];
  DEVICE float& at(int i) { return of[i / 4 / (2 * m)][i / 4 % (2 * m)][i % 4]; }
};

template <int m, Lies a, Lies b>
DEVICE void multiply_block(Sums<m>& sum, Stage<m, a, b>& stage, Origin part, int block) {
  std::uint32_t left[2 * m][4], right[m][4];
#pragma unroll
  for (int i = 0; i < 2 * m; ++i) left_fragment(left[i], stage.left, part.row + 16 * i, block);
#pragma unroll
  for (int j = 0; j < m; ++j) right_fragments(right[j], stage.right, part.column + 16 * j, block);
#pragma unroll
  for (int j = 0; j < m; ++j) {
    const std::uint32_t first[2] = {right[j][0], right[j][1]};
    const std::uint32_t second[2] = {right[j][2], right[j][3]};
#pragma unroll
    for (int i = 0; i < 2 * m; ++i) {
      multiply_16x8x16(sum.of[i][2 * j], left[i], first);
      multiply_16x8x16(sum.of[i][2 * j + 1], left[i], second);
    }
  }
}
/// Continues all chains over the first `blocks` blocks of a stage.
template <int m, Lies a, Lies b>
DEVICE void multiply(Sums<m>& sum, Stage<m, a, b>& stage, Origin part, int blocks) {
#pragma unroll
  for (int block = 0; block < step_blocks; ++block) {
    if (block < blocks) multiply_block(sum, stage, part, block);
  }
}

/// visit(row, column, four sums of neighbouring columns) for all of the thread's sums, in rows and
/// columns of the tile: neighbouring lanes, which have two columns of two rows each, exchange.
template <int m, class Visit>
DEVICE void each_quad(const Sums<m>& sum, Visit visit) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const bool odd = lane % 2 == 1;
  const Origin part = part_of_warp<m>();
  const int row = part.row + lane / 4 + (odd ? 8 : 0), column = part.column + lane % 4 / 2 * 4;
#pragma unroll
  for (int i = 0; i < 2 * m; ++i) {
#pragma unroll
    for (int j = 0; j < 2 * m; ++j) {
      visit(row + 16 * i, column + 8 * j, quad_of(sum.of[i][j]));
    }
  }
}

}  // namespace fst::kernels::gpu
