#include <algorithm>

#include "fst/run/losses.h"
#include "fst/run/roles.h"
#include "fst/run/schedule.h"

namespace fst {

LearnerRole::LearnerRole(RunContext& context, Policy& policy)
    : context_(&context), policy_(&policy) {
  const RunConfig& config = context.config;
  if (!context.world.learner().member() || !traits_of(config.run.method).trains) return;
  const bool needs_base = kl_in_loss(config) || config.kl.seed_prompt > 0.0;
  const TensorParallel* unit = context.unit(Role::learner);
  Qwen3* base = nullptr;
  if (needs_base)
    base = context.frozen.at(context.world.learner(), context.base_path(), unit).model.get();
  const LearnerGrid grid(context.world.learner(), context.world.across(Role::learner));
  LearnerOptions options = learner_options(config, context.vocab);
  options.most_tokens = context.most_tokens();
  learner_ = std::make_unique<Learner>(*policy.learner()->model, policy.learner()->parameters, base,
                                       grid, options);
  if (context.longest > 0) learner_->reserve();
}

Received LearnerRole::receive(RolloutRole& rollouts, const RequestBatch& batch) {
  const World& world = context_->world;
  const auto groups = static_cast<std::int64_t>(batch.problems.size());
  const auto owner = [&](std::int32_t request) {
    const auto group = batch.requests[static_cast<std::size_t>(request)].problem;
    return Learner::owner_of(group, groups, context_->config.learner.gradient_leaves,
                             world.units(Role::learner));
  };
  const Stopwatch exchange;
  Received received;
  received.trajectories = rollouts.for_learners(owner);
  received.seconds_exchange = exchange.seconds();
  received.seconds_rollout = rollouts.seconds();
  return received;
}

LearnedStep LearnerRole::step(const Received& received, const RequestBatch& batch,
                              const std::vector<Outcome>& outcomes,
                              const std::string& seed_prompt) {
  LearnedStep learned;
  learned.seconds_rollout = received.seconds_rollout;
  learned.seconds_exchange = received.seconds_exchange;
  const World& world = context_->world;
  const auto groups = static_cast<std::int64_t>(batch.problems.size());
  const auto weights = request_weights(context_->config, batch, outcomes);
  if (learner_) {
    std::vector<LearnerSequence> sequences;
    std::vector<AnchorSequence> anchors;
    for (const Trajectory& t : received.trajectories) {
      const auto i = static_cast<std::size_t>(t.request);
      const Request& request = batch.requests[i];
      if (weights.policy[i] != 0.0 || weights.kl[i] != 0.0) {
        sequences.push_back({request.problem, t.tokens, t.prompt_length, t.logprobs,
                             weights.advantage[i], weights.policy[i], weights.kl[i],
                             t.policy == version_});
      }
      if (weights.anchor > 0.0 && request.prompt == 0 && request.sample == 0) {
        AnchorSequence anchor;
        anchor.group = request.problem;
        anchor.tokens = context_->prompt_tokens(
            seed_prompt, batch.problems[static_cast<std::size_t>(request.problem)]);
        anchor.prompt_length = static_cast<std::int32_t>(anchor.tokens.size());
        anchor.tokens.insert(anchor.tokens.end(), t.tokens.begin() + t.prompt_length,
                             t.tokens.end());
        anchor.weight = weights.anchor;
        anchors.push_back(std::move(anchor));
      }
    }
    learned.stats = learner_->step(groups, sequences, anchors);
  }
  ++version_;
  world.all().broadcast(std::span(&learned.stats, 1), world.world_rank(Role::learner, 0),
                        "step statistics");
  learned.advantages = weights.advantage;
  return learned;
}

}  // namespace fst
