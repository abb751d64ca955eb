#include <gtest/gtest.h>

#include "fst/evolve/minibatch.h"

#include "golden_cases.h"
#include "python_random.h"

namespace fst {
namespace {

using Json = nlohmann::json;

/// The sampler's draws from the recorded permutation of each step.
Choices recorded(const Json& step) {
  Choices choices;
  choices.shuffle = [&step](std::vector<int>& list) {
    list = step.at("shuffle").at("permutation").get<std::vector<int>>();
  };
  return choices;
}

void check_step(MinibatchSampler& sampler, const Json& sampler_case, const Json& step,
                const Choices& choices) {
  const auto pool = (step.contains("n") ? step : sampler_case).at("n").get<std::int64_t>();
  const auto size = sampler_case.at("minibatch").get<std::int64_t>();
  const std::vector<int> before = sampler.order;
  MinibatchPlace place{step.at("i").get<std::int64_t>(), 0};
  for (const Json& minibatch : step.at("minibatches")) {
    EXPECT_EQ(next_minibatch(sampler, pool, size, place, choices),
              minibatch.get<std::vector<int>>());
    ++place.call;
  }
  if (step.contains("shuffle")) {
    EXPECT_EQ(sampler.epoch, step.at("shuffle").at("epoch").get<std::int64_t>());
    EXPECT_EQ(sampler.order, step.at("shuffle").at("padded").get<std::vector<int>>());
  } else {
    EXPECT_EQ(sampler.order, before) << "shuffled without a new epoch";
  }
}

TEST(MinibatchGolden, RecordedPermutationsGiveTheReferencesMinibatches) {
  for (const Json& sampler_case : test::golden_cases("gepa/sampler.json")) {
    MinibatchSampler sampler;
    for (const Json& step : sampler_case.at("steps")) {
      SCOPED_TRACE(step.dump());
      check_step(sampler, sampler_case, step, recorded(step));
    }
  }
}

TEST(MinibatchGolden, SeededGeneratorGivesTheReferencesMinibatches) {
  for (const Json& sampler_case : test::golden_cases("gepa/sampler.json")) {
    MinibatchSampler sampler;
    test::PythonRandom random(sampler_case.at("seed").get<std::uint32_t>());
    for (const Json& step : sampler_case.at("steps")) {
      SCOPED_TRACE(step.dump());
      check_step(sampler, sampler_case, step, random.choices());
    }
  }
}

}  // namespace
}  // namespace fst
