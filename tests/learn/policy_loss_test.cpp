#include "fst/learn/policy_loss.h"

#include <cmath>
#include <vector>

#include <gtest/gtest.h>

namespace fst {
namespace {

constexpr double table_tolerance = 1e-7;  // the specification prints eight decimals
const double y_logprob = -0.34234958;     // section 5.4: log p(y) of the worked example

TEST(PolicyLoss, CispoCapsTheWeightAndNeverDropsAToken) {
  const PolicyToken capped = policy_token({}, y_logprob, std::log(0.1), 1.5);
  EXPECT_NEAR(capped.ratio, 7.10099923, 1e-6);
  EXPECT_EQ(capped.weight, 4.0);
  EXPECT_TRUE(capped.capped);
  EXPECT_NEAR(capped.term, 2.05409749, table_tolerance);
  EXPECT_EQ(capped.dlogprob, -6.0);
  const PolicyToken free = policy_token({}, y_logprob, std::log(0.6), -0.7);
  EXPECT_NEAR(free.ratio, 1.18349987, table_tolerance);
  EXPECT_FALSE(free.capped);
  EXPECT_NEAR(free.term, -0.28361947, table_tolerance);
}

TEST(PolicyLoss, CispoWithALowerBoundLiftsSmallRatios) {
  PolicyLossOptions options;
  options.tau = 1.28;
  options.cispo_low = 0.8;
  const PolicyToken token = policy_token(options, -3.0, -1.0, 2.0);
  EXPECT_EQ(token.weight, 0.8);
  EXPECT_TRUE(token.capped);
  EXPECT_EQ(token.dlogprob, -1.6);
}

TEST(PolicyLoss, PpoStopsTheGradientWhereTheClipIsActive) {
  PolicyLossOptions options;
  options.loss = PolicyLoss::ppo;
  options.high = 0.28;
  const auto token = [&](double behaviour, double advantage) {
    return policy_token(options, y_logprob, std::log(behaviour), advantage);
  };
  EXPECT_NEAR(token(0.7, 1.5).term, -1.52164269, table_tolerance);
  EXPECT_NEAR(token(0.7, 1.5).dlogprob, -1.52164269, table_tolerance);
  EXPECT_NEAR(token(0.5, 1.5).term, -1.92, table_tolerance);
  EXPECT_EQ(token(0.5, 1.5).dlogprob, 0.0);
  EXPECT_TRUE(token(0.5, 1.5).capped);
  EXPECT_NEAR(token(0.95, -0.7).term, 0.56, table_tolerance);
  EXPECT_EQ(token(0.95, -0.7).dlogprob, 0.0);
  EXPECT_NEAR(token(0.7, -0.7).term, 0.71009992, table_tolerance);
  // The clip is one-sided: a ratio that is high where the advantage is negative still counts.
  EXPECT_NE(token(0.1, -0.7).dlogprob, 0.0);
  EXPECT_FALSE(token(0.1, -0.7).capped);
}

TEST(PolicyLoss, OnPolicyAllThreeHaveTheGradientOfReinforce) {
  for (const PolicyLoss loss : {PolicyLoss::cispo, PolicyLoss::reinforce, PolicyLoss::ppo}) {
    PolicyLossOptions options;
    options.loss = loss;
    const PolicyToken token = policy_token(options, -1.7, -1.7, 0.6);
    EXPECT_EQ(token.ratio, 1.0);
    EXPECT_EQ(token.dlogprob, -0.6);
    EXPECT_FALSE(token.capped);
  }
}

TEST(PolicyLoss, ExponentOfTheRatioIsLimited) {
  PolicyLossOptions options;
  options.loss = PolicyLoss::ppo;
  const PolicyToken token = policy_token(options, 0.0, -800.0, -1.0);
  EXPECT_NEAR(token.ratio, 485165195.40979, 1e-4);
  EXPECT_EQ(token.dlogprob, 0.0);
  EXPECT_GT(policy_token(options, -800.0, 0.0, 1.0).ratio, 0.0);
}

double kl_value(KlEstimator estimator, double d) {
  return kl_token(estimator, d, 0.0).value;
}

TEST(KlEstimators, ReproduceTheTable) {
  const double base = std::log(0.5);
  EXPECT_NEAR(kl_token(KlEstimator::k1, y_logprob, base).value, 0.35079760, table_tolerance);
  EXPECT_NEAR(kl_token(KlEstimator::k2, y_logprob, base).value, 0.06152948, table_tolerance);
  EXPECT_NEAR(kl_token(KlEstimator::k3, y_logprob, base).value, 0.05492385, table_tolerance);
}

TEST(KlEstimators, DerivativesMatchFiniteDifferences) {
  const double h = 1e-5;
  for (const KlEstimator estimator :
       {KlEstimator::k1, KlEstimator::k2, KlEstimator::k3, KlEstimator::k3_clamped}) {
    for (const double d : {-2.0, -0.3, 0.0, 0.4, 3.0, 10.0}) {
      const double slope = (kl_value(estimator, d + h) - kl_value(estimator, d - h)) / (2 * h);
      EXPECT_NEAR(kl_token(estimator, d, 0.0).dlogprob, slope, 1e-8 * (1.0 + std::fabs(slope)));
    }
  }
}

TEST(KlEstimators, K3PlusHasTheValueOfK3AndTheSlopeOfK2) {
  EXPECT_EQ(kl_value(KlEstimator::k3_plus, 0.7), kl_value(KlEstimator::k3, 0.7));
  EXPECT_EQ(kl_token(KlEstimator::k3_plus, 0.7, 0.0).dlogprob, 0.7);
}

TEST(KlEstimators, ClampedK3HasNoGradientOutsideItsBounds) {
  for (const double d : {-30.0, -4.0, 12.0, 30.0}) {
    EXPECT_EQ(kl_value(KlEstimator::k3_clamped, d), 10.0) << d;
    EXPECT_EQ(kl_token(KlEstimator::k3_clamped, d, 0.0).dlogprob, 0.0) << d;
  }
}

TEST(TokenLoss, JoinsPolicyAndPenaltyWithTheirWeights) {
  PolicyLossOptions options;
  options.kl = KlEstimator::k2;
  const TokenWeights weights{1.5, 0.25, 0.5, 0.1};
  const TokenLoss plain = token_loss(options, weights, -1.0, -3.0, -1.4);
  EXPECT_DOUBLE_EQ(plain.dlogprob, 0.25 * -6.0 + 0.1 * 0.5 * 0.4);
  EXPECT_DOUBLE_EQ(plain.kl_share, 0.5 * 0.08);
  options.kl_weighted = true;  // ratio e^2 is capped at 4
  const TokenLoss weighted = token_loss(options, weights, -1.0, -3.0, -1.4);
  EXPECT_DOUBLE_EQ(weighted.kl_share, 4 * plain.kl_share);
  EXPECT_DOUBLE_EQ(weighted.dlogprob, 0.25 * -6.0 + 0.1 * 0.5 * 4 * 0.4);
}

TEST(TokenLoss, WithoutCoefficientTheBaseIsNotLookedAt) {
  const TokenLoss loss =
      token_loss({}, {1.0, 0.5, 0.5, 0.0}, -1.0, -1.0, std::nan("no base model"));
  EXPECT_EQ(loss.dlogprob, -0.5);
  EXPECT_EQ(loss.kl_share, 0.0);
}

}  // namespace
}  // namespace fst
