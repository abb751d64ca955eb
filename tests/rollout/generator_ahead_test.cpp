#include <limits>

#include "generator_fixture.h"

namespace fst {
namespace {

/// Steps that are queued before the tokens of the one before are known.
class GeneratorAhead : public GeneratorFixture {
 protected:
  /// A call that fails halfway, then one that does not.
  void fail_and_go_on(int steps_ahead);
};

INSTANTIATE_TEST_SUITE_P(Arithmetic, GeneratorAhead, ::testing::ValuesIn(test::arithmetics),
                         test::arithmetic_name);

TEST_P(GeneratorAhead, AStepAheadChangesNoBit) {
  auto all = requests();
  for (std::size_t i = 0; i < all.size(); ++i) {  // several laws, and completions of one token
    if (i % 3 == 0) all[i].law.temperature = 0.0f;
    if (i % 4 == 1) all[i].law.top_k = 5;
    if (i % 7 == 2) all[i].max_new_tokens = 1;
  }
  const auto reference = generate(options(), all);
  Scheduler::Counts counts;
  for (const std::int64_t batch : {1, 3, 27}) {
    for (const std::int64_t blocks : {4, 5, 9, 400}) {  // the longest request needs four
      for (const std::int64_t chunk : {1, 7, 64}) {
        for (const bool share : {true, false}) {
          GeneratorOptions other = options();
          other.max_batch = batch;
          other.kv_blocks = blocks;
          other.prefill_chunk = chunk;
          other.share_prefixes = share;
          other.steps_ahead = 1;
          Generator generator(model_, other);
          expect_same(generator.generate(all), reference,
                      "batch " + std::to_string(batch) + " blocks " + std::to_string(blocks) +
                          " chunk " + std::to_string(chunk) + (share ? " shared" : ""));
          counts.preemptions += generator.counts().preemptions;
          counts.dropped_draws += generator.counts().dropped_draws;
        }
      }
    }
  }
  EXPECT_GT(counts.preemptions, 0);
  EXPECT_GT(counts.dropped_draws, 0);
}

TEST_P(GeneratorAhead, AStepAheadDropsARowOfAStoppedCompletionAndOfNoOther) {
  std::vector<GenerateRequest> all(5);
  for (std::size_t i = 0; i < all.size(); ++i) {
    all[i].prompt = testing::random_tokens(9, config_.vocab_size, i);
    all[i].max_new_tokens = static_cast<std::int32_t>(1 + i);
    all[i].law.temperature = 0.0f;
  }
  GeneratorOptions ahead;
  ahead.steps_ahead = 1;
  Generator to_their_length(model_, ahead), in_step(model_, {});
  const auto drawn = to_their_length.generate(all);
  expect_same(drawn, in_step.generate(all), "no stops");
  EXPECT_EQ(to_their_length.counts().dropped_draws, 0);
  EXPECT_EQ(to_their_length.counts().rows, in_step.counts().rows);
  EXPECT_EQ(to_their_length.counts().steps, in_step.counts().steps);
  ahead.stop_ids = {drawn[4].tokens[0]};  // the longest stops at its first token
  Generator stopped(model_, ahead);
  const auto shorter = stopped.generate(all);
  expect_same(shorter, generate({.stop_ids = ahead.stop_ids}, all), "a stop");
  EXPECT_EQ(shorter[4].tokens.size(), 1u);
  EXPECT_EQ(shorter[4].finish, Finish::stop);
  std::int64_t stops_before_the_end = 0;
  for (std::size_t i = 0; i < all.size(); ++i) {
    stops_before_the_end +=
        shorter[i].tokens.size() < static_cast<std::size_t>(all[i].max_new_tokens) ? 1 : 0;
  }
  EXPECT_GT(stops_before_the_end, 0);
  EXPECT_EQ(stopped.counts().dropped_draws, stops_before_the_end);
}

void GeneratorAhead::fail_and_go_on(int steps_ahead) {
  const auto all = requests();
  const auto reference = generate(options(), all);
  GeneratorOptions ahead = options();
  ahead.steps_ahead = steps_ahead;
  Generator generator(model_, ahead);
  Parameters broken = testing::random_parameters(config_, device_, 11, {GetParam()});
  const float nan = std::numeric_limits<float>::quiet_NaN();  // in the embedding of a token
  broken.put(all[4].prompt.back() * config_.hidden_size, {&nan, 1});
  model_.set_weights(broken);
  try {
    generator.generate(all);
    FAIL() << "drawn from NaN";
  } catch (const Error& error) {
    EXPECT_EQ(std::string(error.what()).rfind("generate: request ", 0), 0u) << error.what();
    EXPECT_NE(std::string(error.what()).find("not finite"), std::string::npos);
  }
  model_.set_weights(parameters_);
  generator.weights_changed();
  expect_same(generator.generate(all), reference, "after the failure");
}

TEST_P(GeneratorAhead, AFailedCallLeavesAUsableGenerator) {
  for (const int steps_ahead : {0, 1}) fail_and_go_on(steps_ahead);
}

}  // namespace
}  // namespace fst
