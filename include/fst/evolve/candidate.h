#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "fst/base/types.h"

namespace fst {

/// Names a candidate over the whole run. Children that were tried and refused have one too.
using CandidateId = std::int64_t;

/// How a candidate came into the pool of this cycle.
enum class Origin : std::uint8_t { seed = 0, carried = 1, mutation = 2 };

/// One evolving prompt. Scores are those of one cycle, under one policy; they are never reused in
/// another cycle, because the policy has moved.
struct Candidate {
  CandidateId id = -1;
  std::string text;
  std::vector<CandidateId> parents;   ///< empty for a seed
  Origin origin = Origin::seed;       ///< in this cycle
  std::int64_t cycle = 0;             ///< of its birth
  std::int64_t round = -1;            ///< of its birth; -1: not born in a round
  std::vector<double> anchor_scores;  ///< [anchors]; empty until scored in this cycle
  PolicyVersion scored_by = -1;       ///< the policy behind `anchor_scores` or `carried_mean`
  /// Mean anchor score of the cycle it was last scored in, if not in this one; else NaN.
  double carried_mean = std::numeric_limits<double>::quiet_NaN();
  std::int64_t discovery_calls = 0;  ///< metric calls of this cycle before its full evaluation
};

}  // namespace fst
