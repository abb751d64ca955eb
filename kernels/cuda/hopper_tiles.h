#pragma once

#include "kernels/cuda/hopper.h"
#include "kernels/cuda/matmul_bf16_tree.h"

/// Blocks that make tiles of 128 x n outputs by two warp groups, each of which has 64 x n of them
/// in registers. One more thread, the producer, brings steps of 64 inner indices by the tensor
/// memory accelerator to a ring of stages. Blocks take several tiles in turn; the producer is ahead
/// while the groups write.
namespace fst::kernels::gpu {

constexpr int group_rows = 64;
constexpr int group_tile_rows = 2 * group_rows;
constexpr int summing_warps = summing_threads / 32;
constexpr int group_tile_threads = summing_threads + 128;  // registers move by whole groups
constexpr int box_columns = 64;

/// A thread's sums, as group_multiply() has them.
template <int n>
struct GroupSums {
  static constexpr int count = group_rows * n / 128;
  float of[count];
  DEVICE float& at(int i) { return of[i]; }
};

/// Outputs x 64 inner indices of an operand, as it lies: rows of 128 bytes, in boxes.
template <int outputs, Lies lies>
struct GroupOperand {
  static constexpr int boxes = lies == Lies::inner ? 1 : outputs / box_columns;
  static constexpr int box_rows = lies == Lies::inner ? outputs : step_depth;
  alignas(1024) Bf16 elements[outputs * step_depth];

  DEVICE void bring(const TensorMap& map, Barrier& barrier, int output, int inner) {
#pragma unroll
    for (int i = 0; i < boxes; ++i) {
      const int column = lies == Lies::inner ? inner : output + i * box_columns;
      tensor_load(elements + i * box_rows * box_columns, map, barrier, column,
                  lies == Lies::inner ? output : inner);
    }
  }
  /// Outputs from `output`, a multiple of 64, on, at a block of inner indices.
  DEVICE std::uint64_t part(int output, int block) const {
    const int step = tensor_block * (lies == Lies::inner ? 1 : box_columns);
    return operand<lies>(elements + output * box_columns + block * step);
  }
};

/// 192 KiB, or 160 KiB beside which a quarter of a tree has room.
template <int n, Lies a_lies, Lies b_lies>
struct GroupRing {
  static constexpr Lies a = a_lies, b = b_lies;
  static constexpr int size = n == 256 ? 4 : 5;
  struct Stage {
    GroupOperand<group_tile_rows, a> left;
    GroupOperand<n, b> right;
  };
  Stage stages[size];
  Barrier full[size], empty[size];
  Barrier mended;  // of what the summing warps change in a stage

  /// By the whole block, before all else.
  DEVICE void begin() {
    if (threadIdx.x == 0) {
      for (int slot = 0; slot < size; ++slot) {
        barrier_init(full[slot], 1);
        barrier_init(empty[slot], summing_warps);
      }
      barrier_init(mended, summing_warps);
      barrier_fence();
    }
    sync_block();
  }
};

/// A stage of a ring, and the parity of its barriers' phase.
template <int size>
struct Turn {
  int slot = 0, parity = 0;
  DEVICE void advance() {
    slot = slot + 1 == size ? 0 : slot + 1;
    parity ^= slot == 0 ? 1 : 0;
  }
};

/// Whether this is not one of the summing threads, who get the others' registers.
DEVICE bool in_producer() {
  const bool sums = uniform(static_cast<int>(threadIdx.x) / 128) < summing_threads / 128;
  if (sums) {
    more_registers<232>();
  } else {
    fewer_registers<40>();
  }
  return !sums;
}

/// One thread.
template <class Ring>
class Producer {
 public:
  DEVICE Producer(Ring& ring, const TensorMap& left, const TensorMap& right)
      : ring_(ring), left_(left), right_(right) {}
  /// The step from `inner` on of the tile at `at`.
  DEVICE void bring(Origin at, int inner) {
    auto& stage = ring_.stages[turn_.slot];
    Barrier& full = ring_.full[turn_.slot];
    barrier_wait(ring_.empty[turn_.slot], turn_.parity ^ 1);  // at once in the first turn
    barrier_expect(full, static_cast<int>(sizeof stage));
    stage.left.bring(left_, full, at.row, inner);
    stage.right.bring(right_, full, at.column, inner);
    turn_.advance();
  }

 private:
  Ring& ring_;
  const TensorMap &left_, &right_;
  Turn<Ring::size> turn_;
};

/// A summing thread's way through the ring, in the producer's order. A group waits for the products
/// of each step; those of the other group fill the gap.
template <class Ring, class Sums>
class Consumer {
 public:
  DEVICE explicit Consumer(Ring& ring)
      : ring_(ring), row_(uniform(static_cast<int>(threadIdx.x) / 128) * group_rows) {}

  /// The next step's stage, when it is there.
  DEVICE auto& stage() {
    barrier_wait(ring_.full[turn_.slot], turn_.parity);
    return ring_.stages[turn_.slot];
  }
  /// Continues the group's chains over the first `blocks` blocks of it. Where they are not all, at
  /// the end of a chain, one by one: ptxas wants no branches among products under way.
  DEVICE void multiply(Sums& sum, int blocks) {
    if (blocks >= step_blocks) {
      multiply_blocks<step_blocks>(sum, 0);
    } else {
#pragma unroll 1
      for (int block = 0; block < blocks; ++block) multiply_blocks<1>(sum, block);
    }
    if (threadIdx.x % 32 == 0) barrier_arrive(ring_.empty[turn_.slot]);
    turn_.advance();
  }
  /// All summing threads have written to the stage, and see what the others wrote.
  DEVICE void mend() {
    operands_fence();
    sync_warp();
    if (threadIdx.x % 32 == 0) barrier_arrive(ring_.mended);
    barrier_wait(ring_.mended, mended_);
    mended_ ^= 1;
  }

 private:
  template <int count>
  DEVICE void multiply_blocks(Sums& sum, int first) {
    auto& stage = ring_.stages[turn_.slot];
    group_registers(sum.of);
    group_fence();
#pragma unroll
    for (int block = first; block < first + count; ++block) {
      group_multiply<Ring::a, Ring::b>(sum.of, stage.left.part(row_, block),
                                       stage.right.part(0, block));
    }
    group_commit();
    group_wait<0>();
    group_registers(sum.of);
  }
  Ring& ring_;
  int row_;  // first of the group's
  Turn<Ring::size> turn_;
  int mended_ = 0;
};

}  // namespace fst::kernels::gpu
