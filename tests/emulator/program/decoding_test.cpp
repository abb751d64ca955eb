#include <algorithm>
#include <bit>
#include <limits>
#include <memory>

#include <gtest/gtest.h>

#include "fst/rollout/generator.h"
#include "fst/tensor/host_view.h"

#include "emulator.h"
#include "tiny_model.h"

/// What a step of decoding asks of a GPU. Every call costs the host microseconds, a step of a model
/// of 0.6B parameters itself less than a thousand.
namespace fst {
namespace {

constexpr std::int64_t positions = 96;

std::span<const float> values_of(const Parameters& on_host) {
  return {on_host.flat().data<float>(), static_cast<std::size_t>(on_host.flat().size())};
}

struct Engine {
  Engine(const Device& where, const Parameters& on_host, GeneratorOptions options = {},
         DType dtype = DType::f32)
      : device(where),
        parameters(testing::held(on_host, {dtype}, device)),
        model(on_host.config(), device,
              {.use = Use::inference, .max_positions = positions, .dtype = dtype}) {
    model.set_weights(parameters);
    if (options.kv_blocks == 0) options.kv_blocks = 64;
    if (options.stop_ids.empty()) options.stop_ids = {97};
    generator = std::make_unique<Generator>(model, options);
  }
  Device device;
  Parameters parameters;
  Qwen3 model;
  std::unique_ptr<Generator> generator;
};

class DecodingTest : public ::testing::Test {
 protected:
  /// Different prompts of 17 tokens, so that no prompt is shared and the tables become wider.
  std::vector<GenerateRequest> requests(std::uint64_t count, std::int32_t new_tokens) const {
    std::vector<GenerateRequest> all(count);
    for (std::uint64_t i = 0; i < count; ++i) {
      all[i].prompt = testing::random_tokens(17, config_.vocab_size, i);
      all[i].key = 1000 + i;
      all[i].max_new_tokens = new_tokens;
      all[i].law.temperature = 0.8f;
    }
    return all;
  }

  static void expect_same(const std::vector<Completion>& a, const std::vector<Completion>& b) {
    ASSERT_EQ(a.size(), b.size());
    for (std::size_t i = 0; i < a.size(); ++i) {
      EXPECT_EQ(a[i].tokens, b[i].tokens) << i;
      EXPECT_EQ(a[i].finish, b[i].finish) << i;
      EXPECT_TRUE(std::ranges::equal(a[i].logprobs, b[i].logprobs, [](float x, float y) {
        return std::bit_cast<std::int32_t>(x) == std::bit_cast<std::int32_t>(y);
      })) << i;
    }
  }

  const Qwen3Config config_ = testing::tiny_config();
  const Device host_ = Device::cpu();
  const Parameters parameters_ = testing::random_parameters(config_, host_, 5);
  Engine cpu_{host_, parameters_}, gpu_{Device::cuda(0), parameters_};
};

TEST_F(DecodingTest, AStepIsOneUploadOneRecordAndOneDownloadAndWaitsForTheStepBeforeAlone) {
  const auto all = requests(3, 30);
  const auto expected = cpu_.generator->generate(all);
  expect_same(gpu_.generator->generate(all), expected);
  expect_same(gpu_.generator->generate(all), expected);
  const emulator::Calls before = emulator::calls();
  const Scheduler::Counts counts = gpu_.generator->counts();
  expect_same(gpu_.generator->generate(all), expected);
  const emulator::Calls& after = emulator::calls();
  const std::int64_t steps = gpu_.generator->counts().steps - counts.steps;
  EXPECT_EQ(gpu_.generator->counts().rows - counts.rows, 3 * steps);  // prompts are known
  EXPECT_EQ(after.graphs - before.graphs, steps);
  EXPECT_EQ(after.launches - before.launches, 0);
  EXPECT_EQ(after.copies - before.copies, 2 * steps);
  EXPECT_EQ(after.waits - before.waits, 0);
  EXPECT_EQ(after.event_waits - before.event_waits, steps);
  EXPECT_EQ(after.allocations - before.allocations, 0);
}

// Thirteen sequences whose last is alone in the end: a record for every bucket, not for every size.
TEST_F(DecodingTest, ABatchThatShrinksRecordsAStepForEachOfFewSizes) {
  auto all = requests(13, 0);
  for (std::size_t i = 0; i < all.size(); ++i) {
    all[i].max_new_tokens = static_cast<std::int32_t>(1 + i);  // all in two blocks
    all[i].law.vocab = 90;                                     // the stop token is not among them
  }
  const auto expected = cpu_.generator->generate(all);
  const auto records_and_graphs = [&] {
    const emulator::Calls before = emulator::calls();
    const Scheduler::Counts counts = gpu_.generator->counts();
    expect_same(gpu_.generator->generate(all), expected);
    EXPECT_EQ(gpu_.generator->counts().dropped_draws, 0);
    EXPECT_EQ(gpu_.generator->counts().steps - counts.steps, 13);
    return std::pair(emulator::calls().records - before.records,
                     emulator::calls().graphs - before.graphs);
  };
  // The prompts, then 12 to 9 as 16, 8 to 5 as 8, 4 and 3 as 4, 2, 1: each size is first done.
  EXPECT_EQ(records_and_graphs(), std::pair(std::int64_t{3}, std::int64_t{3 + 3 + 1}));
  // The first step computes a prompt again whose block another has taken.
  EXPECT_EQ(records_and_graphs(), std::pair(std::int64_t{2}, std::int64_t{12}));
  EXPECT_EQ(records_and_graphs(), std::pair(std::int64_t{0}, std::int64_t{12}));
}

TEST_F(DecodingTest, StepsThatAreNotToBeRecordedAreQueuedUnpaddedWithTheSameBits) {
  auto all = requests(3, 9);
  const auto expected = cpu_.generator->generate(all);
  GeneratorOptions options;
  options.record_steps = false;
  const Engine plain(Device::cuda(0), parameters_, options);
  EXPECT_EQ(Generator::most_decoded(options, false), options.max_batch);
  for (int i = 0; i < 3; ++i) {
    const emulator::Calls before = emulator::calls();
    expect_same(plain.generator->generate(all), expected);
    EXPECT_EQ(emulator::calls().records - before.records, 0);
    EXPECT_EQ(emulator::calls().graphs - before.graphs, 0);
  }
}

/// Prompts with common beginnings, more than fit at a time, laws of several kinds, completions of
/// one token and of some more, stops among them.
std::vector<GenerateRequest> mixed_requests(std::int64_t vocab) {
  const auto beginning = testing::random_tokens(21, vocab, 3);
  std::vector<GenerateRequest> all(13);
  for (std::uint64_t i = 0; i < all.size(); ++i) {
    all[i].prompt = beginning;
    all[i].prompt.resize(5 + 8 * (i % 3), 7);  // 5, 13, 21: groups of equal prompts
    if (i % 4 == 3) all[i].prompt.push_back(static_cast<TokenId>(40 + i));
    all[i].key = 100 + i;
    all[i].max_new_tokens = static_cast<std::int32_t>(i % 5 == 4 ? 1 : 6 + i);
    all[i].law.temperature = i % 2 == 0 ? 0.9f : 1.0f;
    all[i].law.top_k = i % 6 == 1 ? 9 : 0;
    all[i].law.vocab = 100;
  }
  return all;
}

TEST_F(DecodingTest, AStepAheadOrNoneHasTheBitsOfTheCpuHoweverTheCacheAndTheBatchAreCut) {
  const auto all = mixed_requests(config_.vocab_size);
  Scheduler::Counts counts;
  for (const int steps_ahead : {0, 1}) {
    for (const std::int64_t blocks : {3, 4, 7}) {  // the longest request needs three
      GeneratorOptions options;
      options.kv_blocks = blocks;
      options.max_batch = blocks == 7 ? 9 : 4;
      options.prefill_chunk = 11;
      options.stop_ids = {3, 17, 40, 41, 77, 97, 99};
      Engine cpu(host_, parameters_, options);  // in step
      options.steps_ahead = steps_ahead;
      Engine gpu(Device::cuda(0), parameters_, options);
      const auto expected = cpu.generator->generate(all);
      SCOPED_TRACE(std::to_string(blocks) + " blocks, ahead " + std::to_string(steps_ahead));
      expect_same(gpu.generator->generate(all), expected);
      expect_same(gpu.generator->generate(all), expected);
      counts.preemptions += gpu.generator->counts().preemptions;
      counts.copied_blocks += gpu.generator->counts().copied_blocks;
      counts.dropped_draws += gpu.generator->counts().dropped_draws;
    }
  }
  EXPECT_GT(counts.preemptions, 0);
  EXPECT_GT(counts.copied_blocks, 0);
  EXPECT_GT(counts.dropped_draws, 0);
}

/// A GPU's bits in bf16 are its own.
TEST_F(DecodingTest, AStepAheadAndDummyRowsChangeNoBitInBf16) {
  const auto all = mixed_requests(config_.vocab_size);
  GeneratorOptions options;
  options.stop_ids = {3, 17, 40, 41, 77, 97, 99};
  options.steps_ahead = 0;
  options.pad_batches = false;
  Engine in_step(Device::cuda(0), parameters_, options, DType::bf16);
  const auto expected = in_step.generator->generate(all);
  options.steps_ahead = 1;
  options.pad_batches = true;
  options.kv_blocks = 4;
  options.max_batch = 3;
  Engine ahead(Device::cuda(0), parameters_, options, DType::bf16);
  expect_same(ahead.generator->generate(all), expected);
  EXPECT_GT(ahead.generator->counts().dropped_draws, 0);
}

TEST_F(DecodingTest, RecordsSeeNewWeightsOtherLawsAndMovedMemory) {
  auto all = requests(3, 20);
  const auto expect_cpus = [&](const char* when) {
    SCOPED_TRACE(when);
    for (int i = 0; i < 3; ++i) {  // done, recorded, replayed
      expect_same(gpu_.generator->generate(all), cpu_.generator->generate(all));
    }
  };
  expect_cpus("first");
  const Parameters others = testing::random_parameters(config_, host_, 6);
  for (Engine* engine : {&cpu_, &gpu_}) {
    engine->parameters.put(0, values_of(others));
    engine->model.set_weights(engine->parameters);
    engine->generator->weights_changed();
  }
  expect_cpus("other weights");
  all[1].law.top_k = 7;  // two laws in a step
  expect_cpus("two laws");
  for (auto& request : all) request.law = {.temperature = 0.0f, .vocab = 90};
  expect_cpus("another law");
  all = requests(9, 30);  // the cache grows: all addresses change
  expect_cpus("a larger cache");
  all.resize(3);
  expect_cpus("the old shapes in the new memory");
}

TEST_F(DecodingTest, NamesTheRequestWhoseLogitsAreNotFinite) {
  const auto all = requests(2, 5);
  const auto expected = cpu_.generator->generate(all);
  for (int i = 0; i < 3; ++i) expect_same(gpu_.generator->generate(all), expected);
  std::vector<float> weights(static_cast<std::size_t>(parameters_.flat().size()),
                             std::numeric_limits<float>::quiet_NaN());
  gpu_.parameters.put(0, weights);
  gpu_.model.set_weights(gpu_.parameters);
  try {  // with a step behind it under way
    gpu_.generator->generate(all);
    FAIL() << "drawn from NaN";
  } catch (const Error& error) {
    EXPECT_EQ(std::string(error.what()).rfind("generate: request 0: a logit is not finite", 0), 0u)
        << error.what();
  }
  gpu_.parameters.put(0, values_of(parameters_));
  gpu_.model.set_weights(gpu_.parameters);
  gpu_.generator->weights_changed();
  expect_same(gpu_.generator->generate(all), expected);
}

}  // namespace
}  // namespace fst
