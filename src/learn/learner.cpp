#include "fst/learn/learner.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>

#include "fst/base/clock.h"
#include "fst/base/error.h"
#include "fst/learn/schedule.h"

namespace fst {

/// Sums over the step's tokens; exact, so that neither their order nor their spread over learners
/// matters.
struct Learner::Sums {
  kernels::ExactSum policy, kl, kl_weighted, entropy, ratio, anchor_kl, anchor_weighted;
  std::int64_t tokens = 0, kl_tokens = 0, anchor_tokens = 0, capped = 0;
  double ratio_max = 0.0, difference_max = 0.0;
};

namespace {

/// Positions of the completion, the targets of a sequence.
template <class Sequence>
std::vector<std::int32_t> completion_of(const Sequence& sequence) {
  std::vector<std::int32_t> targets;
  for (std::size_t t = static_cast<std::size_t>(sequence.prompt_length); t < sequence.tokens.size();
       ++t) {
    targets.push_back(static_cast<std::int32_t>(t));
  }
  return targets;
}

/// The sequences whose group lies in `groups`, as the gradient pass takes them; `targets` owns what
/// the views point to.
template <class Sequence>
std::vector<const Sequence*> of_groups(const std::vector<Sequence>& sequences, Range groups) {
  std::vector<const Sequence*> mine;
  for (const Sequence& s : sequences) {
    if (groups.begin <= s.group && s.group < groups.end) mine.push_back(&s);
  }
  return mine;
}

template <class Sequence>
std::vector<LossSequence> views_of(const std::vector<const Sequence*>& sequences,
                                   std::vector<std::vector<std::int32_t>>& targets) {
  for (const Sequence* s : sequences) targets.push_back(completion_of(*s));
  std::vector<LossSequence> views;
  for (std::size_t i = 0; i < sequences.size(); ++i)
    views.push_back({sequences[i]->tokens, targets[i]});
  return views;
}

}  // namespace

Learner::Learner(Qwen3& policy, Parameters& parameters, Qwen3* base, const LearnerGrid& grid,
                 const LearnerOptions& options)
    : policy_(&policy),
      parameters_(&parameters),
      grid_(grid),
      options_(options),
      memory_(policy.device().during(MemoryPhase::learning)),
      tree_(parameters.config(), memory_, *grid.replicas, options.gradient_leaves, policy.unit()),
      optimizer_(parameters, tree_.shard(), grid, options.optimizer),
      pass_(policy, base) {}

void Learner::reserve() {
  tree_.reserve();
  pass_.reserve(pass_shape(options_));
}

PassShape Learner::pass_shape(const LearnerOptions& options) {
  PassShape shape;
  shape.tokens = options.most_tokens;
  shape.sequences = options.micro_batch;
  shape.chunk_rows = options.head_chunk;
  shape.entropy = true;
  shape.backward = true;
  shape.base_logprob = options.kl_coefficient > 0.0;
  shape.base_kl = options.anchor_coefficient > 0.0;
  shape.keep = options.keep;
  return shape;
}

int Learner::owner_of(std::int64_t group, std::int64_t groups, std::int64_t leaves, int units) {
  for (int r = 0; r < units; ++r) {
    const Range own = part_of(leaves, units, r);
    if (own.size() == 0) continue;
    const std::int64_t begin = part_of(groups, leaves, own.begin).begin;
    const std::int64_t end = part_of(groups, leaves, own.end - 1).end;
    if (begin <= group && group < end) return r;
  }
  throw Error("learner: group " + std::to_string(group) + " of " + std::to_string(groups) +
              " has no owner");
}

void Learner::add_policy_leaf(Range groups, Gradients& gradients,
                              const std::vector<LearnerSequence>& sequences, Sums& sums) {
  const auto mine = of_groups(sequences, groups);
  std::vector<std::vector<std::int32_t>> targets;
  const auto views = views_of(mine, targets);
  PassOptions options{options_.law,  options_.micro_batch, options_.head_chunk, true,
                      BaseUse::none, options_.keep,        options_.most_tokens};
  if (options_.kl_coefficient > 0.0) options.base = BaseUse::logprob;
  pass_.accumulate(gradients, views, options, [&](const PassChunk& chunk) {
    const LearnerSequence& s = *mine[static_cast<std::size_t>(chunk.sequence)];
    const TokenWeights weights{s.advantage, s.policy_weight, s.kl_weight, options_.kl_coefficient};
    for (std::size_t i = 0; i < chunk.logprob.size(); ++i) {
      const double logprob = static_cast<double>(chunk.logprob[i]);
      const double behaviour =
          static_cast<double>(s.behaviour[static_cast<std::size_t>(chunk.begin) + i]);
      if (s.on_policy) {
        const double difference = std::abs(logprob - behaviour);
        sums.difference_max =
            std::max(sums.difference_max, difference == difference ? difference : 1e300);
      }
      const bool with_base = options.base == BaseUse::logprob;
      const TokenLoss loss =
          token_loss(options_.loss, weights, logprob, behaviour,
                     with_base ? static_cast<double>(chunk.base_logprob[i]) : 0.0);
      if (with_base) {
        sums.kl.add(loss.kl.value);
        sums.kl_weighted.add(loss.kl_share);
        ++sums.kl_tokens;
      }
      chunk.dlogprob[i] = static_cast<float>(loss.dlogprob);
      chunk.dentropy[i] = static_cast<float>(-options_.entropy_coefficient * s.policy_weight);
      sums.policy.add(s.policy_weight * loss.policy.term);
      sums.entropy.add(static_cast<double>(chunk.entropy[i]));
      sums.ratio.add(loss.policy.ratio);
      sums.ratio_max = std::max(sums.ratio_max, loss.policy.ratio);
      sums.capped += loss.policy.capped ? 1 : 0;
      ++sums.tokens;
    }
  });
}

void Learner::add_anchor_leaf(Range groups, Gradients& gradients,
                              const std::vector<AnchorSequence>& anchors, Sums& sums) {
  const auto mine = of_groups(anchors, groups);
  if (mine.empty()) return;
  std::vector<std::vector<std::int32_t>> targets;
  const auto views = views_of(mine, targets);
  const PassOptions options{options_.law, options_.micro_batch, options_.head_chunk, false,
                            BaseUse::kl,  options_.keep,        options_.most_tokens};
  pass_.accumulate(gradients, views, options, [&](const PassChunk& chunk) {
    const double weight = mine[static_cast<std::size_t>(chunk.sequence)]->weight;
    for (std::size_t i = 0; i < chunk.kl.size(); ++i) {
      const double kl = static_cast<double>(chunk.kl[i]);
      chunk.dkl[i] = static_cast<float>(options_.anchor_coefficient * weight);
      sums.anchor_kl.add(kl);
      sums.anchor_weighted.add(weight * kl);
      ++sums.anchor_tokens;
    }
  });
}

StepStats Learner::step(std::int64_t groups, const std::vector<LearnerSequence>& sequences,
                        const std::vector<AnchorSequence>& anchors) {
  const Stopwatch watch;
  memory_.enter();
  Sums sums;
  const Tensor& gradient = tree_.reduce([&](std::int64_t leaf, Gradients& gradients) {
    const Range mine = part_of(groups, tree_.leaves(), leaf);
    add_policy_leaf(mine, gradients, sequences, sums);
    add_anchor_leaf(mine, gradients, anchors, sums);
  });
  StepStats stats = stats_of(sums);
  if (options_.exact && stats.logprob_abs_diff_max != 0.0) {
    char text[160];
    std::snprintf(text, sizeof text,
                  "learner: an on-policy log-probability differs from the sampler's by %.3e at "
                  "update %lld; they must be equal bit for bit",
                  stats.logprob_abs_diff_max, static_cast<long long>(optimizer_.steps() + 1));
    throw Error(text);
  }
  stats.lr =
      learning_rate({.peak = options_.lr, .warmup = options_.warmup}, optimizer_.steps() + 1);
  stats.grad_norm = optimizer_.step(gradient, stats.lr);
  policy_->set_weights(*parameters_);
  stats.seconds = watch.seconds();
  return stats;
}

/// The ranks of a unit have the same sums, so those of the replicas count each token once.
StepStats Learner::stats_of(Sums& sums) const {
  for (kernels::ExactSum* sum : {&sums.policy, &sums.kl, &sums.kl_weighted, &sums.entropy,
                                 &sums.ratio, &sums.anchor_kl, &sums.anchor_weighted}) {
    grid_.replicas->all_reduce_sum(*sum, "step statistics");
  }
  std::array<std::int64_t, 4> counts{sums.tokens, sums.kl_tokens, sums.anchor_tokens, sums.capped};
  grid_.replicas->all_reduce_sum(std::span(counts), "token counts");
  std::array<double, 2> greatest{sums.ratio_max, sums.difference_max};
  grid_.replicas->all_reduce_max(std::span(greatest), "greatest ratio and difference");
  const auto mean = [](const kernels::ExactSum& sum, std::int64_t count, double none) {
    return count == 0 ? none : sum.value() / static_cast<double>(count);
  };
  StepStats stats;
  stats.tokens = counts[0];
  stats.policy_loss = sums.policy.value();
  stats.kl_loss = options_.kl_coefficient * sums.kl_weighted.value();
  stats.seed_loss = options_.anchor_coefficient * sums.anchor_weighted.value();
  stats.kl_ref = mean(sums.kl, counts[1], 0.0);
  stats.kl_seed = mean(sums.anchor_kl, counts[2], 0.0);
  stats.entropy = mean(sums.entropy, counts[0], 0.0);
  stats.ratio_mean = mean(sums.ratio, counts[0], 1.0);
  stats.ratio_max = counts[0] == 0 ? 1.0 : greatest[0];
  stats.frac_capped =
      counts[0] == 0 ? 0.0 : static_cast<double>(counts[3]) / static_cast<double>(counts[0]);
  stats.logprob_abs_diff_max = greatest[1];
  return stats;
}

}  // namespace fst
