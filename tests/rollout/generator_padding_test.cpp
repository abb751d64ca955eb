#include "generator_fixture.h"

namespace fst {
namespace {

/// Steps of decoding padded by dummy rows, as on a GPU.
class GeneratorPadding : public GeneratorFixture {
 protected:
  /// Of several laws, truncated ones among them; some completions have one token.
  std::vector<GenerateRequest> of_several_laws() const {
    auto all = requests();
    for (std::size_t i = 0; i < all.size(); ++i) {
      if (i % 4 == 0) all[i].law.temperature = 0.0f;
      if (i % 4 == 1) all[i].law.top_k = 5;
      if (i % 5 == 2) all[i].law.top_p = 0.8f;
      if (i % 7 == 3) all[i].law.min_p = 0.05f;
      if (i % 7 == 2) all[i].max_new_tokens = 1;
    }
    return all;
  }
};

INSTANTIATE_TEST_SUITE_P(Arithmetic, GeneratorPadding, ::testing::ValuesIn(test::arithmetics),
                         test::arithmetic_name);

TEST(PaddedBatch, IsTheNextOfFewSizesAndAtMostSevenRowsLonger) {
  const std::vector<std::int64_t> expected{1, 2, 4, 4, 8, 8, 8, 8, 16, 16, 16};
  for (std::size_t n = 1; n <= expected.size(); ++n) {
    EXPECT_EQ(Generator::padded_batch(static_cast<std::int64_t>(n)), expected[n - 1]) << n;
  }
  for (std::int64_t n = 9; n <= 300; ++n) {
    const std::int64_t padded = Generator::padded_batch(n);
    EXPECT_EQ(padded % 8, 0) << n;
    EXPECT_GE(padded, n);
    EXPECT_LE(padded - n, Generator::most_dummies);
  }
}

TEST_P(GeneratorPadding, ChangesNoBitOfAnyBatch) {
  for (const auto& all : {requests(), of_several_laws()}) {
    const auto reference = generate(options(), all);
    for (std::int64_t batch = 1; batch <= 19; ++batch) {
      GeneratorOptions other = options();
      other.max_batch = batch;
      other.pad_batches = true;
      other.steps_ahead = static_cast<int>(batch % 2);
      other.prefill_chunk = batch % 3 == 0 ? 7 : 64;
      other.share_prefixes = batch % 5 != 0;
      expect_same(generate(other, all), reference, "batch " + std::to_string(batch));
    }
  }
}

TEST_P(GeneratorPadding, ChangesNoBitAndNoPlanWhereTheCacheIsTight) {
  const auto all = of_several_laws();
  const auto reference = generate(options(), all);
  std::int64_t preemptions = 0;
  for (const std::int64_t blocks : {4, 5, 9}) {  // the longest request needs four
    for (const int steps_ahead : {0, 1}) {
      GeneratorOptions other = options();
      other.max_batch = 11;
      other.kv_blocks = blocks;
      other.steps_ahead = steps_ahead;
      Generator plain(model_, other);
      other.pad_batches = true;
      Generator padded(model_, other);
      const std::string what = std::to_string(blocks) + " blocks";
      expect_same(plain.generate(all), reference, what);
      expect_same(padded.generate(all), reference, what + ", padded");
      EXPECT_EQ(padded.counts().rows, plain.counts().rows);
      EXPECT_EQ(padded.counts().steps, plain.counts().steps);
      EXPECT_EQ(padded.counts().preemptions, plain.counts().preemptions);
      EXPECT_EQ(padded.counts().dropped_draws, plain.counts().dropped_draws);
      preemptions += padded.counts().preemptions;
    }
  }
  EXPECT_GT(preemptions, 0);
}

TEST_P(GeneratorPadding, RefusesARequestBeyondTheCacheWithTheSameFigures) {
  const auto all = requests();
  GeneratorOptions small = options();
  small.kv_blocks = 1;
  const auto refusal = [&] {
    try {
      generate(small, all);
    } catch (const InputError& error) {
      return std::string(error.what());
    }
    return std::string("accepted");
  };
  const std::string plain = refusal();
  EXPECT_NE(plain.find("KV blocks; the cache may have 1"), std::string::npos) << plain;
  small.pad_batches = true;
  EXPECT_EQ(refusal(), plain);
}

// The embedding of the dummies' token is broken, so that they draw from what is not a number.
TEST_P(GeneratorPadding, DoesNotLookAtWhatDummiesDraw) {
  const Qwen3Config untied = testing::tiny_config(Family::qwen3, false);
  Parameters parameters = testing::random_parameters(untied, device_, 11, {GetParam()});
  parameters.put(0, std::vector<float>(static_cast<std::size_t>(untied.hidden_size),
                                       std::numeric_limits<float>::quiet_NaN()));
  Qwen3 model(untied, device_,
              {.use = Use::inference, .max_positions = positions, .dtype = GetParam()});
  model.set_weights(parameters);
  std::vector<GenerateRequest> all(5);
  for (std::size_t i = 0; i < all.size(); ++i) {
    all[i].prompt = testing::random_tokens(9, untied.vocab_size, i);
    for (TokenId& token : all[i].prompt) token = std::max(token, 1);
    all[i].max_new_tokens = static_cast<std::int32_t>(3 + i);
    all[i].law.temperature = 0.0f;  // the tokens that it draws here are not 0
  }
  GeneratorOptions padded = options();
  const auto reference = Generator(model, padded).generate(all);
  padded.pad_batches = true;
  expect_same(Generator(model, padded).generate(all), reference, "padded");
}

}  // namespace
}  // namespace fst
