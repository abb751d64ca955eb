#pragma once

#include <filesystem>
#include <map>
#include <string>

#include <gtest/gtest.h>

#include "fst/base/log.h"
#include "fst/run/run.h"
#include "fst/store/checkpoint_file.h"
#include "fst/store/digest.h"

// Whole runs of the embedded model, small enough for unit tests.

namespace fst::test {

/// A few cheap steps of the tiny model. Few rollouts are right, so the entropy bonus of all groups
/// keeps the weights moving.
inline RunConfig small_config(const std::filesystem::path& output) {
  RunConfig config;
  config.run.output = output.string();
  config.run.steps = 3;
  config.model.policy = std::string(FST_SOURCE_DIR) + "/input/tiny";
  config.task.lengths = {3};
  config.train.problems_per_step = 3;
  config.train.group_size = 4;
  config.train.steps_per_cycle = 2;
  config.train.zero_variance_filter = false;
  config.train.entropy = 0.01;
  config.evolve.prompts = 2;
  config.evolve.anchors = 3;
  config.evolve.max_metric_calls = 12;
  config.eval.every = 0;
  config.optim.lr = 1e-3;
  config.optim.warmup = 1;
  return config;
}

inline void execute(const RunConfig& config, const Resume& resume = {}) {
  log::set_rank(1);  // tests do not print
  World world = World::alone();
  Run run(world, config, resume);
  EXPECT_EQ(run.execute(), RunOutcome::finished);
}

inline std::map<std::string, std::string> history_digests(const std::filesystem::path& folder) {
  std::map<std::string, std::string> all;
  for (const auto& [name, sha256] : digests(History::file_in(folder))) all[name] = sha256;
  return all;
}

inline std::map<std::string, std::string> checkpoint_digests(const std::filesystem::path& folder,
                                                             std::int64_t step) {
  std::map<std::string, std::string> all;
  for (const auto& [name, sha256] : digests(folder / file_name({step, -1}))) all[name] = sha256;
  return all;
}

}  // namespace fst::test
