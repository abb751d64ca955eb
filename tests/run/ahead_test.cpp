// rollout.max_lag = 1: a step's rollouts are sampled while the step before is learnt.
#include <algorithm>

#include <gtest/gtest.h>

#include "fst/base/error.h"
#include "fst/base/portable_math.h"
#include "fst/run/requests.h"
#include "fst/run/run.h"
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

/// Two cycles, of three steps and of two; all rollouts are recorded.
RunConfig lagged_config(const std::filesystem::path& output) {
  RunConfig config = small_config(output);
  config.run.steps = 5;
  config.train.steps_per_cycle = 3;
  config.rollout.max_lag = 1;
  return config;
}

/// The same with a checkpoint behind every step.
RunConfig saved_config(const std::filesystem::path& output) {
  RunConfig config = lagged_config(output);
  config.run.save_every = config.run.keep_every = 1;
  return config;
}

CheckpointReader checkpoint(const std::filesystem::path& folder, std::int64_t step) {
  return {Communicator::self(), folder / file_name({step, -1})};
}

TEST(SamplingAhead, IsOneStepOldInsideACycleAndOnPolicyAtItsStart) {
  const testing::TemporaryFolder folder;
  execute(lagged_config(folder.path() / "run"));
  const HistoryReader history(History::file_in(folder.path() / "run"));
  const auto mean = history.reals(dataset("/step/ratio_mean"));
  const auto greatest = history.reals(dataset("/step/ratio_max"));
  const auto difference = history.reals(dataset("/step/logprob_abs_diff_max"));
  ASSERT_EQ(mean.size(), 5u);
  for (std::size_t step = 0; step < mean.size(); ++step) {
    const bool on_policy = step % 3 == 0;
    EXPECT_EQ(mean[step] == 1.0 && greatest[step] == 1.0, on_policy) << step;
    EXPECT_EQ(difference[step], 0.0);
  }
  const auto phases = history.texts(dataset("/rollout/phase"));
  const auto steps = history.integers(dataset("/rollout/step"));
  const auto policies = history.integers(dataset("/rollout/policy"));
  std::size_t trained = 0;
  for (std::size_t i = 0; i < phases.size(); ++i) {
    const bool older = phases[i] == "train" && steps[i] % 3 != 0;
    EXPECT_EQ(policies[i], steps[i] - (older ? 1 : 0)) << phases[i] << " " << steps[i];
    trained += phases[i] == "train" ? 1 : 0;
  }
  EXPECT_EQ(trained, 5u * 12u);
}

TEST(SamplingAhead, TheRatiosAreThoseOfTheLearningWeightsToTheSamplingOnes) {
  const testing::TemporaryFolder folder;
  const RunConfig config = saved_config(folder.path() / "run");
  execute(config);
  // The second step's rollouts, scored by the weights behind the first.
  const HistoryReader history(History::file_in(folder.path() / "run"));
  const auto phases = history.texts(dataset("/rollout/phase"));
  const auto steps = history.integers(dataset("/rollout/step"));
  const auto prompts = history.integer_lists(dataset("/rollout/prompt_tokens"));
  const auto completions = history.integer_lists(dataset("/rollout/tokens"));
  const auto sampled = history.real_lists(dataset("/rollout/logprobs"));
  std::vector<std::vector<TokenId>> tokens;
  std::vector<std::vector<std::int32_t>> targets;
  std::vector<std::vector<double>> behaviour;
  for (std::size_t i = 0; i < phases.size(); ++i) {
    if (phases[i] != "train" || steps[i] != 1) continue;
    auto& sequence = tokens.emplace_back(prompts[i].begin(), prompts[i].end());
    sequence.insert(sequence.end(), completions[i].begin(), completions[i].end());
    auto& places = targets.emplace_back();
    for (std::size_t t = prompts[i].size(); t < sequence.size(); ++t) {
      places.push_back(static_cast<std::int32_t>(t));
    }
    behaviour.push_back(sampled[i]);
  }
  std::vector<LossSequence> sequences;
  for (std::size_t i = 0; i < tokens.size(); ++i) sequences.push_back({tokens[i], targets[i]});
  const Device device = Device::cpu();
  const ModelSource source = ModelSource::open((folder.path() / "run/checkpoint-1.h5").string());
  const Parameters weights = source.load(Communicator::self(), device);
  Qwen3 model(source.config, device, {.use = Use::inference, .max_positions = 512});
  model.set_weights(weights);
  PassOptions options;
  options.law = {1.0f, law_vocabulary(source, source.tokenizer())};
  kernels::ExactSum sum;
  double greatest = 0, count = 0;
  GradientPass(model, nullptr).score(sequences, options, [&](const PassChunk& chunk) {
    const auto& old = behaviour[static_cast<std::size_t>(chunk.sequence)];
    for (std::size_t i = 0; i < chunk.logprob.size(); ++i) {
      const double ratio = portable_exp(static_cast<double>(chunk.logprob[i]) -
                                        old[static_cast<std::size_t>(chunk.begin) + i]);
      sum.add(ratio);
      greatest = std::max(greatest, ratio);
      count += 1.0;
    }
  });
  EXPECT_EQ(history.reals(dataset("/step/ratio_max"))[1], greatest);
  EXPECT_EQ(history.reals(dataset("/step/ratio_mean"))[1], sum.value() / count);
  EXPECT_GT(greatest, 1.0);
}

TEST(SamplingAhead, TheCapOfTheRatioDecidesWhatIsLearnt) {
  const testing::TemporaryFolder wide, narrow;
  RunConfig config = saved_config(wide.path() / "run");
  config.train.problems_per_step = 16;  // some of the groups have right and wrong answers
  execute(config);
  config.run.output = (narrow.path() / "run").string();
  config.cispo.tau = 1.0001;
  execute(config);
  const auto capped = [](const testing::TemporaryFolder& folder) {
    return HistoryReader(History::file_in(folder.path() / "run"))
        .reals(dataset("/step/frac_capped"));
  };
  const auto few = capped(wide), many = capped(narrow);
  for (const std::size_t step : {0u, 3u}) EXPECT_EQ(many[step], 0.0) << "on policy";
  EXPECT_GT(many[1], few[1]);
  const auto weights = [](const testing::TemporaryFolder& folder, std::int64_t step) {
    return checkpoint_digests(folder.path() / "run", step).at("/policy/weights");
  };
  EXPECT_EQ(weights(wide, 1), weights(narrow, 1));
  EXPECT_NE(weights(wide, 3), weights(narrow, 3));
}

TEST(SamplingAhead, WhereEveryStepOpensACycleNothingIsSampledAhead) {
  const testing::TemporaryFolder with, without;
  RunConfig config = lagged_config(with.path() / "run");
  config.run.method = Method::rl;
  config.train.steps_per_cycle = 1;
  execute(config);
  config.run.output = (without.path() / "run").string();
  config.rollout.max_lag = 0;
  execute(config);
  EXPECT_EQ(history_digests(with.path() / "run"), history_digests(without.path() / "run"));
}

TEST(SamplingAhead, ACheckpointInsideACycleHoldsTheRolloutsInHand) {
  const testing::TemporaryFolder folder;
  const RunConfig config = saved_config(folder.path() / "run");
  execute(config);
  for (const std::int64_t step : {1, 2, 3, 4, 5}) {
    const CheckpointReader reader = checkpoint(folder.path() / "run", step);
    ASSERT_EQ(reader.has("/ahead"), step % 3 != 0) << step;
    if (!reader.has("/ahead")) continue;
    const std::string bytes = reader.blob("/ahead");
    Unpacker unpacker(std::as_bytes(std::span(bytes)));
    for (std::int32_t request = 0; request < 12; ++request) {
      const auto trajectory = unpacker.get<Trajectory>();
      EXPECT_EQ(trajectory.request, request);
      EXPECT_EQ(trajectory.policy, step - 1);
      EXPECT_EQ(trajectory.logprobs.size(), static_cast<std::size_t>(trajectory.length()));
    }
    unpacker.expect_done();
  }
}

TEST(SamplingAhead, AStoppedRunGoesOnAsIfItHadNotBeenStopped) {
  const testing::TemporaryFolder straight, stopped;
  RunConfig config = lagged_config(straight.path() / "run");
  config.eval.every = 2;  // evaluations sample while rollouts are in hand
  config.eval.problems = 3;
  execute(config);
  config.run.output = (stopped.path() / "run").string();
  for (const std::int64_t steps : {1, 2, 3, 5}) {
    config.run.steps = steps;
    execute(config, {.mode = ResumeMode::automatic, .file = {}});
  }
  EXPECT_EQ(history_digests(straight.path() / "run"), history_digests(stopped.path() / "run"));
  EXPECT_EQ(checkpoint_digests(straight.path() / "run", 5),
            checkpoint_digests(stopped.path() / "run", 5));
}

TEST(SamplingAhead, AStageNeverTrainsOnRolloutsOfTheOneBefore) {
  const testing::TemporaryFolder folder;
  RunConfig config = lagged_config(folder.path() / "run");
  config.task.lengths = {4};
  config.task.stages = {"A", "B"};
  config.task.steps_per_stage = 2;
  execute(config);  // cycles of 2 and 3 steps
  const HistoryReader history(History::file_in(folder.path() / "run"));
  const auto ratios = history.reals(dataset("/step/ratio_max"));
  ASSERT_EQ(ratios.size(), 5u);
  for (std::size_t step = 0; step < ratios.size(); ++step) {
    EXPECT_EQ(ratios[step] == 1.0, step == 0 || step == 2) << step;
  }
}

TEST(SamplingAhead, RolloutsOfAnotherBatchAreNotTakenUp) {
  const testing::TemporaryFolder folder;
  const RunConfig config = saved_config(folder.path() / "run");
  execute(config);
  const std::string bytes = checkpoint(folder.path() / "run", 1).blob("/ahead");
  World world = World::alone();
  RunContext context(world, config);
  Policy policy(context);
  RolloutRole role(context, policy);
  const Task task = task_of(world, config, "A");
  const auto batch = [&](const RunConfig& c) {
    return training_requests(c, task, cycle_of(c, 1), 1, {"one", "two"}, context.vocab);
  };
  RunConfig other = config;
  other.train.problems_per_step += 1;
  EXPECT_THROW(role.restore_ahead(batch(other), bytes), Error);
  EXPECT_THROW(role.restore_ahead(batch(config), ""), Error);
  EXPECT_THROW(role.restore_ahead(batch(config), bytes.substr(1)), Error);
  EXPECT_THROW(role.restore_ahead(batch(config), bytes.substr(0, bytes.size() - 1)), Error);
  EXPECT_FALSE(role.take_up());
  role.restore_ahead(batch(config), bytes);
  EXPECT_EQ(role.ahead_bytes(), bytes);
  EXPECT_TRUE(role.take_up());
  EXPECT_FALSE(role.take_up());
  EXPECT_EQ(role.outcomes().size(), 12u);
}

}  // namespace
}  // namespace fst
