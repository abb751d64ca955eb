#pragma once

#include "emulate.h"

/// The words of kernels/cuda/hopper.h, executed on the CPU (hopper.cpp).
#define MAP_PARAMETER PARAMETER ::fst::kernels::gpu::TensorMap

namespace fst::emulator {

void group_wait(std::size_t under_way, const Place& place);

}  // namespace fst::emulator

namespace fst::kernels::gpu {

using Barrier = std::uint64_t;

struct TensorMap {
  const void* base;
  std::int64_t rows, columns;
  int box_rows;
};
TensorMap tensor_map(const void* base, std::int64_t rows, std::int64_t columns, int box_rows);

void barrier_init(Barrier& barrier, int arrivals);
inline void barrier_fence() {}
void barrier_arrive(Barrier& barrier, const Place& place = Place::current());
void barrier_expect(Barrier& barrier, int bytes, const Place& place = Place::current());
void barrier_wait(Barrier& barrier, int parity, const Place& place = Place::current());
void tensor_load(void* to, const TensorMap& map, Barrier& barrier, int column, int row,
                 const Place& place = Place::current());

std::uint64_t operand(const void* p);
void group_multiply_64x64x16(float (&sum)[32], std::uint64_t a, std::uint64_t b,
                             const Place& place = Place::current());
void group_commit(const Place& place = Place::current());
template <int under_way>
void group_wait(const Place& place = Place::current()) {
  emulator::group_wait(under_way, place);
}
inline void group_fence() {}
inline void group_registers(float (&)[32]) {}

}  // namespace fst::kernels::gpu
