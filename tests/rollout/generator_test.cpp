#include <limits>

#include "generator_fixture.h"

namespace fst {
namespace {

class GeneratorTest : public GeneratorFixture {};

INSTANTIATE_TEST_SUITE_P(Arithmetic, GeneratorTest, ::testing::ValuesIn(test::arithmetics),
                         test::arithmetic_name);

TEST_P(GeneratorTest, DrawsWhatTheWholeTextComputedAnewDraws) {
  const auto all = requests();
  const auto drawn = generate(options(), all);
  expect_same(drawn, expected(all), "plain");
  std::int64_t stopped = 0;
  for (const Completion& completion : drawn) stopped += completion.finish == Finish::stop ? 1 : 0;
  EXPECT_GT(stopped, 0);
  EXPECT_LT(stopped, static_cast<std::int64_t>(drawn.size()));
}

TEST_P(GeneratorTest, NoOptionChangesABit) {
  const auto all = requests();
  const auto reference = generate(options(), all);
  for (const std::int64_t batch : {1, 2, 5, 27}) {
    for (const std::int64_t chunk : {1, 7, 64}) {
      for (const bool share : {true, false}) {
        GeneratorOptions other = options();
        other.max_batch = batch;
        other.prefill_chunk = chunk;
        other.share_prefixes = share;
        expect_same(generate(other, all), reference,
                    "batch " + std::to_string(batch) + " chunk " + std::to_string(chunk) +
                        (share ? " shared" : ""));
      }
    }
  }
}

TEST_P(GeneratorTest, PreemptionChangesNoBit) {
  const auto all = requests();
  const auto reference = generate(options(), all);
  std::int64_t preemptions = 0;
  for (const std::int64_t blocks : {5, 6, 9, 14}) {  // the longest request needs four
    for (const bool share : {true, false}) {
      GeneratorOptions other = options();
      other.kv_blocks = blocks;
      other.share_prefixes = share;
      Generator generator(model_, other);
      expect_same(generator.generate(all), reference, std::to_string(blocks) + " blocks");
      expect_same(generator.generate(all), reference, "again");
      preemptions += generator.counts().preemptions;
    }
  }
  EXPECT_GT(preemptions, 0);
}

TEST_P(GeneratorTest, ACompletionDoesNotDependOnTheOtherRequests) {
  const auto all = requests();
  const auto reference = generate(options(), all);
  auto reversed = all;
  std::reverse(reversed.begin(), reversed.end());
  auto backwards = generate(options(), reversed);
  std::reverse(backwards.begin(), backwards.end());
  expect_same(backwards, reference, "reversed");
  Generator one_by_one(model_, options());
  std::vector<Completion> single;
  for (const auto& request : all) single.push_back(one_by_one.generate({&request, 1}).front());
  expect_same(single, reference, "one by one, with what the cache knew");
}

TEST_P(GeneratorTest, ThreadsChangeNoBit) {
  const auto all = requests();
  const auto reference = generate(options(), all);
  const Device two = Device::cpu(2);
  const Parameters parameters = testing::random_parameters(config_, two, 11, {GetParam()});
  Qwen3 model(config_, two,
              {.use = Use::inference, .max_positions = positions, .dtype = GetParam()});
  model.set_weights(parameters);
  expect_same(Generator(model, options()).generate(all), reference, "two threads");
}

TEST_P(GeneratorTest, LogProbabilitiesAreThoseOfTheLearner) {
  const auto all = requests();
  const auto drawn = generate(options(), all);
  std::vector<std::vector<TokenId>> texts;
  std::vector<std::int32_t> rows;
  std::vector<TokenId> targets;
  std::vector<float> recorded;
  std::int32_t row = 0;
  for (std::size_t i = 0; i < all.size(); ++i) {
    texts.push_back(all[i].prompt);
    texts.back().insert(texts.back().end(), drawn[i].tokens.begin(), drawn[i].tokens.end());
    const auto prompt = static_cast<std::int32_t>(all[i].prompt.size());
    for (std::size_t t = 0; t < drawn[i].tokens.size(); ++t) {
      rows.push_back(row + prompt - 1 + static_cast<std::int32_t>(t));
      targets.push_back(drawn[i].tokens[t]);
      recorded.push_back(drawn[i].logprobs[t]);
    }
    row += static_cast<std::int32_t>(texts.back().size());
  }
  PackedSequences packed(device_);
  const TokenBatch& batch = packed.pack(texts);
  KvCache cache(config_, device_, packed.blocks(), GetParam());
  TokenHead head(device_);
  HeadOptions options;
  options.law = {all.front().law.temperature, all.front().law.vocab};
  const Tensor& hidden = model_.forward(batch, cache);
  EXPECT_TRUE(same_bits(head.score(model_, hidden, {rows, targets}, options).logprob, recorded));
}

TEST_P(GeneratorTest, RequestsOfSeveralLawsMayBeMixed) {
  auto all = requests();
  for (std::size_t i = 0; i < all.size(); ++i) {
    if (i % 3 == 0) all[i].law.temperature = 0.0f;
    if (i % 3 == 1) all[i].law.top_k = 5;
    if (i % 4 == 1) all[i].law.top_p = 0.7f;
  }
  expect_same(generate(options(), all), expected(all), "mixed laws");
}

TEST_P(GeneratorTest, SamplesOfAPromptComputeItOnce) {
  GenerateRequest request;
  request.prompt = testing::random_tokens(21, config_.vocab_size, 4);
  request.max_new_tokens = 2;
  request.law.vocab = 2;  // no stop token among these
  std::vector<GenerateRequest> all(8, request);
  for (std::size_t i = 0; i < all.size(); ++i) all[i].key = i;
  Generator generator(model_, options());
  generator.generate(all);
  EXPECT_EQ(generator.counts().rows, 21 + 8);
  EXPECT_EQ(generator.counts().steps, 2);
  EXPECT_EQ(generator.counts().shared_tokens, 7 * 21);
  generator.generate(all);
  EXPECT_EQ(generator.counts().rows, 21 + 8 + 1 + 8) << "then only the prompt's last row is new";
}

TEST_P(GeneratorTest, PromptsShareTheirBeginningToTheToken) {
  const auto beginning = testing::random_tokens(21, config_.vocab_size, 4);
  std::vector<GenerateRequest> all(5);
  for (std::size_t i = 0; i < all.size(); ++i) {
    all[i].prompt = beginning;
    all[i].prompt.push_back(static_cast<TokenId>(50 + i));
    all[i].prompt.push_back(60);
    all[i].max_new_tokens = 1;
  }
  Generator generator(model_, options());
  generator.generate(all);
  EXPECT_EQ(generator.counts().rows, 23 + 4 * 2);
  EXPECT_EQ(generator.counts().steps, 2);
}

TEST_P(GeneratorTest, RequestsThatFitTheBatchRunTogether) {
  std::vector<GenerateRequest> all(13);
  for (std::size_t i = 0; i < all.size(); ++i) {  // a block each, full at the end
    all[i].prompt = testing::random_tokens(11, config_.vocab_size, i);
    all[i].max_new_tokens = 6;
  }
  Generator generator(model_, {});
  generator.generate(all);
  EXPECT_EQ(generator.counts().steps, 6);
}

TEST_P(GeneratorTest, NewWeightsMakeTheCacheForget) {
  const auto all = requests();
  Generator generator(model_, options());
  generator.generate(all);
  const Parameters others = testing::random_parameters(config_, device_, 12, {GetParam()});
  model_.set_weights(others);
  generator.weights_changed();
  expect_same(generator.generate(all), expected(all), "other weights");
}

TEST_P(GeneratorTest, NamesTheTokenWhoseLogitsAreNotFinite) {
  Qwen3Config config = config_;
  config.tie_word_embeddings = false;  // so that what is broken is no logit by itself
  Qwen3 model(config, device_,
              {.use = Use::inference, .max_positions = positions, .dtype = GetParam()});
  Parameters parameters = testing::random_parameters(config, device_, 11, {GetParam()});
  model.set_weights(parameters);
  std::vector<GenerateRequest> all(2);
  for (std::size_t i = 0; i < all.size(); ++i) {
    all[i].prompt = testing::random_tokens(9, config_.vocab_size, 5 + i);
    all[i].key = i;
    all[i].max_new_tokens = 9;
  }
  const auto drawn = Generator(model, {}).generate(all);
  // A token that only the second completion has, behind which all is broken.
  const auto is_anywhere_else = [&](TokenId token) {
    return std::ranges::count(all[0].prompt, token) + std::ranges::count(all[1].prompt, token) +
               std::ranges::count(drawn[0].tokens, token) !=
           0;
  };
  std::size_t place = 2;
  while (place < 8 && is_anywhere_else(drawn[1].tokens[place])) ++place;
  ASSERT_LT(place, 8u);
  const TokenId last = drawn[1].tokens[place];
  ASSERT_EQ(std::ranges::find(drawn[1].tokens, last) - drawn[1].tokens.begin(),
            static_cast<std::ptrdiff_t>(place));
  const float nan = std::numeric_limits<float>::quiet_NaN();
  parameters.put(last * config.hidden_size, {&nan, 1});  // its embedding
  model.set_weights(parameters);
  for (const int steps_ahead : {0, 1}) {
    GeneratorOptions ahead;
    ahead.steps_ahead = steps_ahead;
    try {
      Generator(model, ahead).generate(all);
      FAIL() << "drawn from NaN";
    } catch (const Error& error) {
      EXPECT_EQ(error.what(), "generate: request 1: a logit is not finite at new token " +
                                  std::to_string(place + 1) +
                                  "; the weights or the keys and values are broken");
    }
  }
}

TEST_P(GeneratorTest, RefusesRequestsThatCannotRunNamingThem) {
  auto all = requests();
  const auto refusal = [&](auto&& spoil) {
    auto changed = all;
    spoil(changed[2]);
    try {
      generate(options(), changed);
    } catch (const InputError& error) {
      return std::string(error.what());
    }
    return std::string("accepted");
  };
  const std::string name = "generate: request 2: ";
  EXPECT_EQ(refusal([](auto& r) { r.prompt.clear(); }), name + "the prompt is empty");
  EXPECT_EQ(refusal([](auto& r) { r.max_new_tokens = 0; }),
            name + "max_new_tokens is 0, at least 1 is needed");
  EXPECT_NE(refusal([](auto& r) { r.max_new_tokens = 90; }).find("96 positions"),
            std::string::npos);
  EXPECT_NE(refusal([](auto& r) { r.law.vocab = 102; }).find("102 tokens"), std::string::npos);
  EXPECT_NE(refusal([](auto& r) { r.prompt[0] = 101; }).find("token 101"), std::string::npos);
  GeneratorOptions small = options();
  small.kv_blocks = 1;
  EXPECT_THROW(generate(small, all), InputError);
  small = options();
  small.kv_blocks = 0;
  small.kv_bytes = 100;
  EXPECT_THROW(Generator(model_, small), InputError);
  small = options();
  small.steps_ahead = 2;
  EXPECT_THROW(Generator(model_, small), InputError);
  small = options();
  small.stop_ids = {101};
  EXPECT_THROW(Generator(model_, small), InputError);
  EXPECT_TRUE(generate(options(), {}).empty());
}

TEST_P(GeneratorTest, FillsTheLastPositionAndTheLastBlock) {
  GenerateRequest request;
  request.prompt = testing::random_tokens(31, config_.vocab_size, 4);
  request.max_new_tokens = positions - 31 + 1;  // the last token needs no position
  request.law.vocab = 2;                        // no stop token among these
  GeneratorOptions exact = options();
  exact.kv_blocks = positions / ops::kv_block_tokens;
  std::vector<GenerateRequest> two(2, request);
  two[1].key = 1;
  const auto drawn = generate(exact, two);
  expect_same(drawn, expected(two), "to the end");
  EXPECT_EQ(drawn[1].tokens.size(), static_cast<std::size_t>(request.max_new_tokens));
}

}  // namespace
}  // namespace fst
