#pragma once

#include "kernels/cuda/hopper.h"

/// A matrix product by the tensor memory accelerator and warp groups: one warp fills a ring of
/// three stages, four multiply. The steps that are easily forgotten can be left out, for the tests
/// of the emulator.
namespace fst::kernels::test {

using namespace gpu;

struct HopperRight {
  static constexpr bool wait_for_load = true;
  static constexpr bool free_after_wait = true;  // of the products that read a stage
  static constexpr int freeing_warps = 4;
};

struct HopperStages {
  struct Stage {
    alignas(1024) std::uint16_t a[64][64];
    alignas(1024) std::uint16_t b[64][64];
  };
  static constexpr int count = 3;
  Stage ring[count];
  Barrier full[count], empty[count];
};

template <class Variant>
DEVICE void fill_ring(HopperStages& stages, const TensorMap& a, const TensorMap& b, int steps) {
  for (int step = 0; step < steps; ++step) {
    const int slot = step % HopperStages::count, turn = step / HopperStages::count;
    HopperStages::Stage& stage = stages.ring[slot];
    if (turn > 0) barrier_wait(stages.empty[slot], (turn - 1) % 2);
    barrier_expect(stages.full[slot], static_cast<int>(sizeof stage));
    tensor_load(stage.a, a, stages.full[slot], 64 * step, 64 * static_cast<int>(blockIdx.x));
    tensor_load(stage.b, b, stages.full[slot], 64 * step, 64 * static_cast<int>(blockIdx.y));
  }
}

template <class Variant>
DEVICE void multiply_ring(HopperStages& stages, int steps, float (&sum)[32]) {
  const int lane = static_cast<int>(threadIdx.x % 32);
  const int warp = uniform(static_cast<int>(threadIdx.x / 32));
  for (int step = 0; step < steps; ++step) {
    const int slot = step % HopperStages::count;
    if (Variant::wait_for_load) {
      barrier_wait(stages.full[slot], step / HopperStages::count % 2);
    }
    group_registers(sum);
    group_fence();
    for (int k = 0; k < 64; k += 16) {
      group_multiply<Lies::inner, Lies::inner>(sum,
                                               operand<Lies::inner>(&stages.ring[slot].a[0][k]),
                                               operand<Lies::inner>(&stages.ring[slot].b[0][k]));
    }
    group_commit();
    const bool frees = lane == 0 && warp < Variant::freeing_warps;
    if (!Variant::free_after_wait && frees) barrier_arrive(stages.empty[slot]);
    group_wait<0>();
    group_registers(sum);
    if (Variant::free_after_wait && frees) barrier_arrive(stages.empty[slot]);
  }
}

/// c[rows, columns] = a b^T in steps of 64; a block makes 64x64.
template <class Variant>
KERNEL(160, 1)
hopper_product(MAP_PARAMETER a, MAP_PARAMETER b, float* __restrict__ c, int rows, int columns,
               int steps) {
  HopperStages& stages = shared_memory<HopperStages>();
  const int t = static_cast<int>(threadIdx.x);
  const int warp = uniform(t / 32);
  if (t == 0) {
    for (int slot = 0; slot < HopperStages::count; ++slot) {
      barrier_init(stages.full[slot], 1);
      barrier_init(stages.empty[slot], Variant::freeing_warps);
    }
    barrier_fence();
  }
  sync_block();
  if (warp == 4) {
    if (t % 32 == 0) fill_ring<Variant>(stages, a, b, steps);
    return;
  }
  float sum[32] = {};
  multiply_ring<Variant>(stages, steps, sum);
  for (int i = 0; i < 32; ++i) {
    const int row = 64 * static_cast<int>(blockIdx.x) + 16 * warp + t % 32 / 4 + i % 4 / 2 * 8;
    const int column = 64 * static_cast<int>(blockIdx.y) + 8 * (i / 4) + 2 * (t % 4) + i % 2;
    if (row < rows && column < columns) c[std::int64_t{row} * columns + column] = sum[i];
  }
}

template <class Variant>
void multiply_hopper(const std::uint16_t* a, const std::uint16_t* b, float* c, int rows,
                     int columns, int depth, cudaStream_t stream) {
  const dim3 grid(static_cast<unsigned>((rows + 63) / 64),
                  static_cast<unsigned>((columns + 63) / 64));
  allow_shared(hopper_product<Variant>, sizeof(HopperStages));
  launch(hopper_product<Variant>, grid, 160, sizeof(HopperStages), stream,
         tensor_map(a, rows, depth, depth, 64), tensor_map(b, columns, depth, depth, 64), c, rows,
         columns, (depth + 63) / 64);
}

}  // namespace fst::kernels::test
