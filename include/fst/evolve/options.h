#pragma once

#include <cstdint>

#include "fst/evolve/frontier.h"

namespace fst {

enum class Acceptance { strict, or_equal };
enum class ParentSelector { pareto, current_best, epsilon_greedy, top_k_pareto };
/// Which of a round's children that pass the gate are kept.
enum class ChildSelection { all, best, top_k };
/// Who of the previous population is scored on the new anchors, and who pays.
enum class RescoreCarried {
  all_uncharged,  ///< all; only the lead counts against the budget
  all_charged,    ///< all count
  lead_only,      ///< the lead alone; the others stay out of the fronts and fill up the population
};

/// How prompts evolve. The defaults are the reference's with one proposal per round, except
/// `reject_known`.
struct EvolveOptions {
  int prompts = 4;    ///< K, size of the population
  int minibatch = 3;  ///< problems on which a parent and its child are compared
  /// Budget of a cycle in rollouts, tested before each round only. 0: no evolution and no scoring.
  std::int64_t max_metric_calls = 240;
  std::int64_t max_rounds = 0;  ///< per cycle; 0: no limit
  Acceptance acceptance = Acceptance::strict;
  bool skip_perfect = true;  ///< no reflection where the parent has nothing to learn
  double perfect_score = 1.0;
  bool reject_known = true;  ///< a reply equal to a candidate of the pool is no proposal
  ParentSelector selector = ParentSelector::pareto;
  double epsilon = 0.1;    ///< epsilon_greedy
  int selector_top_k = 5;  ///< top_k_pareto
  int parents_per_round = 1;
  int proposals_per_parent = 1;  ///< minibatches for each drawn parent
  ChildSelection selection = ChildSelection::all;
  int selection_top_k = 2;
  RescoreCarried rescore_carried = RescoreCarried::all_uncharged;
  LeadRule lead = LeadRule::among_chosen;
  /// Ask once more when the reflection call failed (the reference does). Off: our reflection model
  /// is deterministic per key. When on, the attempt belongs into the key.
  bool retry_failed_reflection = false;
  /// Full evaluations take scores that minibatches of this cycle already paid for. Off: a reused
  /// score freezes sampling noise.
  bool cache_scores = false;
  std::int64_t max_prompt_tokens = 0;  ///< longer children are refused; 0: no limit
};

/// Throws InputError for a number out of range, naming its key.
void check(const EvolveOptions& options);

}  // namespace fst
