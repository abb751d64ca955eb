#include "fst/run/losses.h"

#include <cmath>
#include <cstddef>

#include <gtest/gtest.h>

#include "support/noise.h"

namespace fst {
namespace {

constexpr double sum_tolerance = 1e-9;  // advantages are sums of doubles

struct Step {
  RequestBatch batch;
  std::vector<Outcome> outcomes;
};

/// Groups of 4 under 2 prompts; rewards[g][i]; completions of 1 to 5 tokens.
Step step_of(const std::vector<std::vector<double>>& rewards) {
  Step step;
  test::Noise noise(3);
  step.batch.prompts = {"lead", "other"};
  step.batch.problems.resize(rewards.size());
  for (std::size_t g = 0; g < rewards.size(); ++g) {
    for (std::size_t i = 0; i < rewards[g].size(); ++i) {
      const auto sample = static_cast<std::int32_t>(i);
      step.batch.requests.push_back({static_cast<std::int32_t>(g), sample / 2, sample, 0});
      Outcome outcome;
      outcome.reward = static_cast<float>(rewards[g][i]);
      outcome.length = static_cast<std::int32_t>(1 + noise.below(5));
      outcome.base_log_ratio = noise.normal();
      step.outcomes.push_back(outcome);
    }
  }
  return step;
}

const std::vector<std::vector<double>> mixed{
    {1, 0, 0, 0.5}, {1, 1, 1, 1}, {0, 0, 1, 1}, {0, 0, 0, 0}};

/// Sum over the completion tokens of group g.
double group_sum(const Step& step, const std::vector<double>& weights, std::size_t g) {
  double sum = 0;
  for (std::size_t i = 4 * g; i < 4 * g + 4; ++i) sum += weights[i] * step.outcomes[i].length;
  return sum;
}

TEST(RequestWeights, AdvantagesOfAProblemSumToZeroOverItsPrompts) {
  const Step step = step_of(mixed);
  for (const char* mode : {"group", "mean_only", "per_prompt", "batch"}) {
    RunConfig config;
    config.train.advantage = mode;
    const RequestWeights weights = request_weights(config, step.batch, step.outcomes);
    bool moves = false;
    for (std::size_t g = 0; g < mixed.size(); ++g) {
      double sum = 0;
      for (std::size_t i = 4 * g; i < 4 * g + 4; ++i) {
        sum += weights.advantage[i];
        moves = moves || weights.advantage[i] != 0.0;
      }
      EXPECT_NEAR(sum, 0.0, sum_tolerance) << mode << ", problem " << g;
    }
    EXPECT_TRUE(moves) << mode;
  }
}

TEST(RequestWeights, GroupsWithoutVarianceAreAbsent) {
  const Step step = step_of(mixed);
  const RequestWeights weights = request_weights({}, step.batch, step.outcomes);
  for (const std::size_t g : {0u, 2u}) {
    EXPECT_NEAR(group_sum(step, weights.policy, g), 0.5, sum_tolerance) << "two groups live";
    EXPECT_NEAR(group_sum(step, weights.kl, g), 0.5, sum_tolerance);
  }
  for (const std::size_t g : {1u, 3u}) {
    EXPECT_EQ(group_sum(step, weights.policy, g), 0.0);
    EXPECT_EQ(group_sum(step, weights.kl, g), 0.0);
  }
}

TEST(RequestWeights, TheFilterCanBeTurnedOff) {
  const Step step = step_of(mixed);
  RunConfig config;
  config.train.zero_variance_filter = false;
  const RequestWeights weights = request_weights(config, step.batch, step.outcomes);
  for (std::size_t g = 0; g < mixed.size(); ++g) {
    EXPECT_NEAR(group_sum(step, weights.policy, g), 0.25, sum_tolerance);
  }
}

TEST(RequestWeights, DeadGroupsKeepTheKlTermWhereTheDeckSaysSo) {
  const Step step = step_of(mixed);
  RunConfig config;
  config.kl.dead_groups = true;
  const RequestWeights weights = request_weights(config, step.batch, step.outcomes);
  for (std::size_t g = 0; g < mixed.size(); ++g) {
    EXPECT_NEAR(group_sum(step, weights.kl, g), 0.25, sum_tolerance);
  }
  EXPECT_EQ(group_sum(step, weights.policy, 1), 0.0);
  config.kl.coef = 0.0;
  EXPECT_EQ(group_sum(step, request_weights(config, step.batch, step.outcomes).kl, 0), 0.0);
}

TEST(RequestWeights, AggregationsWeighTokensAsTheirNamesSay) {
  const Step step = step_of(mixed);
  const auto policy_with = [&](const char* aggregation) {
    RunConfig config;
    config.train.aggregation = aggregation;
    config.train.length_constant = 10;
    return request_weights(config, step.batch, step.outcomes).policy;
  };
  double live_tokens = 0;
  for (const std::size_t i : {0u, 1u, 2u, 3u, 8u, 9u, 10u, 11u}) {
    live_tokens += step.outcomes[i].length;
  }
  EXPECT_NEAR(policy_with("token")[9], 1.0 / live_tokens, sum_tolerance);
  EXPECT_NEAR(policy_with("sequence")[9], 1.0 / (2 * 4 * step.outcomes[9].length), sum_tolerance);
  EXPECT_NEAR(policy_with("constant")[9], 1.0 / (2 * 4 * 10), sum_tolerance);
}

TEST(RequestWeights, AKlTermInTheRewardMovesAdvantagesAndLeavesTheLoss) {
  Step step = step_of(mixed);
  RunConfig config;
  config.kl.coef = 0.5;
  config.kl.place = "reward";
  config.kl.estimator = "k1";
  step.batch.score_base = true;
  const RequestWeights with = request_weights(config, step.batch, step.outcomes);
  for (Outcome& outcome : step.outcomes) outcome.base_log_ratio = 0.0;
  const RequestWeights without = request_weights(config, step.batch, step.outcomes);
  EXPECT_NE(with.advantage[0], without.advantage[0]);
  for (const double weight : with.kl) EXPECT_EQ(weight, 0.0);
  EXPECT_EQ(with.advantage[4], 0.0) << "equal raw rewards are dropped whatever the KL";
}

TEST(RequestWeights, TheAnchorSpeaksOfTheLeadsFirstRollouts) {
  const Step step = step_of(mixed);
  RunConfig config;
  EXPECT_EQ(request_weights(config, step.batch, step.outcomes).anchor, 0.0);
  config.kl.seed_prompt = 0.1;
  double tokens = 0;
  for (const std::size_t i : {0u, 4u, 8u, 12u}) tokens += step.outcomes[i].length;
  EXPECT_EQ(request_weights(config, step.batch, step.outcomes).anchor, 1.0 / tokens);
  const Step dead = step_of({{0, 0, 0, 0}, {1, 1, 1, 1}});
  EXPECT_EQ(request_weights(config, dead.batch, dead.outcomes).anchor, 0.0);
  config.kl.dead_groups = true;
  EXPECT_GT(request_weights(config, dead.batch, dead.outcomes).anchor, 0.0);
}

TEST(RequestWeights, OfAPerPromptMethodAreCentredWithinEachPrompt) {
  const Step step = step_of({{1, 0, 0.5, 0.25}});
  RunConfig config;
  config.run.method = Method::per_prompt;
  const auto advantage = request_weights(config, step.batch, step.outcomes).advantage;
  EXPECT_NEAR(advantage[0] + advantage[1], 0.0, sum_tolerance);
  EXPECT_NEAR(advantage[2] + advantage[3], 0.0, sum_tolerance);
}

TEST(LearnerOptions, SayWhatTheDeckSays) {
  RunConfig config;
  config.train.loss = "dapo";
  config.kl.coef = 0.25;
  config.kl.estimator = "k3+";
  config.kl.seed_prompt = 0.5;
  config.rollout.temperature = 0.75;
  config.optim.weight_decay = 0.125;
  const LearnerOptions options = learner_options(config, 448);
  EXPECT_EQ(options.loss.loss, PolicyLoss::ppo);
  EXPECT_EQ(options.loss.low, 0.2);
  EXPECT_EQ(options.loss.high, 0.28);  // arXiv:2503.14476
  EXPECT_EQ(options.loss.kl, KlEstimator::k3_plus);
  EXPECT_EQ(options.kl_coefficient, 0.25);
  EXPECT_EQ(options.anchor_coefficient, 0.5);
  EXPECT_EQ(options.law.temperature, 0.75f);
  EXPECT_EQ(options.law.vocab, 448);
  EXPECT_TRUE(options.exact);
  config.engine.exact = false;
  EXPECT_FALSE(learner_options(config, 448).exact);
  EXPECT_EQ(options.optimizer.weight_decay, 0.125);
  config.kl.place = "reward";
  EXPECT_EQ(learner_options(config, 448).kl_coefficient, 0.0);
}

}  // namespace
}  // namespace fst
