#include "fst/learn/schedule.h"

#include <algorithm>

namespace fst {

double learning_rate(const LearningRate& schedule, std::int64_t step) {
  const auto s = static_cast<double>(step);
  double factor = 1.0;
  if (schedule.warmup > 0) factor = std::min(1.0, s / static_cast<double>(schedule.warmup));
  const auto total = static_cast<double>(schedule.steps);
  const double from = schedule.decay_from * total;
  if (schedule.decay_from < 1.0 && s > from) {
    const double done = std::min(1.0, (s - from) / (total - from));
    factor = std::min(factor, 1.0 - done * (1.0 - schedule.final_fraction));
  }
  return schedule.peak * factor;
}

}  // namespace fst
