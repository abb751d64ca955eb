// Whole runs of the embedded model on the embedded world, on one rank, compared by their files.
#include "fst/run/run.h"

#include <algorithm>
#include <map>

#include <gtest/gtest.h>

#include "fst/store/checkpoint_file.h"
#include "fst/store/history_reader.h"

#include "run_fixture.h"
#include "support/temporary_folder.h"

namespace fst {
namespace {

using test::checkpoint_digests;
using test::execute;
using test::history_digests;
using test::small_config;

TEST(Run, FastSlowTrainingOfOnePromptWithoutABudgetIsReinforcementLearning) {
  const testing::TemporaryFolder fst, rl;
  RunConfig config = small_config(fst.path() / "run");
  config.evolve.prompts = 1;
  config.evolve.max_metric_calls = 0;
  execute(config);
  config = small_config(rl.path() / "run");
  config.run.method = Method::rl;
  execute(config);
  const auto a = history_digests(fst.path() / "run"), b = history_digests(rl.path() / "run");
  std::size_t compared = 0;
  for (const auto& [name, sha256] : b) {
    if (!name.starts_with("/step/") || name == "/step/rollouts_fast") continue;  // its anchors
    EXPECT_EQ(a.at(name), sha256) << name;
    ++compared;
  }
  EXPECT_GT(compared, 20u);
  const auto weights = checkpoint_digests(fst.path() / "run", 3);
  for (const auto& [name, sha256] : checkpoint_digests(rl.path() / "run", 3)) {
    if (name.starts_with("/policy/") || name.starts_with("/optimizer/")) {
      EXPECT_EQ(weights.at(name), sha256) << name;
    }
  }
  const HistoryReader history(History::file_in(rl.path() / "run"));
  const auto norms = history.reals(dataset("/step/grad_norm"));
  ASSERT_EQ(norms.size(), 3u);
  EXPECT_GT(*std::ranges::min_element(norms), 0.0) << "nothing was learnt, so nothing compared";
}

TEST(Run, WithoutALearningRateTheWeightsStay) {
  const testing::TemporaryFolder folder;
  RunConfig config = small_config(folder.path() / "run");
  config.optim.lr = 0.0;
  config.run.save_every = 1;
  execute(config);
  const auto before = checkpoint_digests(folder.path() / "run", 2);
  const auto after = checkpoint_digests(folder.path() / "run", 3);
  EXPECT_EQ(after.at("/policy/weights"), before.at("/policy/weights"));
  const Device device = Device::cpu();
  const Parameters start =
      ModelSource::open(config.model.policy).load(Communicator::self(), device);
  std::vector<float> weights(static_cast<std::size_t>(start.size()));
  CheckpointReader(Communicator::self(), folder.path() / "run" / file_name({3, -1}))
      .array("/policy/weights", 0, weights);
  EXPECT_TRUE(std::equal(weights.begin(), weights.end(), start.flat().data<float>()));
  const HistoryReader history(History::file_in(folder.path() / "run"));
  EXPECT_GT(history.rows(table_number("round")), 0) << "prompts evolve all the same";
}

TEST(Run, EvaluatesSeedLeadAndPopulationAndLeavesTheTrajectoryAlone) {
  const testing::TemporaryFolder evaluated, plain;
  RunConfig config = small_config(evaluated.path() / "run");
  config.eval.every = 2;
  config.eval.problems = 3;
  config.eval.samples = 2;
  config.eval.temperature = 0.0;
  execute(config);
  execute(small_config(plain.path() / "run"));
  EXPECT_EQ(checkpoint_digests(evaluated.path() / "run", 3).at("/policy/weights"),
            checkpoint_digests(plain.path() / "run", 3).at("/policy/weights"));

  const HistoryReader history(History::file_in(evaluated.path() / "run"));
  const auto prompts = history.texts(dataset("/evaluation/prompt"));
  const auto steps = history.integers(dataset("/evaluation/step"));
  const auto accuracy = history.reals(dataset("/evaluation/accuracy"));
  const auto best = history.reals(dataset("/evaluation/best_at_k"));
  const auto kl = history.reals(dataset("/evaluation/kl_base"));
  const auto gold = history.reals(dataset("/evaluation/gold_probability"));
  const auto per_problem = history.real_lists(dataset("/evaluation/per_problem"));
  std::map<std::string, int> rows;
  for (std::size_t i = 0; i < prompts.size(); ++i) {
    ++rows[prompts[i]];
    EXPECT_EQ(steps[i] % 2, 0);
    ASSERT_EQ(per_problem[i].size(), 3u);
    double mean = 0;
    for (const double score : per_problem[i]) mean += score / 3.0;
    EXPECT_NEAR(accuracy[i], mean, 1e-6);  // per_problem is float32
    EXPECT_EQ(best[i] >= accuracy[i], true);
    if (prompts[i] == "population") continue;  // a mean over prompts: neither KL nor gold answers
    EXPECT_EQ(best[i], accuracy[i]) << "at temperature 0 all samples are equal";
    EXPECT_GE(kl[i], 0.0);
    EXPECT_GT(gold[i], 0.0);
    EXPECT_LT(gold[i], 1.0);
    if (steps[i] == 0) {
      EXPECT_EQ(kl[i], 0.0) << "the policy is the base";
    }
  }
  // At 0 before the first fast phase, then behind each fast phase (0, 2) and behind step 2.
  EXPECT_EQ(rows["seed"], 4);
  EXPECT_EQ(rows["lead"], 3);
  EXPECT_EQ(rows["population"], 3);
}

}  // namespace
}  // namespace fst
