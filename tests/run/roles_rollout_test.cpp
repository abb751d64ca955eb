#include <algorithm>
#include <filesystem>

#include <gtest/gtest.h>

#include "fst/run/evaluation.h"
#include "fst/run/roles.h"

#include "support/temporary_folder.h"

namespace fst {
namespace {

const std::filesystem::path tiny = std::filesystem::path(FST_SOURCE_DIR) / "input/tiny";

double gold_probability(const std::filesystem::path& model) {
  RunConfig config;
  config.model.policy = model.string();
  World world = World::alone();
  RunContext context(world, config);
  Policy policy(context);
  RolloutRole role(context, policy);
  const Task task = task_of(world, config, "A");
  return role.gold_probability({task.test[0], task.test[1]}, task.seed_prompt);
}

TEST(GoldProbability, IsThatOfTheAnswerAndTheEndOfTheTurnWhateverElseMayStop) {
  const testing::TemporaryFolder folder;
  std::filesystem::copy(tiny, folder.path(), std::filesystem::copy_options::recursive);
  const double expected = gold_probability(tiny);
  EXPECT_GT(expected, 0.0);
  const TokenId end = Tokenizer::load(tiny).id_of("<|im_end|>");
  for (const TokenId other : {3, end + 1}) {  // smaller and greater: the stop set is sorted
    folder.write("generation_config.json", "{\"eos_token_id\": [" + std::to_string(end) + ", " +
                                               std::to_string(other) + "]}");
    EXPECT_EQ(gold_probability(folder.path()), expected) << other;
  }
}

}  // namespace
}  // namespace fst
