#include "fst/evolve/parent.h"

#include <numeric>

#include "fst/base/error.h"

namespace fst {

int choose_parent(const ScoreMatrix& scores, const EvolveOptions& options, const Choices& choices) {
  const std::vector<double> means = mean_scores(scores);
  const auto draw = [&](const std::vector<int>& list) { return list[choices.choose(list)]; };
  switch (options.selector) {
    case ParentSelector::pareto:
      return draw(sampling_list(remove_redundant(frontier_of(scores), means).fronts));
    case ParentSelector::current_best:
      return best_candidate(means);
    case ParentSelector::epsilon_greedy: {
      if (choices.uniform() >= options.epsilon) return best_candidate(means);
      std::vector<int> all(means.size());
      std::iota(all.begin(), all.end(), 0);
      return draw(all);
    }
    case ParentSelector::top_k_pareto:
      return draw(top_k_sampling_list(frontier_of(scores), means, options.selector_top_k));
  }
  throw Error("unknown parent selector");
}

}  // namespace fst
