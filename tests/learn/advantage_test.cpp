#include "fst/learn/advantage.h"

#include <cmath>
#include <vector>

#include <gtest/gtest.h>

#include "fst/base/error.h"

namespace fst {
namespace {

constexpr double tolerance = 1e-6;  // the specification prints six decimals

/// The worked example of the specification, section 5.1: K = 4 prompts, G = 8 rollouts.
RewardGroup worked_example() {
  return {{1, 1, 0, 1, 0, 0, 0, 0}, {0, 0, 1, 1, 2, 2, 3, 3}, {}};
}

GroupAdvantages of(const RewardGroup& group, const AdvantageOptions& options) {
  return group_advantages(std::span(&group, 1), options).at(0);
}

TEST(Advantages, ReproduceTheWorkedExample) {
  const auto group = of(worked_example(), {});
  EXPECT_NEAR(group.mean, 0.375, tolerance);
  EXPECT_NEAR(group.deviation, 0.484123, tolerance);
  EXPECT_NEAR(group.advantage[0], 1.290992, tolerance);
  EXPECT_NEAR(group.advantage[2], -0.774595, tolerance);
  const auto unbiased = of(worked_example(), {.deviation = Deviation::unbiased});
  EXPECT_NEAR(unbiased.advantage[0], 1.207612, tolerance);
  EXPECT_NEAR(unbiased.advantage[7], -0.724567, tolerance);
  const auto mean_only = of(worked_example(), {.mode = AdvantageMode::mean_only});
  EXPECT_EQ(mean_only.advantage[0], 0.625);
  EXPECT_EQ(mean_only.advantage[4], -0.375);
}

TEST(Advantages, PerPromptOnlySeparatesRolloutsThatSharedAPrompt) {
  const auto result = of(worked_example(), {.mode = AdvantageMode::per_prompt});
  for (const std::size_t i : {0u, 1u, 4u, 5u, 6u, 7u}) EXPECT_EQ(result.advantage[i], 0.0);
  EXPECT_NEAR(result.advantage[2], -1.0, 1e-5);
  EXPECT_NEAR(result.advantage[3], 1.0, 1e-5);
  EXPECT_TRUE(result.kept);
}

TEST(Advantages, AreCentredInTheGroup) {
  const RewardGroup group{{0.3, -2.0, 7.5, 0.25, 0.0}, {}, {}};
  for (const AdvantageMode mode :
       {AdvantageMode::group, AdvantageMode::mean_only, AdvantageMode::batch}) {
    double sum = 0.0;
    for (const double a : of(group, {.mode = mode}).advantage) sum += a;
    EXPECT_NEAR(sum, 0.0, 1e-12);
  }
}

TEST(Advantages, GroupOfEqualRewardsIsDroppedOnlyWithTheFilter) {
  const RewardGroup equal{{0.3, 0.3, 0.3}, {0, 1, 2}, {}};
  EXPECT_FALSE(of(equal, {}).kept);
  const auto unfiltered = of(equal, {.zero_variance_filter = false});
  EXPECT_TRUE(unfiltered.kept);
  for (const double a : unfiltered.advantage) EXPECT_NEAR(a, 0.0, 1e-9);
}

TEST(Advantages, FilterLooksAtTheRawRewardWhateverThePenalty) {
  const RewardGroup equal{{1.0, 1.0, 1.0}, {}, {0.0, 0.1, 0.2}};
  const auto dropped = of(equal, {});
  EXPECT_FALSE(dropped.kept);
  EXPECT_EQ(dropped.advantage, (std::vector<double>{0.0, 0.0, 0.0}));
  const RewardGroup unequal{{1.0, 1.1, 1.2}, {}, {0.0, 0.1, 0.2}};
  const auto kept = of(unequal, {.mode = AdvantageMode::mean_only});
  EXPECT_TRUE(kept.kept);
  for (const double a : kept.advantage) EXPECT_NEAR(a, 0.0, 1e-12);
}

TEST(Advantages, BatchScalesAllGroupsByOneDeviationOfTheSurvivors) {
  const std::vector<RewardGroup> groups = {
      {{1.0, 0.0}, {}, {}}, {{5.0, 5.0}, {}, {}}, {{3.0, 0.0, 0.0}, {}, {}}};
  const auto results = group_advantages(groups, {.mode = AdvantageMode::batch, .epsilon = 0.0});
  // Centred: +-0.5, dropped, (2, -1, -1); sum of squares 6.5 over five survivors.
  const double deviation = std::sqrt(6.5 / 5.0);
  EXPECT_NEAR(results[0].advantage[0], 0.5 / deviation, 1e-12);
  EXPECT_EQ(results[1].advantage[0], 0.0);
  EXPECT_NEAR(results[2].advantage[0], 2.0 / deviation, 1e-12);
}

TEST(Advantages, SingleRewardDeviatesByNothing) {
  const RewardGroup single{{0.7}, {0}, {}};
  const auto result = of(single, {.deviation = Deviation::unbiased, .zero_variance_filter = false});
  EXPECT_EQ(result.deviation, 0.0);
  EXPECT_EQ(result.advantage[0], 0.0);
}

TEST(Advantages, RefuseListsOfDifferentLengths) {
  EXPECT_THROW(of({{1.0, 0.0}, {0}, {}}, {.mode = AdvantageMode::per_prompt}), Error);
  EXPECT_THROW(of({{1.0, 0.0}, {}, {0.1}}, {}), Error);
}

// Section 5.3: lengths 10, 20, 30, 60 (rewards 1, 0, 0, 1) and 5, 5, 5, 5 (1, 0, 0, 0), every
// logprob -1, ratio 1: the loss is the sum of weight * advantage over all tokens.
TEST(TokenWeights, ReproduceTheWorkedExampleOfAllFourAggregations) {
  const std::vector<RewardGroup> groups = {{{1, 0, 0, 1}, {}, {}}, {{1, 0, 0, 0}, {}, {}}};
  const std::vector<std::vector<std::int64_t>> lengths = {{10, 20, 30, 60}, {5, 5, 5, 5}};
  const auto loss = [&](Aggregation aggregation, AdvantageMode mode) {
    const auto results = group_advantages(groups, {.mode = mode});
    const auto weights = token_weights(aggregation, lengths, {true, true}, 60.0);
    double total = 0.0;
    for (std::size_t p = 0; p < 2; ++p) {
      for (std::size_t i = 0; i < 4; ++i) {
        total += static_cast<double>(lengths[p][i]) * weights[p][i] * results[p].advantage[i];
      }
    }
    return total;
  };
  EXPECT_NEAR(loss(Aggregation::token, AdvantageMode::group), 0.142857, tolerance);
  EXPECT_NEAR(loss(Aggregation::prompt, AdvantageMode::group), 0.083333, tolerance);
  EXPECT_NEAR(loss(Aggregation::sequence, AdvantageMode::group), 0.0, tolerance);
  EXPECT_NEAR(loss(Aggregation::constant, AdvantageMode::mean_only), 0.0208333, tolerance);
}

TEST(TokenWeights, CountSurvivingProblemsOnly) {
  const std::vector<std::vector<std::int64_t>> lengths = {{2, 3}, {7, 1}, {4, 4}};
  const auto prompt = token_weights(Aggregation::prompt, lengths, {true, false, true}, 0.0);
  EXPECT_DOUBLE_EQ(prompt[0][0], 1.0 / (2 * 5));
  EXPECT_EQ(prompt[1], (std::vector<double>{0.0, 0.0}));
  EXPECT_DOUBLE_EQ(prompt[2][1], 1.0 / (2 * 8));
  const auto token = token_weights(Aggregation::token, lengths, {true, false, true}, 0.0);
  EXPECT_DOUBLE_EQ(token[0][0], 1.0 / 13);
  const auto none = token_weights(Aggregation::prompt, lengths, {false, false, false}, 0.0);
  for (const auto& group : none) EXPECT_EQ(group, (std::vector<double>{0.0, 0.0}));
  EXPECT_THROW(token_weights(Aggregation::prompt, lengths, {true}, 0.0), Error);
}

TEST(TokenWeights, EmptyCompletionsHaveNoWeight) {
  const std::vector<std::vector<std::int64_t>> lengths = {{0, 4}};
  const auto sequence = token_weights(Aggregation::sequence, lengths, {true}, 0.0);
  EXPECT_EQ(sequence[0][0], 0.0);
  EXPECT_DOUBLE_EQ(sequence[0][1], 1.0 / (2 * 4));
}

}  // namespace
}  // namespace fst
