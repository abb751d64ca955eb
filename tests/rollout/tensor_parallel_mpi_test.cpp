#include <algorithm>

#include "fst/base/random.h"
#include "fst/comm/unit.h"
#include "fst/rollout/generator.h"

#include "model/sharded_fixture.h"
#include "mpi_main.h"
#include "support/arithmetic.h"

// A model shared by MPI ranks against the same model whole: 0 differing bits. With 3 ranks two of
// them share the model, and the third has it whole.
namespace fst {
namespace {

const Device cpu = Device::cpu();

/// The communicator of this rank's unit: the first 2^k ranks, or one rank alone.
class TensorParallelRanks : public ::testing::TestWithParam<DType> {
 protected:
  TensorParallelRanks() : comm_(make(test::world().all())), unit_(comm_) {}
  static Communicator make(const Communicator& all) {
    int degree = 1;
    while (2 * degree <= std::min(all.size(), 8)) degree *= 2;
    const bool shares = all.rank() < degree;
    return all.subset(shares ? 0 : all.rank(), all.rank(), "unit");
  }
  Communicator comm_;
  Unit unit_;
};

INSTANTIATE_TEST_SUITE_P(Arithmetic, TensorParallelRanks, ::testing::ValuesIn(test::arithmetics),
                         test::arithmetic_name);

TEST_P(TensorParallelRanks, GiveTheBitsOfTheWholeModelForwardAndBackward) {
  for (const Family family : {Family::qwen3, Family::qwen2}) {
    const Qwen3Config config = testing::shared_config(family, family == Family::qwen3);
    const Parameters whole = testing::random_parameters(config, cpu, 61, {GetParam()});
    const Parameters base = testing::random_parameters(config, cpu, 62, {GetParam()});
    const auto sequences = testing::random_sequences({60, 3, 181}, config.vocab_size - 3, 63);
    const auto expected = testing::outcome_of(whole, base, sequences, nullptr);
    const auto found = testing::outcome_of(whole, base, sequences, &unit_);
    EXPECT_EQ(testing::differing_scores(found, expected), 0);
    EXPECT_EQ(testing::differing_gradients(found, expected), 0);
    EXPECT_EQ(testing::identity_of(testing::shard_of_parameters(whole, shard_of(&unit_)), &unit_),
              testing::identity_of(whole));
  }
}

/// Completions of several prompts that share a beginning, with too few blocks for all at once.
std::vector<Completion> completions_of(const Parameters& whole, const TensorParallel* unit) {
  const Parameters mine = testing::shard_of_parameters(whole, shard_of(unit));
  Qwen3 model(whole.config(), cpu, {.max_positions = 96, .dtype = whole.dtype(), .unit = unit});
  model.set_weights(mine);
  GeneratorOptions options;
  options.kv_blocks = 17;
  options.stop_ids = {3, 17, 97};
  options.steps_ahead = unit == nullptr ? 0 : 1;
  std::vector<GenerateRequest> requests;
  for (std::uint64_t p = 0; p < 9; ++p) {
    GenerateRequest request;
    request.prompt = testing::random_tokens(23, whole.config().vocab_size, 64 + p / 3);
    request.prompt.resize(11 + 2 * p, 5);
    request.key = stream_key(7, Purpose::generate_draw, {p});
    request.max_new_tokens = static_cast<std::int32_t>(8 + 3 * p);
    request.law.temperature = 0.9f;
    request.law.top_k = p % 3 == 2 ? 20 : 0;
    request.law.vocab = 117;
    requests.push_back(request);
  }
  return Generator(model, options).generate(requests);
}

TEST_P(TensorParallelRanks, DrawTheTokensOfTheWholeModel) {
  const Parameters whole =
      testing::random_parameters(testing::shared_config(), cpu, 65, {GetParam()});
  const auto expected = completions_of(whole, nullptr);
  const auto found = completions_of(whole, &unit_);
  ASSERT_EQ(found.size(), expected.size());
  for (std::size_t i = 0; i < found.size(); ++i) {
    EXPECT_EQ(found[i].tokens, expected[i].tokens);
    EXPECT_EQ(testing::differing_bits(found[i].logprobs, expected[i].logprobs), 0);
  }
}

}  // namespace
}  // namespace fst
