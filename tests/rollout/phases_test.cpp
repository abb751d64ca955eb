#include <cstring>
#include <vector>

#include <gtest/gtest.h>

#include "fst/rollout/generator.h"

#include "tiny_model.h"

namespace fst {
namespace {

constexpr std::int64_t positions = 64;

class PhasesTest : public ::testing::Test {
 protected:
  PhasesTest() {
    options_.kv_blocks = 40;
    options_.max_batch = 6;
    options_.prefill_chunk = 32;
    for (std::uint64_t i = 0; i < 5; ++i) {
      GenerateRequest request;
      request.prompt = testing::random_tokens(21, config_.vocab_size, i);
      request.key = i;
      request.max_new_tokens = 7;
      requests_.push_back(request);
    }
  }
  PhaseBytes plan() const {
    PhaseBytes plan;
    plan[MemoryPhase::always] = 4 << 20;
    plan[MemoryPhase::rollout] =
        Generator::bytes_of({config_, DType::f32, config_.vocab_size, 1, positions}, options_);
    return plan;
  }
  void expect_as_planned() const;
  static std::vector<std::vector<float>> logprobs(const std::vector<Completion>& completions) {
    std::vector<std::vector<float>> all;
    for (const Completion& c : completions) all.push_back(c.logprobs);
    return all;
  }

  const Qwen3Config config_ = testing::tiny_config();
  const Device plain_ = Device::cpu();
  const Parameters parameters_ = testing::random_parameters(config_, plain_, 3);
  GeneratorOptions options_;
  std::vector<GenerateRequest> requests_;
};

TEST_F(PhasesTest, AGeneratorTakesWhatWasPlannedAndNoMore) {
  for (const bool pads : {false, true}) {  // the five of a step to eight, beyond max_batch
    options_.pad_batches = pads;
    expect_as_planned();
  }
}

void PhasesTest::expect_as_planned() const {
  const Device device = plain_.planned(plan());
  Qwen3 model(config_, device, {.max_positions = positions});
  model.set_weights(parameters_);
  Generator generator(model, options_);
  generator.reserve();
  EXPECT_EQ(device.arena()->taken(MemoryPhase::rollout), plan()[MemoryPhase::rollout]);
  generator.generate(requests_);
  EXPECT_EQ(device.arena()->most_taken()[MemoryPhase::rollout], plan()[MemoryPhase::rollout]);
  EXPECT_EQ(device.arena()->releases(MemoryPhase::rollout), 0U) << "nothing had to grow";
}

TEST_F(PhasesTest, WhatTheCacheKnewIsForgottenWithAnothersTurnAndOnlyThen) {
  Qwen3 reference(config_, plain_, {.max_positions = positions});
  reference.set_weights(parameters_);
  const auto expected = logprobs(Generator(reference, options_).generate(requests_));
  const Device device = plain_.planned(plan());
  Qwen3 model(config_, device, {.max_positions = positions});
  model.set_weights(parameters_);
  Generator generator(model, options_);
  generator.reserve();
  const auto rows_of_a_call = [&] {
    const std::int64_t before = generator.counts().rows;
    EXPECT_EQ(logprobs(generator.generate(requests_)), expected);
    return generator.counts().rows - before;
  };
  const std::int64_t all = rows_of_a_call();
  const std::int64_t known = rows_of_a_call();
  EXPECT_LT(known, all) << "prompts are known";
  const Device learning = device.during(MemoryPhase::learning);
  const Buffer others(learning, DType::u8, {device.arena()->plan().turns()});
  std::memset(others.data<std::uint8_t>(), 0xFF, static_cast<std::size_t>(others.tensor().size()));
  EXPECT_EQ(rows_of_a_call(), all) << "overwritten";
  EXPECT_EQ(rows_of_a_call(), known);
  learning.enter();
  EXPECT_EQ(rows_of_a_call(), all) << "nobody knows what the other did";
}

}  // namespace
}  // namespace fst
