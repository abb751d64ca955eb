// Losses in float64 (golden/loss; its README is the specification of fields and tolerances).
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "fst/learn/advantage.h"
#include "fst/learn/policy_loss.h"
#include "fst/learn/schedule.h"
#include "fst/tensor/ops.h"

#include "support/golden_json.h"

namespace fst {
namespace {

using Json = nlohmann::json;

constexpr double float64_tolerance = 1e-9;  // times 1 + |expected|
constexpr double float32_tolerance = 2e-5;  // times 1 + |expected|, ratios up to 1e4
constexpr double greatest_float32_ratio = 1e4;
constexpr double tiny_reward_tolerance =
    1e-7;  // rewards that differ by 1e-12: rounding over epsilon

void expect_near(double found, double expected, double tolerance, const std::string& what) {
  EXPECT_NEAR(found, expected, tolerance * (1.0 + std::fabs(expected))) << what;
}

template <class E>
E named(const std::map<std::string, E>& names, const Json& value) {
  return names.at(value.get<std::string>());
}

AdvantageMode mode_of(const Json& value) {
  return named<AdvantageMode>({{"group", AdvantageMode::group},
                               {"mean_only", AdvantageMode::mean_only},
                               {"per_prompt", AdvantageMode::per_prompt},
                               {"batch", AdvantageMode::batch}},
                              value);
}
Deviation deviation_of(const Json& value) {
  return named<Deviation>(
      {{"population", Deviation::population}, {"unbiased", Deviation::unbiased}}, value);
}
KlEstimator estimator_of(const Json& value) {
  return named<KlEstimator>({{"k1", KlEstimator::k1},
                             {"k2", KlEstimator::k2},
                             {"k3", KlEstimator::k3},
                             {"k3_clamped", KlEstimator::k3_clamped},
                             {"k3+", KlEstimator::k3_plus}},
                            value);
}
Aggregation aggregation_of(const Json& value) {
  return named<Aggregation>({{"prompt", Aggregation::prompt},
                             {"token", Aggregation::token},
                             {"sequence", Aggregation::sequence},
                             {"constant", Aggregation::constant}},
                            value);
}

PolicyLossOptions loss_of(const Json& line) {
  PolicyLossOptions options;
  options.loss = named<PolicyLoss>({{"cispo", PolicyLoss::cispo},
                                    {"reinforce", PolicyLoss::reinforce},
                                    {"ppo", PolicyLoss::ppo}},
                                   line.at("loss"));
  if (options.loss == PolicyLoss::ppo) {
    options.low = line.at("low");
    options.high = line.at("high");
  } else if (options.loss == PolicyLoss::cispo && line.contains("tau")) {
    options.tau = line.at("tau");
  } else if (options.loss == PolicyLoss::cispo) {
    options.tau = 1.0 + line.at("high").get<double>();
    options.cispo_low = 1.0 - line.at("low").get<double>();
  }
  if (line.contains("kl") && !line.at("kl").is_null()) options.kl = estimator_of(line.at("kl"));
  options.kl_weighted = line.value("kl_weighted", false);
  return options;
}

std::vector<RewardGroup> groups_of(const Json& groups, const Json& penalties) {
  std::vector<RewardGroup> result;
  for (const Json& group : groups) {
    result.push_back({group.at("rewards"), group.at("slots"), {}});
    if (penalties.is_null()) continue;
    result.back().kl_in_reward = penalties.at(result.size() - 1).get<std::vector<double>>();
  }
  return result;
}

/// True where some rewards of a group differ, but by rounding alone.
bool has_tiny_differences(const std::vector<RewardGroup>& groups) {
  for (const RewardGroup& group : groups) {
    for (const double a : group.rewards) {
      for (const double b : group.rewards) {
        if (a != b && std::fabs(a - b) < 1e-11) return true;
      }
    }
  }
  return false;
}

TEST(GoldenLoss, Advantages) {
  for (const Json& line : test::golden_lines("loss/advantages.jsonl")) {
    SCOPED_TRACE(line.at("id").get<std::string>());
    const auto groups = groups_of(line.at("groups"), line.value("kl_in_reward", Json()));
    const auto results =
        group_advantages(groups, {mode_of(line.at("mode")), deviation_of(line.at("std")),
                                  line.at("eps"), line.at("zero_variance_filter")});
    const double tolerance =
        has_tiny_differences(groups) ? tiny_reward_tolerance : float64_tolerance;
    ASSERT_EQ(results.size(), line.at("expected").size());
    for (std::size_t p = 0; p < results.size(); ++p) {
      const Json& expected = line.at("expected").at(p);
      EXPECT_EQ(results[p].kept, expected.at("kept").get<bool>());
      if (!expected.at("mean").is_null()) {
        expect_near(results[p].mean, expected.at("mean"), float64_tolerance, "mean");
        expect_near(results[p].deviation, expected.at("std"), float64_tolerance, "std");
      }
      ASSERT_EQ(results[p].advantage.size(), expected.at("advantage").size());
      for (std::size_t i = 0; i < results[p].advantage.size(); ++i) {
        expect_near(results[p].advantage[i], expected.at("advantage").at(i), tolerance,
                    "advantage");
      }
    }
  }
}

TEST(GoldenLoss, PolicyTokens) {
  for (const Json& line : test::golden_lines("loss/policy_token.jsonl")) {
    SCOPED_TRACE(line.at("id").get<std::string>());
    const PolicyToken token =
        policy_token(loss_of(line), line.at("logprob"), line.at("behaviour"), line.at("advantage"));
    const Json& expected = line.at("expected");
    expect_near(token.ratio, expected.at("ratio"), float64_tolerance, "ratio");
    expect_near(token.weight, expected.at("weight"), float64_tolerance, "weight");
    expect_near(token.term, expected.at("term"), float64_tolerance, "term");
    expect_near(token.dlogprob, expected.at("dlogprob"), float64_tolerance, "dlogprob");
  }
}

TEST(GoldenLoss, KlTokens) {
  for (const Json& line : test::golden_lines("loss/kl_token.jsonl")) {
    SCOPED_TRACE(line.at("id").get<std::string>());
    const KlToken token =
        kl_token(estimator_of(line.at("kind")), line.at("logprob"), line.at("reference"));
    expect_near(token.value, line.at("value"), float64_tolerance, "value");
    expect_near(token.dlogprob, line.at("dlogprob"), float64_tolerance, "dlogprob");
  }
}

/// A step of several problems: what its groups decide, and the sums over its tokens.
class Step {
 public:
  explicit Step(const Json& line) : line_(line), options_(loss_of(line)) {
    const Json& problems = line.at("problems");
    const auto groups = groups_of(problems, Json());
    results_ = group_advantages(groups, {mode_of(line.at("advantage_mode")),
                                         deviation_of(line.at("std")), line.at("eps"), true});
    std::vector<std::vector<std::int64_t>> lengths;
    std::vector<bool> kept;
    for (std::size_t p = 0; p < results_.size(); ++p) {
      kept.push_back(results_[p].kept);
      EXPECT_EQ(results_[p].kept, problems.at(p).at("kept").get<bool>());
      lengths.emplace_back();
      for (const Json& sequence : problems.at(p).at("sequences")) {
        std::int64_t tokens = 0;
        for (const Json& m : sequence.at("mask")) tokens += m.get<std::int64_t>();
        lengths.back().push_back(tokens);
      }
    }
    const Json& constant = line.at("length_constant");
    weights_ = token_weights(aggregation_of(line.at("aggregation")), lengths, kept,
                             constant.is_null() ? 0.0 : constant.get<double>());
  }

  /// f(problem, place in it, the sequence's data, weights of its tokens).
  void for_sequences(const std::function<void(const Json&, const TokenWeights&)>& f) const {
    for (std::size_t p = 0; p < results_.size(); ++p) {
      const Json& sequences = line_.at("problems").at(p).at("sequences");
      for (std::size_t i = 0; i < sequences.size(); ++i) {
        f(sequences.at(i),
          {results_[p].advantage[i], weights_[p][i], weights_[p][i],
           line_.at("kl").is_null() ? 0.0 : line_.at("kl_coefficient").get<double>()});
      }
    }
  }

  TokenLoss take(const Json& sequence, std::size_t t, double logprob, const TokenWeights& weights) {
    const TokenLoss loss = token_loss(options_, weights, logprob, sequence.at("behaviour").at(t),
                                      sequence.at("reference").at(t));
    policy_ += weights.policy * loss.policy.term;
    kl_ += loss.kl_share;
    return loss;
  }
  void take_entropy(double share) { entropy_ += share; }

  void expect_sums(double tolerance) const {
    const Json& expected = line_.at("expected");
    expect_near(policy_, expected.at("policy"), tolerance, "policy");
    if (line_.at("kl_coefficient").get<double>() > 0.0) {
      expect_near(kl_, expected.at("kl"), tolerance, "kl");
    }
    if (!expected.at("entropy").is_null()) {
      expect_near(entropy_, expected.at("entropy"), tolerance, "entropy");
    }
    const double total = policy_ + line_.at("kl_coefficient").get<double>() * kl_ -
                         line_.at("entropy_coefficient").get<double>() * entropy_;
    expect_near(total, expected.at("total"), tolerance, "total");
    std::int64_t surviving = 0;
    for (const auto& result : results_) surviving += result.kept ? 1 : 0;
    EXPECT_EQ(surviving, expected.at("surviving").get<std::int64_t>());
  }

 private:
  const Json& line_;
  PolicyLossOptions options_;
  std::vector<GroupAdvantages> results_;
  std::vector<std::vector<double>> weights_;
  double policy_ = 0, kl_ = 0, entropy_ = 0;
};

TEST(GoldenLoss, BatchesOfRaggedProblems) {
  for (const Json& line : test::golden_lines("loss/batch.jsonl")) {
    SCOPED_TRACE(line.at("id").get<std::string>());
    Step step(line);
    step.for_sequences([&](const Json& sequence, const TokenWeights& weights) {
      expect_near(weights.advantage, sequence.at("advantage"), float64_tolerance, "advantage");
      expect_near(weights.policy, sequence.at("token_weight"), float64_tolerance, "token_weight");
      for (std::size_t t = 0; t < sequence.at("mask").size(); ++t) {
        if (sequence.at("mask").at(t) == 0) continue;
        const TokenLoss loss = step.take(sequence, t, sequence.at("logprob").at(t), weights);
        expect_near(loss.policy.ratio, sequence.at("ratio").at(t), float64_tolerance, "ratio");
        expect_near(loss.dlogprob, sequence.at("dlogprob").at(t), float64_tolerance, "dlogprob");
      }
    });
    step.expect_sums(float64_tolerance);
  }
}

/// The tokens of one sequence of chain.jsonl through the float32 law, as the learner takes them.
class Chain {
 public:
  Chain(const Device& device, const Json& line, const Json& sequence)
      : device_(device), targets_(sequence.at("tokens").get<std::vector<std::int32_t>>()) {
    for (const Json& row : sequence.at("logits")) {
      for (const Json& z : row) z_.push_back(z.get<float>());
    }
    rows_ = static_cast<std::int64_t>(targets_.size());
    law_ = {line.at("temperature"), static_cast<std::int64_t>(z_.size()) / rows_};
    logits_ = Tensor(device, DType::f32, z_.data(), {rows_, law_.vocab});
    for (Buffer* b : {&logprob_, &entropy_, &dlogprob_, &dentropy_}) {
      b->reserve(device, DType::f32, {rows_});
    }
    lse_.reserve(device, DType::f32, {rows_, 2});
    EXPECT_EQ(ops::token_lse(lse_.tensor(), logits_, law_), -1);
    ops::token_logprob(logprob_.tensor(), logits_, lse_.tensor(), targets(), law_);
    ops::token_entropy(entropy_.tensor(), logits_, lse_.tensor(), law_);
    ops::fill(dlogprob_.tensor(), 0.0f);
    ops::fill(dentropy_.tensor(), 0.0f);
  }
  double logprob(std::size_t t) const { return static_cast<double>(logprob_.span<float>()[t]); }
  double entropy(std::size_t t) const { return static_cast<double>(entropy_.span<float>()[t]); }
  void upstream(std::size_t t, double dlogprob, double dentropy) {
    dlogprob_.span<float>()[t] = static_cast<float>(dlogprob);
    dentropy_.span<float>()[t] = static_cast<float>(dentropy);
  }
  /// [rows * vocab]
  std::vector<float> gradient() {
    std::vector<float> dz(z_.size());
    Tensor dlogits(device_, DType::f32, dz.data(), {rows_, law_.vocab});
    ops::TokenGradient gradient;
    gradient.dlogprob = dlogprob_.tensor();
    gradient.dentropy = dentropy_.tensor();
    gradient.entropy = entropy_.tensor();
    ops::token_backward(dlogits, logits_, lse_.tensor(), targets(), gradient, law_);
    return dz;
  }

 private:
  Tensor targets() { return Tensor(device_, DType::i32, targets_.data(), {rows_}); }

  const Device& device_;
  std::vector<float> z_;
  std::vector<std::int32_t> targets_;
  std::int64_t rows_ = 0;
  ops::TokenLaw law_;
  Tensor logits_;
  Buffer lse_, logprob_, entropy_, dlogprob_, dentropy_;
};

bool has_great_ratio(const Json& line) {
  for (const Json& problem : line.at("problems")) {
    for (const Json& sequence : problem.at("sequences")) {
      for (const Json& ratio : sequence.at("ratio")) {
        if (ratio.get<double>() > greatest_float32_ratio) return true;
      }
    }
  }
  return false;
}

TEST(GoldenLoss, ChainsFromLogitsToTheirGradient) {
  const Device device = Device::cpu();
  int held = 0;
  for (const Json& line : test::golden_lines("loss/chain.jsonl")) {
    if (has_great_ratio(line)) continue;  // left to float64, as the README says
    SCOPED_TRACE(line.at("id").get<std::string>());
    Step step(line);
    const double bonus = line.at("entropy_coefficient");
    step.for_sequences([&](const Json& sequence, const TokenWeights& weights) {
      Chain chain(device, line, sequence);
      for (std::size_t t = 0; t < sequence.at("mask").size(); ++t) {
        expect_near(chain.logprob(t), sequence.at("logprob").at(t), float32_tolerance, "logprob");
        if (sequence.at("mask").at(t) == 0) continue;
        const TokenLoss loss = step.take(sequence, t, chain.logprob(t), weights);
        step.take_entropy(weights.policy * chain.entropy(t));
        chain.upstream(t, loss.dlogprob, -bonus * weights.policy);
      }
      const auto dlogits = chain.gradient();
      std::size_t at = 0;
      for (const Json& row : sequence.at("dlogits")) {
        for (const Json& d : row) expect_near(dlogits.at(at++), d, float32_tolerance, "dlogits");
      }
      EXPECT_EQ(at, dlogits.size());
    });
    step.expect_sums(float32_tolerance);
    ++held;
  }
  EXPECT_GT(held, 0);
}

TEST(GoldenLoss, WarmUpOfTheLearningRate) {
  for (const Json& line : test::golden_lines("loss/adamw.jsonl")) {
    SCOPED_TRACE(line.at("id").get<std::string>());
    const LearningRate schedule{.peak = line.at("lr"), .warmup = line.at("warmup")};
    for (const Json& step : line.at("steps")) {
      expect_near(learning_rate(schedule, step.at("step")), step.at("lr"), float64_tolerance, "lr");
    }
  }
}

}  // namespace
}  // namespace fst
