#include "fst/learn/learner.h"

#include <cmath>
#include <limits>
#include <string>

#include <gtest/gtest.h>

#include "fst/base/error.h"

#include "learn_fixture.h"

namespace fst {
namespace {

using test::TinyModels;

void expect_same_bits(const test::Learnt& a, const test::Learnt& b, const std::string& what) {
  EXPECT_EQ(test::differing(a.weights, b.weights), 0) << what;
  EXPECT_EQ(test::differing(a.m, b.m), 0) << what;
  EXPECT_EQ(test::differing(a.v, b.v), 0) << what;
  EXPECT_EQ(test::numbers_of(a.first), test::numbers_of(b.first)) << what;
  EXPECT_EQ(test::numbers_of(a.second), test::numbers_of(b.second)) << what;
}

class LearnerOf : public ::testing::TestWithParam<DType> {};

INSTANTIATE_TEST_SUITE_P(Arithmetic, LearnerOf, ::testing::ValuesIn(test::arithmetics),
                         test::arithmetic_name);

test::Learnt learn_with(Device device, std::int64_t micro_batch, std::int64_t head_chunk,
                        DType dtype = DType::f32) {
  TinyModels models(dtype, std::move(device));
  LearnerOptions options = test::all_terms();
  options.micro_batch = micro_batch;
  options.head_chunk = head_chunk;
  return test::learn_twice(models, Communicator::self(), options);
}

TEST_P(LearnerOf, MicroBatchesHeadChunksAndThreadsChangeNoBit) {
  const test::Learnt expected = learn_with(Device::cpu(), 8, 256, GetParam());
  EXPECT_EQ(expected.first.logprob_abs_diff_max, 0.0);
  EXPECT_EQ(expected.first.ratio_max, 1.0);
  EXPECT_NE(expected.second.ratio_max, 1.0);
  expect_same_bits(learn_with(Device::cpu(), 1, 256, GetParam()), expected, "micro-batches of 1");
  expect_same_bits(learn_with(Device::cpu(), 8, 3, GetParam()), expected, "head chunks of 3");
  expect_same_bits(learn_with(Device::cpu(2), 8, 256, GetParam()), expected, "2 threads");
}

TEST_P(LearnerOf, InstructionSetsChangeNoBit) {
  const test::Learnt expected = learn_with(Device::cpu(), 8, 256, GetParam());
  for (const kernels::Isa isa : test::isas()) {
    expect_same_bits(learn_with(Device::cpu(1, isa), 8, 256, GetParam()), expected,
                     kernels::name_of(isa));
  }
}

TEST(Learner, WarmsItsRateUpOverTheFirstSteps) {
  const test::Learnt learnt = learn_with(Device::cpu(), 8, 256);
  const LearnerOptions options = test::all_terms();
  EXPECT_EQ(learnt.first.lr, options.lr * (1.0 / 3.0));
  EXPECT_EQ(learnt.second.lr, options.lr * (2.0 / 3.0));
}

TEST_P(LearnerOf, AnOnPolicyLogProbabilityThatDiffersByOneBitIsAnError) {
  TinyModels models(GetParam());
  const auto before = test::values_of(models.policy_parameters.flat());
  const LearnerOptions options = test::all_terms();
  auto sequences = test::some_sequences(2, 2);
  test::sample_behaviour(sequences, models.policy, options.law);
  const Communicator self = Communicator::self();
  Learner learner(models.policy, models.policy_parameters, &models.base, LearnerGrid(self),
                  options);
  float& one = sequences[2].behaviour.front();
  const float sampled = one;
  for (const float wrong : {std::nextafter(sampled, 0.0f), std::nextafter(sampled, -1e9f),
                            std::numeric_limits<float>::quiet_NaN()}) {
    one = wrong;
    EXPECT_THROW(learner.step(2, sequences, {}), Error) << wrong - sampled;
  }
  EXPECT_EQ(test::differing(test::values_of(models.policy_parameters.flat()), before), 0);
  EXPECT_EQ(learner.optimizer().steps(), 0);
  one = std::nextafter(sampled, 0.0f);
  sequences[2].on_policy = false;  // sampled by older weights: a ratio, not a mistake
  EXPECT_EQ(learner.step(2, sequences, {}).logprob_abs_diff_max, 0.0);
}

TEST(Learner, WhereSumsAreNotExactADifferenceFromTheSamplerIsReported) {
  TinyModels models;
  LearnerOptions options = test::all_terms();
  options.exact = false;
  auto sequences = test::some_sequences(2, 2);
  test::sample_behaviour(sequences, models.policy, options.law);
  const Communicator self = Communicator::self();
  Learner learner(models.policy, models.policy_parameters, &models.base, LearnerGrid(self),
                  options);
  float& one = sequences[2].behaviour.front();
  const float learnt = one;
  one = std::nextafter(learnt, -1e9f);
  EXPECT_EQ(learner.step(2, sequences, {}).logprob_abs_diff_max,
            static_cast<double>(learnt) - static_cast<double>(one));
  EXPECT_EQ(learner.optimizer().steps(), 1);
}

TEST(Learner, AStepWithoutAnyLiveGroupCountsAndLeavesFreshWeightsAlone) {
  TinyModels models;
  const auto before = test::values_of(models.policy_parameters.flat());
  LearnerOptions options = test::all_terms();
  options.optimizer.weight_decay = 0.0;
  const Communicator self = Communicator::self();
  Learner learner(models.policy, models.policy_parameters, &models.base, LearnerGrid(self),
                  options);
  const StepStats stats = learner.step(4, {}, {});
  EXPECT_EQ(learner.optimizer().steps(), 1);
  EXPECT_EQ(test::differing(test::values_of(models.policy_parameters.flat()), before), 0);
  EXPECT_EQ(stats.tokens, 0);
  EXPECT_EQ(stats.grad_norm, 0.0);
  EXPECT_EQ(stats.ratio_mean, 1.0);
  EXPECT_EQ(stats.ratio_max, 1.0);
  EXPECT_EQ(stats.frac_capped, 0.0);
  EXPECT_EQ(stats.entropy, 0.0);
}

TEST(Learner, WithoutAnyLiveGroupWeightsMoveByMomentsAndDecayAlone) {
  TinyModels models;
  const LearnerOptions options = test::all_terms();
  auto sequences = test::some_sequences(4, 2);
  test::sample_behaviour(sequences, models.policy, options.law);
  const Communicator self = Communicator::self();
  Learner learner(models.policy, models.policy_parameters, &models.base, LearnerGrid(self),
                  options);
  learner.step(4, sequences, {});
  const auto p = test::values_of(models.policy_parameters.flat());
  const auto m = test::values_of(learner.optimizer().m());
  const auto v = test::values_of(learner.optimizer().v());
  const StepStats stats = learner.step(4, {}, {});
  EXPECT_EQ(learner.optimizer().steps(), 2);
  const auto after = test::values_of(models.policy_parameters.flat());
  const auto& adamw = options.optimizer;
  constexpr double tolerance = 1e-6;  // the step in double against float32
  for (const ParameterSpec& spec : models.policy_parameters.specs()) {
    for (std::int64_t i = spec.offset; i < spec.offset + spec.size(); ++i) {
      const auto k = static_cast<std::size_t>(i);
      const double m2 = adamw.beta1 * static_cast<double>(m[k]) / (1.0 - 0.9 * 0.9);
      const double v2 = adamw.beta2 * static_cast<double>(v[k]) / (1.0 - 0.999 * 0.999);
      const double decay = spec.rank == 2 ? 1.0 - stats.lr * adamw.weight_decay : 1.0;
      const double expected =
          static_cast<double>(p[k]) * decay - stats.lr * m2 / (std::sqrt(v2) + adamw.eps);
      ASSERT_NEAR(static_cast<double>(after[k]), expected, tolerance) << spec.name;
    }
  }
}

TEST_P(LearnerOf, TheModelThatSamplesNextHasTheNewWeights) {
  TinyModels models(GetParam());
  const LearnerOptions options = test::all_terms();
  auto sequences = test::some_sequences(2, 2);
  test::sample_behaviour(sequences, models.policy, options.law);
  const Communicator self = Communicator::self();
  Learner learner(models.policy, models.policy_parameters, &models.base, LearnerGrid(self),
                  options);
  learner.step(2, sequences, {});
  auto updated = sequences, fresh = sequences;
  test::sample_behaviour(updated, models.policy, options.law);
  Qwen3 rebuilt(models.policy.config(), models.device, {.max_positions = 64, .dtype = GetParam()});
  rebuilt.set_weights(models.policy_parameters);
  test::sample_behaviour(fresh, rebuilt, options.law);
  for (std::size_t i = 0; i < fresh.size(); ++i) {
    EXPECT_EQ(updated[i].behaviour, fresh[i].behaviour);
    EXPECT_NE(updated[i].behaviour, sequences[i].behaviour);
  }
}

TEST(Learner, EveryGroupHasOneOwnerAndItHoldsTheGroupsLeaf) {
  for (const std::int64_t leaves : {1, 5, 8}) {
    for (const std::int64_t groups : {1, 3, 8, 32, 33}) {
      for (const int learners : {1, 2, 3, 4, 8}) {
        for (std::int64_t leaf = 0; leaf < leaves; ++leaf) {
          const Range mine = part_of(groups, leaves, leaf);
          for (std::int64_t group = mine.begin; group < mine.end; ++group) {
            const int owner = Learner::owner_of(group, groups, leaves, learners);
            const Range own = part_of(leaves, learners, owner);
            EXPECT_LE(own.begin, leaf);
            EXPECT_LT(leaf, own.end);
          }
        }
      }
    }
  }
}

}  // namespace
}  // namespace fst
