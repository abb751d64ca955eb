// Laws of one token in float64 (golden/loss/position.jsonl) and expectations of the KL estimators
// over the vocabulary (golden/loss/kl_expectation.jsonl), through tensor/ops.
#include <cmath>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "fst/tensor/ops.h"

#include "support/golden_json.h"

namespace fst {
namespace {

constexpr double float32_tolerance = 2e-5;  // times 1 + |expected|, golden/loss/README.md

void expect_near(double found, double expected, const std::string& what) {
  EXPECT_NEAR(found, expected, float32_tolerance * (1.0 + std::fabs(expected))) << what;
}

/// One law p, its reference q, and the gradients of single terms.
class Position {
 public:
  Position(const Device& device, std::vector<float> logits, std::vector<float> reference)
      : device_(device), z_(std::move(logits)), q_(std::move(reference)) {
    law_.vocab = static_cast<std::int64_t>(z_.size());
    logits_ = Tensor(device_, DType::f32, z_.data(), {1, law_.vocab});
    reference_ = Tensor(device_, DType::f32, q_.data(), {1, law_.vocab});
    EXPECT_EQ(ops::token_lse(lse_.tensor(), logits_, law_), -1);
    EXPECT_EQ(ops::token_lse(reference_lse_.tensor(), reference_, law_), -1);
    ops::token_entropy(entropy_.tensor(), logits_, lse_.tensor(), law_);
    ops::token_kl(kl_.tensor(), logits_, lse_.tensor(), reference_, reference_lse_.tensor(), law_);
  }
  std::int64_t vocab() const { return law_.vocab; }
  double lse() const {
    return static_cast<double>(lse_.span<float>()[0]) + static_cast<double>(lse_.span<float>()[1]);
  }
  double entropy() const { return entropy_.span<float>()[0]; }
  double kl() const { return kl_.span<float>()[0]; }
  double logprob(std::int32_t token) { return logprob_under(logits_, lse_, token); }
  double reference_logprob(std::int32_t token) {
    return logprob_under(reference_, reference_lse_, token);
  }
  /// Gradient of dlogprob log p(token) + dentropy H + dkl KL with respect to the logits.
  std::vector<float> gradient(std::int32_t token, float dlogprob, float dentropy, float dkl) {
    Tensor targets(device_, DType::i32, &token, {1});
    ops::TokenGradient upstream;
    upstream.dlogprob = Tensor(device_, DType::f32, &dlogprob, {1});
    upstream.dentropy = Tensor(device_, DType::f32, &dentropy, {1});
    upstream.entropy = entropy_.tensor();
    if (dkl != 0.0f) {
      upstream.dkl = Tensor(device_, DType::f32, &dkl, {1});
      upstream.kl = kl_.tensor();
      upstream.reference_logits = reference_;
      upstream.reference_lse = reference_lse_.tensor();
    }
    std::vector<float> dlogits(z_.size());
    Tensor out(device_, DType::f32, dlogits.data(), {1, law_.vocab});
    ops::token_backward(out, logits_, lse_.tensor(), targets, upstream, law_);
    return dlogits;
  }

 private:
  double logprob_under(const Tensor& logits, const Buffer& lse, std::int32_t token) {
    Buffer value(device_, DType::f32, {1});
    ops::token_logprob(value.tensor(), logits, lse.tensor(),
                       Tensor(device_, DType::i32, &token, {1}), law_);
    return value.span<float>()[0];
  }

  const Device& device_;
  std::vector<float> z_, q_;
  ops::TokenLaw law_;
  Tensor logits_, reference_;
  Buffer lse_{device_, DType::f32, {1, 2}}, reference_lse_{device_, DType::f32, {1, 2}};
  Buffer entropy_{device_, DType::f32, {1}}, kl_{device_, DType::f32, {1}};
};

void expect_gradient(const std::vector<float>& found, const nlohmann::json& expected,
                     const std::string& what) {
  ASSERT_EQ(found.size(), expected.size()) << what;
  for (std::size_t v = 0; v < found.size(); ++v) {
    expect_near(found[v], expected.at(v).get<double>(), what);
  }
}

TEST(GoldenTokenLaw, AgreesOnLogprobEntropyKlAndTheirGradients) {
  const Device device = Device::cpu();
  for (const auto& line : test::golden_lines("loss/position.jsonl")) {
    SCOPED_TRACE(line.at("id").get<std::string>());
    const auto z = line.at("logits").get<std::vector<float>>();
    const auto q = line.at("teacher_logits").get<std::vector<float>>();
    const std::int32_t token = line.at("token");
    const auto& expected = line.at("expected");
    Position position(device, z, q);
    expect_near(position.lse(), expected.at("logsumexp"), "logsumexp");
    expect_near(position.logprob(token), expected.at("logprob"), "logprob");
    expect_near(position.entropy(), expected.at("entropy"), "entropy");
    expect_near(position.kl(), expected.at("reverse_kl"), "reverse_kl");
    expect_gradient(position.gradient(token, 1, 0, 0), expected.at("dlogprob"), "dlogprob");
    expect_gradient(position.gradient(token, 0, 1, 0), expected.at("dentropy"), "dentropy");
    expect_gradient(position.gradient(token, 0, 0, 1), expected.at("dreverse_kl"), "dreverse_kl");
    expect_near(Position(device, q, z).kl(), expected.at("forward_kl"), "forward_kl");
    for (std::int32_t v = 0; v < position.vocab(); ++v) {
      expect_near(std::exp(position.logprob(v)),
                  expected.at("p").at(static_cast<std::size_t>(v)).get<double>(), "p");
    }
  }
}

struct Estimator {
  std::string name;
  std::function<double(double)> value, derivative;  // of d = logprob - reference logprob
};

TEST(GoldenTokenLaw, EstimatorsOfKlHaveTheExpectedValueAndGradientOverTheVocabulary) {
  const auto k3 = [](double d) { return std::exp(-d) - 1.0 + d; };
  const std::vector<Estimator> estimators = {
      {"k1", [](double d) { return d; }, [](double) { return 1.0; }},
      {"k2", [](double d) { return d * d / 2; }, [](double d) { return d; }},
      {"k3", k3, [](double d) { return 1.0 - std::exp(-d); }},
      {"k3+", k3, [](double d) { return d; }}};
  const Device device = Device::cpu();
  for (const auto& line : test::golden_lines("loss/kl_expectation.jsonl")) {
    SCOPED_TRACE(line.at("id").get<std::string>());
    Position position(device, line.at("logits").get<std::vector<float>>(),
                      line.at("reference_logits").get<std::vector<float>>());
    const auto vocab = static_cast<std::size_t>(position.vocab());
    int held = 0;
    for (const Estimator& estimator : estimators) {
      if (!line.at("expected").contains(estimator.name)) continue;
      const auto& expected = line.at("expected").at(estimator.name);
      double value = 0.0, largest = 0.0;
      std::vector<double> gradient(vocab, 0.0);
      for (std::int32_t token = 0; token < position.vocab(); ++token) {
        const double p = std::exp(position.logprob(token));
        const double d = position.logprob(token) - position.reference_logprob(token);
        const double weight = p * estimator.derivative(d);
        value += p * estimator.value(d);
        largest = std::max(largest, std::fabs(weight));
        const auto g = position.gradient(token, static_cast<float>(weight), 0, 0);
        for (std::size_t v = 0; v < vocab; ++v) gradient[v] += static_cast<double>(g[v]);
      }
      expect_near(value, expected.at("value"), estimator.name);
      for (std::size_t v = 0; v < vocab; ++v) {
        // Terms up to `largest` cancel to the expectation.
        EXPECT_NEAR(gradient[v], expected.at("dlogits").at(v).get<double>(),
                    float32_tolerance * (1.0 + largest))
            << estimator.name;
      }
      ++held;
    }
    EXPECT_GT(held, 0);
  }
}

}  // namespace
}  // namespace fst
