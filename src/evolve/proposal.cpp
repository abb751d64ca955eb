#include "fst/evolve/proposal.h"

#include <algorithm>

namespace fst {

std::vector<std::size_t> children_to_keep(std::span<const Proposal> proposals,
                                          const EvolveOptions& options) {
  std::vector<std::size_t> kept;
  for (std::size_t i = 0; i < proposals.size(); ++i) {
    const Proposal& proposal = proposals[i];
    const bool passes = options.acceptance == Acceptance::strict
                            ? proposal.child_sum > proposal.parent_sum
                            : proposal.child_sum >= proposal.parent_sum;
    if (proposal.child >= 0 && passes) kept.push_back(i);
  }
  if (options.selection == ChildSelection::all) return kept;
  const auto gain = [&](std::size_t i) { return proposals[i].child_sum - proposals[i].parent_sum; };
  std::stable_sort(kept.begin(), kept.end(),
                   [&](std::size_t a, std::size_t b) { return gain(a) > gain(b); });
  const std::size_t limit = options.selection == ChildSelection::best
                                ? 1
                                : static_cast<std::size_t>(options.selection_top_k);
  kept.resize(std::min(kept.size(), limit));
  return kept;
}

}  // namespace fst
