#pragma once

#include <vector>

#include "kernels/cuda/cuda.h"

/// Mistakes in the hand-over of a ring's stages on Hopper, which the emulator must find.
namespace fst::emulator::test {

struct PlantedInRing {
  const char* name;
  /// c[64, 64] = a[64, 456] b[64, 456]^T of bf16: eight steps through a ring of three stages.
  void (*run)(const kernels::Cuda& cuda, const std::uint16_t* a, const std::uint16_t* b, float* c);
  bool shows;                  // in the fast build within ten schedules
  const char* checked_report;  // of the checked build, already in schedule 0; "": nothing is wrong
};
constexpr int ring_size = 64, ring_depth = 456;

const std::vector<PlantedInRing>& planted_in_ring();

}  // namespace fst::emulator::test
