#include "fst/model/token_head.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <limits>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "fst/base/error.h"

#include "model_fixture.h"
#include "support/arithmetic.h"
#include "support/reference_model.h"

namespace fst {
namespace {

using testing::ReferenceModel;
using testing::Runner;
using testing::Sequences;

const Device cpu = Device::cpu();

// float32 against double, nats; the golden data's tolerance for log-probabilities.
constexpr double tolerance = 1e-4;

class Head : public ::testing::Test {
 protected:
  explicit Head(DType dtype = DType::f32)
      : parameters_(testing::random_parameters(config_, cpu, 31, {dtype})),
        base_parameters_(testing::random_parameters(config_, cpu, 32, {dtype})),
        tokens_(testing::random_tokens(14, 90, 33)),
        runner_(parameters_, cpu, Use::training, 2048),
        base_(base_parameters_, cpu, Use::inference, 2048) {
    for (std::size_t t = 0; t + 1 < tokens_.size(); ++t) {
      rows_.push_back(static_cast<std::int32_t>(t));
      targets_.push_back(tokens_[t + 1]);
    }
    options_.law = {0.7f, 90};  // 11 rows beyond the law
    options_.entropy = true;
  }
  HeadReference reference() { return {&base_.model, base_.forward({tokens_})}; }

  Qwen3Config config_ = testing::tiny_config();
  Parameters parameters_, base_parameters_;
  std::vector<TokenId> tokens_;
  Runner runner_, base_;
  std::vector<std::int32_t> rows_;
  std::vector<TokenId> targets_;
  HeadOptions options_;
};

struct Expected {
  double logprob = 0.0, entropy = 0.0, kl = 0.0;
};
std::vector<Expected> expected_scores(const ReferenceModel& model, const ReferenceModel& base,
                                      const std::vector<TokenId>& tokens, double temperature,
                                      std::size_t vocab) {
  const auto logits = model.logits(tokens), other = base.logits(tokens);
  std::vector<Expected> all;
  for (std::size_t t = 0; t + 1 < tokens.size(); ++t) {
    const auto p = ReferenceModel::log_softmax(logits[t], temperature, vocab);
    const auto q = ReferenceModel::log_softmax(other[t], temperature, vocab);
    Expected one;
    one.logprob = p[static_cast<std::size_t>(tokens[t + 1])];
    for (std::size_t v = 0; v < vocab; ++v) {
      one.entropy -= std::exp(p[v]) * p[v];
      one.kl += std::exp(p[v]) * (p[v] - q[v]);
    }
    all.push_back(one);
  }
  return all;
}

TEST_F(Head, ScoresLogprobEntropyAndKlUnderTheLaw) {
  const auto expected =
      expected_scores(ReferenceModel(parameters_), ReferenceModel(base_parameters_), tokens_,
                      static_cast<double>(options_.law.temperature), 90);
  const HeadReference base = reference();
  const HeadScores& scores = runner_.head.score(runner_.model, runner_.forward({tokens_}),
                                                {rows_, targets_}, options_, base);
  ASSERT_EQ(scores.logprob.size(), expected.size());
  for (std::size_t t = 0; t < expected.size(); ++t) {
    EXPECT_NEAR(scores.logprob[t], expected[t].logprob, tolerance);
    EXPECT_NEAR(scores.entropy[t], expected[t].entropy, tolerance);
    EXPECT_NEAR(scores.kl[t], expected[t].kl, tolerance);
    EXPECT_GT(scores.kl[t], 0.01f);
  }
}

class HeadOfEitherDType : public Head, public ::testing::WithParamInterface<DType> {
 protected:
  HeadOfEitherDType() : Head(GetParam()) {}
};
INSTANTIATE_TEST_SUITE_P(Arithmetic, HeadOfEitherDType, ::testing::ValuesIn(test::arithmetics),
                         test::arithmetic_name);

/// Everything that a backward pass gives, and the chunks in which it went.
struct HeadResult {
  std::vector<float> scores, gradient, dhidden;
  std::vector<std::pair<std::int64_t, std::int64_t>> chunks;
};

// Sequences shorter and longer than a block of 32 rows, ends on and off its border.
TEST_P(HeadOfEitherDType, GivesTheSameBitsWithAnyChunk) {
  const Sequences sequences = testing::random_sequences({14, 77, 1, 33, 34, 65}, 90, 36);
  std::vector<std::int32_t> rows, first;
  std::vector<TokenId> targets;
  std::int32_t row = 0;
  for (const auto& tokens : sequences) {
    first.push_back(static_cast<std::int32_t>(rows.size()));
    for (std::size_t t = 0; t < tokens.size(); ++t, ++row) {
      if (t + 1 == tokens.size()) continue;
      rows.push_back(row);
      targets.push_back(tokens[t + 1]);
    }
  }
  first.push_back(static_cast<std::int32_t>(rows.size()));
  const auto with = [&](std::int64_t chunk_rows) {
    HeadResult result;
    options_.chunk_rows = chunk_rows;
    const HeadReference base{&base_.model, base_.forward(sequences)};
    Gradients gradients(config_, cpu);
    const Tensor& hidden = runner_.forward(sequences);
    Buffer upstream(cpu, GetParam(), {hidden.dim(0), hidden.dim(1)});
    const HeadLoss loss = [&](const HeadChunk& chunk) {
      result.chunks.emplace_back(chunk.begin, chunk.end);
      for (std::int64_t i = chunk.begin; i < chunk.end; ++i) {
        const auto k = static_cast<std::size_t>(i - chunk.begin);
        chunk.dlogprob[k] = 0.1f * static_cast<float>(i + 1);
        chunk.dentropy[k] = -0.3f;
        chunk.dkl[k] = chunk.kl[k];
      }
    };
    const HeadScores& now =
        runner_.head.backward(upstream.tensor(), gradients, runner_.model, hidden,
                              {rows, targets, first}, options_, base, loss);
    for (const auto* of : {&now.logprob, &now.entropy, &now.kl}) {
      result.scores.insert(result.scores.end(), of->begin(), of->end());
    }
    result.gradient = testing::values_of(gradients.head());
    result.dhidden = testing::values_of(upstream.tensor());
    return result;
  };
  const HeadResult expected = with(1000);
  EXPECT_EQ(expected.chunks.size(), 1u);
  const std::int64_t block = ops::rows_of_block(GetParam());
  for (const std::int64_t chunk_rows : {1, 7, 32, 50, 101}) {
    const HeadResult found = with(chunk_rows);
    EXPECT_EQ(testing::differing_bits(expected.scores, found.scores), 0) << chunk_rows;
    EXPECT_EQ(testing::differing_bits(expected.gradient, found.gradient), 0) << chunk_rows;
    EXPECT_EQ(testing::differing_bits(expected.dhidden, found.dhidden), 0) << chunk_rows;
    EXPECT_GT(found.chunks.size(), 1u);
    std::int64_t next = 0;
    for (const auto& [begin, end] : found.chunks) {
      EXPECT_EQ(begin, next);
      EXPECT_LE(end - begin, std::max(chunk_rows, block)) << begin;
      const auto after = std::upper_bound(first.begin(), first.end(), begin);
      EXPECT_EQ((begin - *std::prev(after)) % block, 0) << "a block is cut at " << begin;
      next = end;
    }
    EXPECT_EQ(next, first.back());
  }
}

TEST_P(HeadOfEitherDType, BackwardScoresTheBitsOfScore) {
  const HeadReference base = reference();
  const std::vector<float> scored =
      runner_.head.score(runner_.model, runner_.forward({tokens_}), {rows_, targets_}, options_)
          .logprob;
  Gradients gradients(config_, cpu);
  runner_.gradient({tokens_}, gradients, options_, base);
  EXPECT_EQ(testing::differing_bits(scored, runner_.head.scores().logprob), 0);
}

TEST_F(Head, HasTheGradientOfAllThreeTermsThroughTheWholeModel) {
  const HeadReference base = reference();
  const HeadLoss loss = [](const HeadChunk& chunk) {
    std::fill(chunk.dlogprob.begin(), chunk.dlogprob.end(), 0.5f);
    std::fill(chunk.dentropy.begin(), chunk.dentropy.end(), -0.8f);
    std::fill(chunk.dkl.begin(), chunk.dkl.end(), 0.3f);
  };
  Gradients gradients(config_, cpu);
  runner_.gradient({tokens_}, gradients, options_, base, loss);
  gradients.finish();
  ReferenceModel model(parameters_);
  const ReferenceModel other(base_parameters_);
  constexpr double step = 1e-5;
  constexpr double relative = 1e-3;  // float32 against double
  for (const char* name : {"model.embed_tokens.weight", "model.layers.0.self_attn.k_proj.weight",
                           "model.layers.1.mlp.down_proj.weight", "model.norm.weight"}) {
    Rng rng(34, Purpose::probe_draw, {hash_text(name)});
    const Tensor gradient = gradients.at(name);
    auto& values = model.at(name);
    const auto before = values;
    std::vector<double> direction(values.size());
    double analytic = 0.0, norm = 0.0;
    for (std::size_t i = 0; i < values.size(); ++i) {
      const double g = static_cast<double>(gradient.data<float>()[i]);
      direction[i] = rng.normal();
      analytic += direction[i] * g;
      norm += g * g;
    }
    const auto loss_at = [&](double distance) {
      for (std::size_t i = 0; i < values.size(); ++i) {
        values[i] = before[i] + distance * direction[i];
      }
      double sum = 0.0;
      for (const Expected& e : expected_scores(model, other, tokens_,
                                               static_cast<double>(options_.law.temperature), 90)) {
        sum += 0.5 * e.logprob - static_cast<double>(0.8f) * e.entropy +
               static_cast<double>(0.3f) * e.kl;
      }
      return sum;
    };
    const double numeric = (loss_at(step) - loss_at(-step)) / (2.0 * step);
    values = before;
    EXPECT_NEAR(analytic, numeric, relative * std::sqrt(norm)) << name;
  }
}

TEST_P(HeadOfEitherDType, LeavesRowsThatPredictNothingAtZero) {
  const Tensor& hidden = runner_.forward({tokens_});
  Buffer dhidden(cpu, GetParam(), {hidden.dim(0), hidden.dim(1)});
  ops::fill(dhidden.tensor(), 5.0f);
  Gradients gradients(config_, cpu);
  const std::vector<std::int32_t> rows = {9, 3};
  const std::vector<TokenId> targets = {1, 2};
  runner_.head.backward(dhidden.tensor(), gradients, runner_.model, hidden, {rows, targets}, {}, {},
                        [](const HeadChunk& chunk) { chunk.dlogprob[0] = 1.0f; });
  const std::vector<float> values = testing::values_of(dhidden.tensor());
  for (std::int64_t r = 0; r < hidden.dim(0); ++r) {
    double sum = 0.0;
    for (std::int64_t i = 0; i < hidden.dim(1); ++i) {
      sum += std::abs(static_cast<double>(values[static_cast<std::size_t>(r * hidden.dim(1) + i)]));
    }
    EXPECT_EQ(sum > 0.0, r == 9) << "row " << r;
  }
}

TEST_P(HeadOfEitherDType, AcceptsAnEmptyList) {
  const HeadScores& scores =
      runner_.head.score(runner_.model, runner_.forward({tokens_}), {}, options_);
  EXPECT_TRUE(scores.logprob.empty());
}

TEST_F(Head, RefusesTargetsAndLogitsThatHaveNoLaw) {
  const Tensor& hidden = runner_.forward({tokens_});
  const std::vector<std::int32_t> rows = {0, 1};
  const std::vector<TokenId> beyond = {3, 90}, one = {3}, good = {3, 4};
  TokenHead& head = runner_.head;
  EXPECT_THROW(head.score(runner_.model, hidden, {rows, beyond}, options_), Error);
  EXPECT_THROW(head.score(runner_.model, hidden, {rows, one}, options_), Error);
  Qwen3Config other_config = config_;
  other_config.vocab_size = 95;
  const Parameters other_parameters = testing::random_parameters(other_config, cpu, 35);
  Runner other(other_parameters, cpu, Use::inference);
  const HeadReference unlike{&other.model, hidden};
  EXPECT_THROW(head.score(runner_.model, hidden, {rows, good}, options_, unlike), Error);
  hidden.data<float>()[0] = std::numeric_limits<float>::infinity();
  EXPECT_THROW(head.score(runner_.model, hidden, {rows, good}, options_), Error);
}

}  // namespace
}  // namespace fst
