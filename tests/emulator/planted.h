#pragma once

#include <vector>

#include "kernels/cuda/cuda.h"

/// Kernels with one mistake each, which the emulator must find.
namespace fst::emulator::test {

constexpr std::size_t planted_floats = 1024;  // of `in` and of `out`

/// How the mistake shows in the fast build, within ten schedules.
enum class Shows {
  as_nan,      // poison in the results
  in_bits,     // results that depend on the schedule
  as_failure,  // a report
  not_at_all,  // only the checked build finds it
};

struct Planted {
  const char* name;
  void (*run)(const kernels::Cuda& cuda, const float* in, float* out);
  Shows shows;
  const char* fast_report;     // a part of it
  const char* checked_report;  // of the checked build, already in schedule 0
};

const std::vector<Planted>& planted_mistakes();

/// out = in + 1, on another stream than cuda's, through a buffer; then * 2 on cuda's stream, behind
/// an event unless it is forgotten.
void run_two_streams(const kernels::Cuda& cuda, const float* in, float* out, bool forget_event);

}  // namespace fst::emulator::test
