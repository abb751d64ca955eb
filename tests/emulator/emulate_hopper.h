#pragma once

#include "emulate.h"
#include "kernels/cuda/lies.h"

/// The words of kernels/cuda/hopper.h, executed on the CPU (hopper.cpp).
#define MAP_PARAMETER PARAMETER ::fst::kernels::gpu::TensorMap

namespace fst::emulator {

void group_wait(std::size_t under_way, const Place& place);

/// What a thread brings to a product of its group.
struct GroupOperands {
  float* sum;
  std::uint64_t a, b;
  kernels::Lies a_lies, b_lies;
  int columns;
};
void group_multiply(const GroupOperands& own, const Place& place);
std::uint64_t operand(const void* p, kernels::Lies lies);

}  // namespace fst::emulator

namespace fst::kernels::gpu {

using Barrier = std::uint64_t;

struct TensorMap {
  const void* base;
  std::int64_t rows, columns, stride;
  int box_rows;
};
TensorMap tensor_map(const void* base, std::int64_t rows, std::int64_t columns, std::int64_t stride,
                     int box_rows);

void barrier_init(Barrier& barrier, int arrivals);
inline void barrier_fence() {}
void barrier_arrive(Barrier& barrier, const Place& place = Place::current());
void barrier_expect(Barrier& barrier, int bytes, const Place& place = Place::current());
void barrier_wait(Barrier& barrier, int parity, const Place& place = Place::current());
void tensor_load(void* to, const TensorMap& map, Barrier& barrier, int column, int row,
                 const Place& place = Place::current());

template <Lies lies>
std::uint64_t operand(const void* p) {
  return emulator::operand(p, lies);
}
template <Lies a_lies, Lies b_lies, int count>
void group_multiply(float (&sum)[count], std::uint64_t a, std::uint64_t b,
                    const Place& place = Place::current()) {
  static_assert(count == 32 || count == 64 || count == 128);
  emulator::group_multiply({sum, a, b, a_lies, b_lies, 2 * count}, place);
}
void group_commit(const Place& place = Place::current());
template <int under_way>
void group_wait(const Place& place = Place::current()) {
  emulator::group_wait(under_way, place);
}
inline void group_fence() {}
inline void operands_fence() {}
template <int count>
void more_registers() {}
template <int count>
void fewer_registers() {}
template <int count>
void group_registers(float (&)[count]) {}

}  // namespace fst::kernels::gpu
