#include "fst/learn/schedule.h"

#include <gtest/gtest.h>

namespace fst {
namespace {

TEST(LearningRate, WarmsUpLinearlyFromTheFirstStep) {
  const LearningRate schedule{.peak = 2e-3, .warmup = 4};
  EXPECT_DOUBLE_EQ(learning_rate(schedule, 1), 0.5e-3);
  EXPECT_DOUBLE_EQ(learning_rate(schedule, 3), 1.5e-3);
  EXPECT_DOUBLE_EQ(learning_rate(schedule, 4), 2e-3);
  EXPECT_DOUBLE_EQ(learning_rate(schedule, 1000), 2e-3);
}

TEST(LearningRate, WithoutWarmUpIsConstant) {
  EXPECT_EQ(learning_rate({.peak = 1e-6}, 1), 1e-6);
}

TEST(LearningRate, DecaysLinearlyToItsFraction) {
  const LearningRate schedule{
      .peak = 1.0, .warmup = 2, .steps = 10, .decay_from = 0.5, .final_fraction = 0.1};
  EXPECT_DOUBLE_EQ(learning_rate(schedule, 5), 1.0);
  EXPECT_DOUBLE_EQ(learning_rate(schedule, 6), 0.82);
  EXPECT_DOUBLE_EQ(learning_rate(schedule, 10), 0.1);
  EXPECT_DOUBLE_EQ(learning_rate(schedule, 12), 0.1);
}

}  // namespace
}  // namespace fst
