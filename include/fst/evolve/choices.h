#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

namespace fst {

/// Every random decision of prompt evolution. In a run they are functions of the key (see
/// keyed_choices); a recorded run is replayed by handing in its decisions.
struct Choices {
  /// A position in a list that is not empty, uniformly.
  std::function<std::size_t(std::span<const int>)> choose;
  /// Puts the list in random order.
  std::function<void(std::vector<int>&)> shuffle;
  /// Uniform in [0, 1).
  std::function<double()> uniform;
};

/// Fisher-Yates from the last place down: for p = n-1 ... 1 swap p and below(p + 1).
void fisher_yates(std::vector<int>& list, const std::function<std::uint64_t(std::uint64_t)>& below);

/// Draws of one round, a function of (run seed, cycle, round) alone, so nothing needs to be saved.
Choices keyed_choices(std::uint64_t run_seed, std::int64_t cycle, std::int64_t round);

}  // namespace fst
