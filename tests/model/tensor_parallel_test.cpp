#include <algorithm>
#include <vector>

#include <gtest/gtest.h>

#include "fst/base/error.h"

#include "model/sharded_fixture.h"
#include "support/arithmetic.h"
#include "support/thread_unit.h"

// A model shared by threads against the same model whole: 0 differing bits.
namespace fst {
namespace {

using testing::Outcome;
using testing::Runner;
using testing::Sequences;

const Device cpu = Device::cpu();

struct Case {
  const char* name;
  Qwen3Config config;
  std::vector<int> degrees;
};

void PrintTo(const Case& one, std::ostream* out) {
  *out << one.name;
}

class TensorParallelModel : public ::testing::TestWithParam<std::tuple<Case, DType>> {
 protected:
  static const Case& one() { return std::get<Case>(GetParam()); }
  static DType dtype() { return std::get<DType>(GetParam()); }
};

INSTANTIATE_TEST_SUITE_P(
    Cases, TensorParallelModel,
    ::testing::Combine(
        ::testing::Values(
            Case{"qwen3_tied", testing::shared_config(), {2, 4, 8}},
            Case{"qwen3_untied", testing::shared_config(Family::qwen3, false), {2, 8}},
            Case{"qwen2_tied", testing::shared_config(Family::qwen2, true), {4, 8}},
            Case{"llama_untied", testing::shared_config(Family::llama, false), {2, 8}},
            Case{"odd_sizes", testing::odd_shared_config(), {2, 4}}),
        ::testing::ValuesIn(test::arithmetics)),
    [](const auto& instance) {
      return std::string(std::get<Case>(instance.param).name) + "_" +
             name_of(std::get<DType>(instance.param));
    });

TEST_P(TensorParallelModel, GivesTheBitsOfTheWholeModelForwardAndBackward) {
  const Qwen3Config& config = one().config;
  const Parameters whole = testing::random_parameters(config, cpu, 41, {dtype()});
  const Parameters base = testing::random_parameters(config, cpu, 42, {dtype()});
  const Sequences sequences = testing::random_sequences({9, 1, 37}, config.vocab_size - 3, 43);
  const Outcome expected = testing::outcome_of(whole, base, sequences, nullptr);
  ASSERT_TRUE(std::any_of(expected.gradient.begin(), expected.gradient.end(),
                          [](float x) { return x != 0.0f; }));
  for (const int degree : one().degrees) {
    testing::run_ranks(degree, [&](const TensorParallel& unit) {
      const Outcome found = testing::outcome_of(whole, base, sequences, &unit);
      EXPECT_EQ(testing::differing_scores(found, expected), 0) << "degree " << degree;
      EXPECT_EQ(testing::differing_gradients(found, expected), 0) << "degree " << degree;
    });
  }
}

TEST_P(TensorParallelModel, PrefillsAndDecodesThroughItsPartOfTheCache) {
  const Qwen3Config& config = one().config;
  const Parameters whole = testing::random_parameters(config, cpu, 44, {dtype()});
  const auto tokens = testing::random_tokens(37, config.vocab_size, 45);
  Runner runner(whole, cpu, Use::inference, 2048, nullptr);
  const auto expected = testing::values_of(runner.forward({tokens}));
  testing::run_ranks(one().degrees.back(), [&](const TensorParallel& unit) {
    const Parameters mine = testing::shard_of_parameters(whole, shard_of(&unit));
    testing::Pieces pieces(mine, 37, &unit);
    std::vector<float> hidden;
    for (const std::int64_t end : {19, 20, 21, 36, 37}) {
      const auto begin = static_cast<std::int64_t>(hidden.size()) / config.hidden_size;
      const auto piece = pieces.feed(tokens, begin, end);
      hidden.insert(hidden.end(), piece.begin(), piece.end());
    }
    EXPECT_EQ(testing::differing_bits(hidden, expected), 0);
  });
}

TEST(TensorParallel, RefusesLogitsThatAreNotFiniteOnEveryRankAlike) {
  const Qwen3Config config = testing::shared_config();
  Parameters whole = testing::random_parameters(config, cpu, 46);
  whole.embedding().data<float>()[100 * config.hidden_size] = 1e38f;  // a row of one rank
  std::vector<float> hidden(static_cast<std::size_t>(config.hidden_size), 1e6f);
  const Tensor rows(cpu, DType::f32, hidden.data(), {1, config.hidden_size});
  testing::run_ranks(4, [&](const TensorParallel& unit) {
    const Parameters mine = testing::shard_of_parameters(whole, shard_of(&unit));
    Runner runner(mine, cpu, Use::inference, 16, &unit);
    const std::vector<std::int32_t> row = {0}, target = {1};
    try {
      runner.head.score(runner.model, rows, {row, target}, {});
      ADD_FAILURE() << "rank " << unit.rank() << " was content";
    } catch (const Error& error) {
      EXPECT_NE(std::string(error.what()).find("logits of entry 0"), std::string::npos);
    }
  });
}

TEST(TensorParallel, RefusesWeightsOfAnotherShard) {
  const Qwen3Config config = testing::shared_config();
  testing::run_ranks(2, [&](const TensorParallel& unit) {
    Qwen3 model(config, cpu, {.max_positions = 8, .unit = &unit});
    EXPECT_THROW(model.set_weights(Parameters(config, cpu)), Error);
    EXPECT_THROW(model.set_weights(Parameters(config, cpu, {1 - unit.rank(), 2})), Error);
    EXPECT_NO_THROW(model.set_weights(Parameters(config, cpu, {unit.rank(), 2})));
  });
  testing::run_ranks(4, [&](const TensorParallel& unit) {
    EXPECT_THROW(Qwen3(testing::tiny_config(), cpu, {.max_positions = 8, .unit = &unit}),
                 InputError);
  });
}

}  // namespace
}  // namespace fst
