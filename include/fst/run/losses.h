#pragma once

#include <optional>
#include <vector>

#include "fst/learn/learner.h"
#include "fst/run/config.h"
#include "fst/run/roles.h"

namespace fst {

/// The loss has a KL term to the base under the sampled prompts.
bool kl_in_loss(const RunConfig& config);

/// The passes that score what was sampled, of up to `tokens` together; nothing where the deck asks
/// for none.
std::optional<PassShape> scoring_shape(const RunConfig& config, std::int64_t tokens);
/// The deck's loss, optimiser and sizes as the learner wants them.
LearnerOptions learner_options(const RunConfig& config, std::int64_t vocab);

/// What each request of a step counts for; functions of the outcomes alone, so every rank computes
/// the same.
struct RequestWeights {
  std::vector<double> advantage;  // 0 in dropped groups
  std::vector<double> policy;     // weight of each completion token in the policy term
  std::vector<double> kl;         // the same in the KL term, without coefficient
  double anchor = 0.0;            // of each token of the seed-prompt anchor; 0: none this step
};
/// Groups are the problems of `batch`. The KL term speaks of surviving groups, or of all with
/// kl.dead_groups; the anchor of the lead's first rollout of every problem, on steps with a live
/// group (or always with kl.dead_groups).
RequestWeights request_weights(const RunConfig& config, const RequestBatch& batch,
                               const std::vector<Outcome>& outcomes);

}  // namespace fst
