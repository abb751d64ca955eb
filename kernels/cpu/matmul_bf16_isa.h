#pragma once

#include <cstdint>

#include "kernels/cpu/dispatch.h"
#include "kernels/cpu/matmul_isa.h"
#include "kernels/matmul_bf16.h"

namespace fst::kernels {

/// One block of the inner dimension: indices [begin, begin + length), length <= 32, then zeros.
struct Block {
  std::int64_t begin, length;
};

/// Elements of a block of a packed panel: [16 pairs][32 columns][2].
inline constexpr std::int64_t panel_block = block_size * panel_columns;

/// An operand x(line, index) = x[line * line_step + index * inner_step]: a line is a row of the
/// left operand or a column of the right one. One of the steps is 1.
struct Bf16Operand {
  const Bf16* x;
  std::int64_t line_step, inner_step;
};

/// The part that runs with denormal numbers flushed.
template <Isa isa>
struct Bf16Blocks {
  /// Fills `left`, 32 elements of 4 bytes for each row and block, in the layout of multiply().
  static void pack_left(void* left, const Bf16Operand& a, std::int64_t rows, const Block* blocks,
                        std::int64_t count);
  /// sums(i, j) = sums(i, j) + (e + o) for `count` blocks in turn. sums [rows][panels * 32], rows
  /// `step` apart; panel p of the right operand is [count][16][32][2] at right + p * panel_step.
  static void multiply(float* sums, std::int64_t step, const void* left, std::int64_t rows,
                       const Bf16* right, std::int64_t panel_step, std::int64_t panels,
                       std::int64_t count);
};

/// The rest: layouts and ordinary float32 arithmetic.
template <Isa isa>
struct Bf16Matmul {
  /// One panel [count][16][32][2] of `columns` columns of b.
  static void pack_panel(Bf16* panel, const Bf16Operand& b, std::int64_t columns,
                         const Block* blocks, std::int64_t count);
  /// y[i] = x[i] + y[i].
  static void join(float* y, const float* x, std::int64_t count);
  /// A row of the output from its sums.
  static void finish(float* y, const float* sums, const float* bias, std::int64_t columns,
                     Update update);
  static void finish(Bf16* y, const float* sums, const float* bias, std::int64_t columns,
                     Update update);
  static void add_rows(float* sum, const Bf16* x, std::int64_t ldx, std::int64_t rows,
                       std::int64_t columns);
};

}  // namespace fst::kernels
