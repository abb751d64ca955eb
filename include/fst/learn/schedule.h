#pragma once

#include <cstdint>

namespace fst {

/// A learning rate over steps: linear warm-up from peak / warmup, then constant, then linear decay.
struct LearningRate {
  double peak = 1e-6;
  std::int64_t warmup = 0;      // step s <= warmup uses peak * s / warmup
  std::int64_t steps = 0;       // total; needed for the decay only
  double decay_from = 1.0;      // fraction of `steps` after which the rate falls; 1: never
  double final_fraction = 1.0;  // of the peak, at `steps`
};
/// The rate of step `step`, counted from 1.
double learning_rate(const LearningRate& schedule, std::int64_t step);

}  // namespace fst
