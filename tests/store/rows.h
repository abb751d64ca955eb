#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "fst/store/history.h"

namespace fst::test {

inline FileIdentity identity() {
  return {"0123abc", "0.1.0", "[run]\nseed = 1\n"};
}

inline Row population_row(std::int64_t i) {
  Row row(table_number("population"));
  row.set(dataset("/population/step"), i * 10)
      .set(dataset("/population/cycle"), static_cast<std::int32_t>(i))
      .set(dataset("/population/slot"), i % 3)
      .set(dataset("/population/candidate"), i * i)
      .set(dataset("/population/anchor_mean"), 0.25 * static_cast<double>(i));
  return row;
}

/// Ragged columns of every kind, some empty, text with newlines and non-ASCII letters.
inline Row proposal_row(std::int64_t i) {
  const auto count = static_cast<std::size_t>(i % 4);
  std::vector<float> scores(count, 0.5f);
  if (count > 1) scores[1] = std::numeric_limits<float>::quiet_NaN();
  Row row(table_number("proposal"));
  row.set(dataset("/proposal/cycle"), i)
      .set(dataset("/proposal/round"), i % 2)
      .set(dataset("/proposal/task"), "world")
      .set(dataset("/proposal/parent"), i - 1)
      .set(dataset("/proposal/child"), i % 2 == 0 ? -1 : i)
      .set(dataset("/proposal/child_text"), i % 2 == 0 ? "" : "Prüfe „" + std::to_string(i) + "“\n")
      .set(dataset("/proposal/reply"), std::string(static_cast<std::size_t>(i) * 37, 'r'))
      .set(dataset("/proposal/outcome"), 1)
      .set(dataset("/proposal/minibatch"), std::vector<std::int64_t>(count, i))
      .set(dataset("/proposal/scores_before"), scores)
      .set(dataset("/proposal/scores_after"), std::vector<float>())
      .set(dataset("/proposal/evidence"), "evidence")
      .set(dataset("/proposal/scored_by"), i);
  return row;
}

inline Row attempt_row(std::int64_t number) {
  Row row(table_number("attempt"));
  row.set(dataset("/attempt/number"), number)
      .set(dataset("/attempt/started"), "2026-05-12T08:00:00Z")
      .set(dataset("/attempt/host"), "host" + std::to_string(number))
      .set(dataset("/attempt/ranks"), 4)
      .set(dataset("/attempt/layout"), "4 ranks, colocated")
      .set(dataset("/attempt/threads"), 1)
      .set(dataset("/attempt/isa"), "avx2")
      .set(dataset("/attempt/resumed_from_step"), -1)
      .set(dataset("/attempt/version"), "0.1.0");
  return row;
}

}  // namespace fst::test
