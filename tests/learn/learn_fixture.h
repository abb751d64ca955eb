#pragma once

// A tiny policy, a base near it and trajectories to learn from, for tests of the learn floor.

#include <cstdint>
#include <utility>
#include <vector>

#include "fst/learn/learner.h"

#include "support/arithmetic.h"
#include "support/isa.h"
#include "support/noise.h"
#include "support/tiny_model.h"

namespace fst::test {

/// All elements of a contiguous tensor, f32 or bf16.
inline std::vector<float> values_of(const Tensor& x) {
  const HostFloats values(x);
  return {values.span().begin(), values.span().end()};
}

/// `parameters` plus noise, in `dtype`: a base whose KL to the policy is neither 0 nor
/// astronomical.
inline Parameters near(const Parameters& parameters, double scale, std::uint32_t seed,
                       DType dtype) {
  Parameters moved(parameters.config(), parameters.flat().device(), {}, {dtype});
  std::vector<float> values = values_of(parameters.flat());
  Noise noise(seed);
  for (float& value : values) value += static_cast<float>(scale * noise.normal());
  moved.put(0, values);
  return moved;
}

/// The policy with masters of the shard of this rank of `learners`, which may be all of it.
struct TinyModels {
  explicit TinyModels(Device where = Device::cpu(),
                      const Qwen3Config& config = testing::tiny_config(), DType dtype = DType::f32,
                      const Communicator& learners = Communicator::self())
      : device(std::move(where)),
        policy_parameters(testing::random_parameters(
            config, device, 7,
            {dtype, GradientTree::shard_of(config.parameter_count(), learners)})),
        base_parameters(near(testing::random_parameters(config, device, 7), 0.02, 9, dtype)),
        policy(config, device, {.use = Use::training, .max_positions = 64, .dtype = dtype}),
        base(config, device, {.use = Use::inference, .max_positions = 64, .dtype = dtype}) {
    policy.set_weights(policy_parameters);
    base.set_weights(base_parameters);
  }
  explicit TinyModels(DType dtype, Device where = Device::cpu())
      : TinyModels(std::move(where), testing::tiny_config(), dtype) {}
  TinyModels(DType dtype, const Communicator& learners)
      : TinyModels(Device::cpu(), testing::tiny_config(), dtype, learners) {}
  TinyModels(const TinyModels&) = delete;
  TinyModels& operator=(const TinyModels&) = delete;

  Device device;
  Parameters policy_parameters, base_parameters;
  Qwen3 policy, base;
};

/// Not the whole vocabulary of the tiny model, and not temperature 1.
inline constexpr ops::TokenLaw odd_law{0.8f, 95};

/// `per_group` sequences in each group: prompts of 3 to 8, completions of 1 to 7 tokens, advantages
/// of both signs, weights that differ. No behaviour yet.
inline std::vector<LearnerSequence> some_sequences(std::int64_t groups, std::int64_t per_group) {
  Noise noise(17);
  std::vector<LearnerSequence> sequences;
  for (std::int64_t g = 0; g < groups; ++g) {
    for (std::int64_t i = 0; i < per_group; ++i) {
      LearnerSequence s;
      s.group = g;
      s.prompt_length = static_cast<std::int32_t>(3 + noise.below(6));
      s.tokens =
          testing::random_tokens(s.prompt_length + 1 + noise.below(7), odd_law.vocab, noise.bits());
      s.advantage = noise.normal();
      s.policy_weight = (0.5 + noise.uniform()) / static_cast<double>(groups * per_group * 4);
      s.kl_weight = (0.5 + noise.uniform()) / static_cast<double>(groups * per_group * 4);
      sequences.push_back(std::move(s));
    }
  }
  return sequences;
}

inline std::vector<AnchorSequence> some_anchors(std::int64_t groups) {
  Noise noise(23);
  std::vector<AnchorSequence> anchors;
  for (std::int64_t g = 0; g < groups; ++g) {
    AnchorSequence a;
    a.group = g;
    a.prompt_length = static_cast<std::int32_t>(2 + noise.below(5));
    a.tokens =
        testing::random_tokens(a.prompt_length + 1 + noise.below(6), odd_law.vocab, noise.bits());
    a.weight = (0.5 + noise.uniform()) / static_cast<double>(groups * 3);
    anchors.push_back(std::move(a));
  }
  return anchors;
}

/// Gives the sequences the policy's own log-probabilities (shift 0: on-policy), or such as differ
/// from them by up to `shift`.
inline void sample_behaviour(std::vector<LearnerSequence>& sequences, Qwen3& policy,
                             const ops::TokenLaw& law, double shift = 0.0) {
  GradientPass pass(policy, nullptr);
  Noise noise(31);
  for (LearnerSequence& s : sequences) {
    std::vector<std::int32_t> targets;
    for (std::size_t t = static_cast<std::size_t>(s.prompt_length); t < s.tokens.size(); ++t) {
      targets.push_back(static_cast<std::int32_t>(t));
    }
    const LossSequence view{s.tokens, targets};
    s.behaviour.clear();
    pass.score({&view, 1}, {.law = law}, [&](const PassChunk& chunk) {
      for (const float logprob : chunk.logprob) {
        const double moved = shift * (2.0 * noise.uniform() - 1.0);
        s.behaviour.push_back(
            shift == 0.0 ? logprob : static_cast<float>(static_cast<double>(logprob) + moved));
      }
    });
    s.on_policy = shift == 0.0;
  }
}

/// Every term of the loss in use.
inline LearnerOptions all_terms() {
  LearnerOptions options;
  options.loss.tau = 1.5;
  options.kl_coefficient = 0.3;
  options.entropy_coefficient = 0.2;
  options.anchor_coefficient = 0.4;
  options.law = odd_law;
  options.optimizer.clip = 0.7;
  options.optimizer.weight_decay = 0.1;
  options.lr = 1e-2;
  options.warmup = 3;
  return options;
}

struct Learnt {
  std::vector<float> weights, masters, m, v;  // all weights, the rest of the learner's shard
  Range shard;
  StepStats first, second;
};

/// Two steps on the same trajectories: on-policy, then off-policy. Collective over `learners`.
inline Learnt learn_twice(TinyModels& models, const Communicator& learners,
                          const LearnerOptions& options, std::int64_t groups = 5) {
  auto all = some_sequences(groups, 3);
  sample_behaviour(all, models.policy, options.law);
  const auto is_mine = [&](std::int64_t group) {
    return Learner::owner_of(group, groups, options.gradient_leaves, learners.size()) ==
           learners.rank();
  };
  std::vector<LearnerSequence> sequences;
  for (const LearnerSequence& s : all) {
    if (is_mine(s.group)) sequences.push_back(s);
  }
  std::vector<AnchorSequence> anchors;
  for (const AnchorSequence& a : some_anchors(groups)) {
    if (is_mine(a.group)) anchors.push_back(a);
  }
  Learner learner(models.policy, models.policy_parameters, &models.base, LearnerGrid(learners),
                  options);
  Learnt learnt;
  learnt.first = learner.step(groups, sequences, anchors);
  for (LearnerSequence& s : sequences) s.on_policy = false;
  learnt.second = learner.step(groups, sequences, anchors);
  learnt.weights = values_of(models.policy_parameters.flat());
  learnt.m = values_of(learner.optimizer().m());
  learnt.v = values_of(learner.optimizer().v());
  learnt.shard = learner.optimizer().shard();
  learnt.masters = values_of(models.policy_parameters.masters(learnt.shard));
  return learnt;
}

/// All that a step reports but its duration.
inline std::vector<double> numbers_of(const StepStats& s) {
  return {s.policy_loss,
          s.kl_loss,
          s.seed_loss,
          s.kl_ref,
          s.kl_seed,
          s.entropy,
          s.ratio_mean,
          s.ratio_max,
          s.frac_capped,
          s.lr,
          s.grad_norm,
          s.logprob_abs_diff_max,
          static_cast<double>(s.tokens)};
}

}  // namespace fst::test
