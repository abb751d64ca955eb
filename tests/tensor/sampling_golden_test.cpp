// Kept sets and probabilities of Hugging Face transformers: golden/sampling (its README is the
// specification of the fields).
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "fst/tensor/ops.h"

#include "support/golden_json.h"

namespace fst {
namespace {

constexpr double tolerance = 2e-6;  // float32 logits over temperature, exp, one division by the sum

struct Case {
  std::vector<float> logits;
  ops::SamplingLaw law;
  std::vector<std::int32_t> kept;
  std::vector<double> probability;
};

Case case_of(const nlohmann::json& line) {
  Case c;
  c.logits = line.at("logits").get<std::vector<float>>();
  c.law = {line.at("temperature"), line.at("top_k"), line.at("top_p"), line.at("min_p"),
           static_cast<std::int64_t>(c.logits.size())};
  c.kept = line.at("kept_low_id").get<std::vector<std::int32_t>>();
  c.probability = line.at("probs_low_id").get<std::vector<double>>();
  return c;
}

TEST(GoldenSampling, KeepsTheSameTokensWithTheSameProbabilities) {
  const Device device = Device::cpu();
  int held = 0;
  for (const auto& line : test::golden_lines("sampling/sampling.jsonl")) {
    if (!line.at("sharp")) continue;  // as the README says: the set hangs on the last bits
    SCOPED_TRACE(line.at("id").get<std::string>());
    Case c = case_of(line);
    const std::int64_t vocab = c.law.vocab;
    const Tensor logits(device, DType::f32, c.logits.data(), {vocab});
    Buffer ids(device, DType::i32, {vocab}), probability(device, DType::f32, {vocab});
    const std::int64_t kept = ops::kept_tokens(ids.tensor(), probability.tensor(), logits, c.law);
    const auto found = ids.span<std::int32_t>().first(static_cast<std::size_t>(kept));
    ASSERT_EQ(std::vector<std::int32_t>(found.begin(), found.end()), c.kept);
    for (std::size_t i = 0; i < c.kept.size(); ++i) {
      EXPECT_NEAR(probability.span<float>()[i], c.probability[i], tolerance);
    }
    ++held;
  }
  EXPECT_GT(held, 0);
}

TEST(GoldenSampling, DrawsOnlyWhatIsKeptAndReportsItsLogProbability) {
  const Device device = Device::cpu();
  const std::int64_t rows = 16;
  for (const auto& line : test::golden_lines("sampling/sampling.jsonl")) {
    if (!line.at("sharp")) continue;
    SCOPED_TRACE(line.at("id").get<std::string>());
    const Case c = case_of(line);
    std::vector<float> repeated;
    std::vector<std::int64_t> keys;
    std::vector<std::int32_t> positions;
    for (std::int64_t t = 0; t < rows; ++t) {
      repeated.insert(repeated.end(), c.logits.begin(), c.logits.end());
      keys.push_back(1000 + t);
      positions.push_back(static_cast<std::int32_t>(3 * t));
    }
    const Tensor logits(device, DType::f32, repeated.data(), {rows, c.law.vocab});
    Buffer tokens(device, DType::i32, {rows}), logprob(device, DType::f32, {rows});
    ops::sample_tokens(tokens.tensor(), logprob.tensor(), logits,
                       Tensor(device, DType::i64, keys.data(), {rows}),
                       Tensor(device, DType::i32, positions.data(), {rows}), c.law);
    for (std::size_t t = 0; t < static_cast<std::size_t>(rows); ++t) {
      const std::int32_t token = tokens.span<std::int32_t>()[t];
      const auto place = std::find(c.kept.begin(), c.kept.end(), token);
      ASSERT_NE(place, c.kept.end()) << "drew " << token;
      const double p = c.probability[static_cast<std::size_t>(place - c.kept.begin())];
      EXPECT_NEAR(std::exp(static_cast<double>(logprob.span<float>()[t])), p, tolerance);
    }
  }
}

}  // namespace
}  // namespace fst
