#pragma once

#include "kernels/cuda/gpu.h"

/// A small matrix product as large ones are built: a ring of stages filled by asynchronous copies,
/// ldmatrix, mma.sync. The steps that are easily forgotten can be left out, for the tests of the
/// emulator.
namespace fst::kernels::test {

using namespace gpu;

struct StagedRight {
  static constexpr int under_way = 1;                 // groups that may be, when a stage is read
  static constexpr bool refill_after_barrier = true;  // when all have read what is overwritten
};

struct Stages {
  struct Stage {
    alignas(16) std::uint16_t a[32][16];
    alignas(16) std::uint16_t b[16][16];
  };
  static constexpr int count = 3;
  Stage ring[count];
};

/// Asks for step `step` of depth 16: 64 pieces of a by all threads, 32 of b by the first 32.
DEVICE void fill_stage(Stages::Stage& stage, const std::uint16_t* a, const std::uint16_t* b,
                       std::int64_t columns, std::int64_t depth, std::int64_t step) {
  const int t = static_cast<int>(threadIdx.x);
  const int row = t / 2, half = t % 2 * 8;
  const std::int64_t k = 16 * step + half;
  const bool inside = k < depth;
  copy_async_16(&stage.a[row][half],
                a + (32 * std::int64_t{blockIdx.x} + row) * depth + (inside ? k : 0), inside);
  if (t < 32) {
    const std::int64_t b_row = 16 * step + row;
    const bool b_inside = b_row < depth;
    copy_async_16(&stage.b[row][half],
                  b + (b_inside ? b_row : 0) * columns + 16 * std::int64_t{blockIdx.y} + half,
                  b_inside);
  }
}

/// A block of two warps makes 32x16 of c, each warp 16 rows.
template <class Variant>
KERNEL(64, 4)
staged_product(const std::uint16_t* __restrict__ a, const std::uint16_t* __restrict__ b,
               float* __restrict__ c, std::int64_t columns, std::int64_t depth) {
  Stages& stages = shared_memory<Stages>();
  const int lane = static_cast<int>(threadIdx.x % 32);
  const int warp = uniform(static_cast<int>(threadIdx.x / 32));
  const std::int64_t steps = (depth + 15) / 16;
  for (int s = 0; s < Stages::count - 1; ++s) {
    if (s < steps) fill_stage(stages.ring[s], a, b, columns, depth, s);
    copy_async_commit();
  }
  float left[4] = {}, right[4] = {};  // columns 0 to 7 and 8 to 15
  for (std::int64_t step = 0; step < steps; ++step) {
    copy_async_wait<Variant::under_way>();
    if (Variant::refill_after_barrier) sync_block();
    const std::int64_t next = step + Stages::count - 1;
    if (next < steps) fill_stage(stages.ring[next % Stages::count], a, b, columns, depth, next);
    copy_async_commit();
    if (!Variant::refill_after_barrier) sync_block();
    const Stages::Stage& stage = stages.ring[step % Stages::count];
    std::uint32_t rows[4], both[4];
    load_matrix_x4(rows, &stage.a[16 * warp + lane % 16][lane / 16 * 8]);
    load_matrix_x4_transposed(both, &stage.b[lane % 16][lane / 16 * 8]);
    const std::uint32_t b_left[2] = {both[0], both[1]}, b_right[2] = {both[2], both[3]};
    multiply_16x8x16(left, rows, b_left);
    multiply_16x8x16(right, rows, b_right);
  }
  for (int i = 0; i < 4; ++i) {
    const std::int64_t row = 32 * std::int64_t{blockIdx.x} + 16 * warp + lane / 4 + i / 2 * 8;
    const std::int64_t column = 16 * std::int64_t{blockIdx.y} + lane % 4 * 2 + i % 2;
    c[row * columns + column] = left[i];
    c[row * columns + column + 8] = right[i];
  }
}

}  // namespace fst::kernels::test
