#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "fst/rollout/generator.h"
#include "fst/tensor/host_view.h"

#include "emulator.h"
#include "tiny_model.h"

namespace fst {
namespace {

constexpr std::int64_t positions = 96, others_bytes = 300'000;

/// Weights that stay, the memory of a generator, and as much for another phase.
PhaseBytes plan_of(const GeneratorModel& model, const GeneratorOptions& options) {
  PhaseBytes plan;
  plan[MemoryPhase::always] = 4 << 20;
  plan[MemoryPhase::rollout] = Generator::bytes_of(model, options);
  plan[MemoryPhase::learning] = Suballocator::aligned(others_bytes) + 1024;
  return plan;
}

TEST(ArenaOfAGpu, KeepsRecordsAndAllocatesNothingWhenPhasesAlternate) {
  const Qwen3Config config = testing::tiny_config();
  GeneratorOptions options;
  options.kv_blocks = 64;
  options.max_batch = 5;
  options.prefill_chunk = 32;
  const PhaseBytes plan =
      plan_of({config, DType::f32, config.vocab_size, 1, positions, false}, options);
  const Device device = Device::cuda(0).planned(plan, 2 << 20);
  const std::int64_t taken = emulator::calls().allocations;

  const Parameters host = testing::random_parameters(config, Device::cpu(), 5);
  Parameters parameters(config, device);
  copy_in(parameters.flat(),
          std::span<const float>(host.flat().data<float>(), static_cast<std::size_t>(host.size())));
  Qwen3 model(config, device, {.use = Use::inference, .max_positions = positions});
  model.set_weights(parameters);
  Generator generator(model, options);
  generator.reserve();
  EXPECT_EQ(device.arena()->most_taken()[MemoryPhase::rollout], plan[MemoryPhase::rollout]);
  const Device learning = device.during(MemoryPhase::learning);
  Buffer others(learning, DType::u8, {others_bytes});

  std::vector<GenerateRequest> all(3);
  for (std::size_t i = 0; i < all.size(); ++i) {
    all[i].prompt = testing::random_tokens(17, config.vocab_size, i);
    all[i].key = i;
    all[i].max_new_tokens = 20;
  }
  const auto logprobs = [&] {
    std::vector<float> values;
    for (const Completion& c : generator.generate(all)) {
      values.insert(values.end(), c.logprobs.begin(), c.logprobs.end());
    }
    return values;
  };
  const std::vector<float> expected = logprobs();
  for (int i = 0; i < 3; ++i) {  // done, recorded, replayed
    learning.enter();
    const std::vector<std::uint8_t> noise(static_cast<std::size_t>(others_bytes), 0xFF);
    copy_in(others.tensor(), std::span<const std::uint8_t>(noise));
    const Buffer passing(learning, DType::f32, {77});  // given back again
    const emulator::Calls before = emulator::calls();
    const std::int64_t steps = generator.counts().steps, rows = generator.counts().rows;
    EXPECT_EQ(logprobs(), expected) << i;
    EXPECT_EQ(generator.counts().rows - rows, 3 * (17 + 19)) << "prompts are computed anew";
    if (i == 2) {
      EXPECT_GE(emulator::calls().graphs - before.graphs, generator.counts().steps - steps - 2)
          << "but for the prompts all steps are records";
    }
  }
  EXPECT_EQ(emulator::calls().allocations, taken);
}

TEST(ArenaOfAGpu, NamesPhasePlanAndRequestWhereNothingIsLeftBesideIt) {
  PhaseBytes plan;
  plan[MemoryPhase::rollout] = 4096;
  plan[MemoryPhase::learning] = 1024;
  const Device device = Device::cuda(0).planned(plan).during(MemoryPhase::learning);
  const std::int64_t endless = std::int64_t{1} << 45;
  try {
    device.allocate(endless);
    FAIL() << "allocated";
  } catch (const Error& error) {
    const std::string text = error.what();
    EXPECT_EQ(text.find("out of memory: " + std::to_string(endless) + " bytes wanted on cuda 0"),
              0U)
        << text;
    EXPECT_NE(text.find(", beyond the 1024 planned for learning, "), text.npos) << text;
  }
  const Buffer beside(device, DType::u8, {5000});
  EXPECT_EQ(device.arena()->taken(MemoryPhase::learning), 0);
}

TEST(ArenaOfAGpu, IsRefusedWhereThereIsNotThatMuch) {
  PhaseBytes plan;
  plan[MemoryPhase::always] = std::int64_t{1} << 45;
  EXPECT_THROW(Device::cuda(0).planned(plan), Error);
}

}  // namespace
}  // namespace fst
