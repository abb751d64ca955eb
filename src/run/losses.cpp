#include "fst/run/losses.h"

#include "fst/base/error.h"
#include "fst/learn/advantage.h"
#include "fst/run/schedule.h"

namespace fst {

namespace {

PolicyLossOptions loss_options(const RunConfig& c) {
  PolicyLossOptions options;
  options.loss = c.train.loss == "cispo"       ? PolicyLoss::cispo
                 : c.train.loss == "reinforce" ? PolicyLoss::reinforce
                                               : PolicyLoss::ppo;
  options.tau = c.cispo.tau;
  options.low = c.train.clip_low;
  // DAPO's clip-higher unless the deck says otherwise: 0.28 (arXiv:2503.14476).
  options.high = c.train.loss == "dapo" && c.train.clip_high == 0.2 ? 0.28 : c.train.clip_high;
  if (c.kl.estimator == "k1") options.kl = KlEstimator::k1;
  if (c.kl.estimator == "k2") options.kl = KlEstimator::k2;
  if (c.kl.estimator == "k3_clamped") options.kl = KlEstimator::k3_clamped;
  if (c.kl.estimator == "k3+") options.kl = KlEstimator::k3_plus;
  options.kl_weighted = c.kl.weighted;
  return options;
}

AdvantageOptions advantage_options(const RunConfig& c) {
  AdvantageOptions options;
  if (c.train.advantage == "mean_only" || c.train.loss == "dr_grpo")
    options.mode = AdvantageMode::mean_only;
  if (c.train.advantage == "batch") options.mode = AdvantageMode::batch;
  if (c.train.advantage == "per_prompt" || traits_of(c.run.method).per_prompt_baseline) {
    options.mode = AdvantageMode::per_prompt;
  }
  options.deviation = c.train.std == "unbiased" ? Deviation::unbiased : Deviation::population;
  options.epsilon = c.train.advantage_epsilon;
  options.zero_variance_filter = c.train.zero_variance_filter;
  return options;
}

Aggregation aggregation_of(const RunConfig& c) {
  if (c.train.loss == "dr_grpo" || c.train.aggregation == "constant") return Aggregation::constant;
  if (c.train.aggregation == "token") return Aggregation::token;
  if (c.train.aggregation == "sequence") return Aggregation::sequence;
  return Aggregation::prompt;
}

}  // namespace

bool kl_in_loss(const RunConfig& c) {
  return c.kl.place == "loss" && c.kl.coef > 0.0;
}

std::optional<PassShape> scoring_shape(const RunConfig& c, std::int64_t tokens) {
  PassShape shape;
  shape.base_kl = c.eval.kl;
  shape.base_logprob = c.kl.place == "reward";
  if (!shape.base_kl && !shape.base_logprob && c.task.name != "world") return std::nullopt;
  shape.sequences = c.learner.micro_batch;
  shape.tokens = tokens;
  shape.chunk_rows = c.learner.head_chunk;
  shape.entropy = true;
  return shape;
}

LearnerOptions learner_options(const RunConfig& c, std::int64_t vocab) {
  LearnerOptions options;
  options.loss = loss_options(c);
  options.kl_coefficient = kl_in_loss(c) ? c.kl.coef : 0.0;
  options.entropy_coefficient = c.train.entropy;
  options.anchor_coefficient = c.kl.seed_prompt;
  options.law = {static_cast<float>(c.rollout.temperature), vocab};
  options.micro_batch = c.learner.micro_batch;
  options.keep = c.learner.recompute ? Keep::inputs : Keep::all;
  options.head_chunk = c.learner.head_chunk;
  options.exact = c.engine.exact;
  options.gradient_leaves = c.learner.gradient_leaves;
  options.optimizer = {c.optim.beta1,        c.optim.beta2, c.optim.eps,
                       c.optim.weight_decay, c.optim.clip,  1.0};
  options.lr = c.optim.lr;
  options.warmup = c.optim.warmup;
  return options;
}

RequestWeights request_weights(const RunConfig& config, const RequestBatch& batch,
                               const std::vector<Outcome>& outcomes) {
  std::vector<RewardGroup> groups(batch.problems.size());
  std::vector<std::vector<std::int64_t>> lengths(batch.problems.size());
  for (std::size_t i = 0; i < outcomes.size(); ++i) {
    const auto g = static_cast<std::size_t>(batch.requests[i].problem);
    groups[g].rewards.push_back(static_cast<double>(outcomes[i].reward));
    groups[g].slots.push_back(batch.requests[i].prompt);
    if (batch.score_base)
      groups[g].kl_in_reward.push_back(config.kl.coef * outcomes[i].base_log_ratio);
    lengths[g].push_back(outcomes[i].length);
  }
  const auto advantages = group_advantages(groups, advantage_options(config));
  std::vector<bool> kept, all(groups.size(), true);
  bool live = false;
  for (const auto& group : advantages) {
    kept.push_back(group.kept);
    live = live || group.kept;
  }
  const double constant = config.train.length_constant > 0
                              ? static_cast<double>(config.train.length_constant)
                              : static_cast<double>(config.rollout.max_new_tokens);
  const Aggregation aggregation = aggregation_of(config);
  const auto policy = token_weights(aggregation, lengths, kept, constant);
  const auto kl = token_weights(aggregation, lengths, config.kl.dead_groups ? all : kept, constant);

  RequestWeights weights;
  std::vector<std::size_t> next(groups.size(), 0);
  std::int64_t anchor_tokens = 0;
  for (std::size_t i = 0; i < outcomes.size(); ++i) {
    const Request& request = batch.requests[i];
    const auto g = static_cast<std::size_t>(request.problem);
    const std::size_t within = next[g]++;
    weights.advantage.push_back(kept[g] ? advantages[g].advantage[within] : 0.0);
    weights.policy.push_back(policy[g][within]);
    weights.kl.push_back(kl_in_loss(config) ? kl[g][within] : 0.0);
    if (request.prompt == 0 && request.sample == 0) anchor_tokens += outcomes[i].length;
  }
  if (config.kl.seed_prompt > 0.0 && (live || config.kl.dead_groups) && anchor_tokens > 0) {
    weights.anchor = 1.0 / static_cast<double>(anchor_tokens);
  }
  return weights;
}

}  // namespace fst
