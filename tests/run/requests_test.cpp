#include "fst/run/requests.h"

#include <algorithm>
#include <map>
#include <set>

#include <gtest/gtest.h>

namespace fst {
namespace {

constexpr std::int64_t vocab = 448;

RunConfig small_config() {
  RunConfig config;
  config.train.problems_per_step = 5;
  config.train.group_size = 12;
  config.train.steps_per_cycle = 3;
  config.evolve.anchors = 7;
  return config;
}

Task world_task(const RunConfig& config) {
  TaskOptions options;
  options.seed = static_cast<std::uint64_t>(config.run.seed);
  return make_task(options);
}

const std::vector<std::string> prompts{"one", "two", "three", "four"};

TEST(TrainingRequests, GiveEachProblemItsGroupEquallyOverThePrompts) {
  const RunConfig config = small_config();
  const RequestBatch batch =
      training_requests(config, world_task(config), cycle_of(config, 4), 4, prompts, vocab);
  ASSERT_EQ(batch.problems.size(), 5u);
  ASSERT_EQ(batch.requests.size(), 5u * 12u);
  std::map<std::int32_t, std::map<std::int32_t, int>> counts;
  std::map<std::int32_t, std::set<std::int32_t>> samples;
  for (const Request& r : batch.requests) {
    ++counts[r.problem][r.prompt];
    samples[r.problem].insert(r.sample);
  }
  for (std::int32_t p = 0; p < 5; ++p) {
    ASSERT_EQ(counts[p].size(), prompts.size());
    for (const auto& [prompt, count] : counts[p]) EXPECT_EQ(count, 3) << "prompt " << prompt;
    EXPECT_EQ(samples[p].size(), 12u) << "numbers within a group differ";
  }
}

TEST(TrainingRequests, ACycleTrainsOnItsLookAheadInOrderWhateverThePrompts) {
  const RunConfig config = small_config();
  const Task task = world_task(config);
  std::int64_t position = 0;
  for (std::int64_t step = 0; step < 7; ++step) {
    const Cycle cycle = cycle_of(config, step);
    for (const auto& some : {prompts, std::vector<std::string>{"alone"}}) {
      const RequestBatch batch = training_requests(config, task, cycle, step, some, vocab);
      for (std::size_t p = 0; p < batch.problems.size(); ++p) {
        EXPECT_EQ(batch.problems[p], task.train(position + static_cast<std::int64_t>(p)));
      }
    }
    position += 5;
  }
}

TEST(TrainingRequests, OfOnePromptAreThoseOfPlainReinforcementLearning) {
  RunConfig fst = small_config(), rl = small_config();
  fst.evolve.prompts = 1;
  rl.run.method = Method::rl;
  const Task task = world_task(fst);
  const auto a = training_requests(fst, task, cycle_of(fst, 2), 2, {"seed"}, vocab);
  const auto b = training_requests(rl, task, cycle_of(rl, 2), 2, {"seed"}, vocab);
  ASSERT_EQ(a.requests.size(), b.requests.size());
  for (std::size_t i = 0; i < a.requests.size(); ++i) {
    EXPECT_EQ(a.requests[i].key, b.requests[i].key);
  }
}

TEST(TrainingRequests, AskForTheBaseWhereTheKlTermIsPartOfTheReward) {
  RunConfig config = small_config();
  const Task task = world_task(config);
  const auto asks = [&] {
    return training_requests(config, task, cycle_of(config, 0), 0, {"seed"}, vocab).score_base;
  };
  EXPECT_FALSE(asks());
  config.kl.place = "reward";
  EXPECT_TRUE(asks());
  config.kl.coef = 0.0;
  EXPECT_FALSE(asks());
}

/// Notices a key that has been given before.
class Keys {
 public:
  void take(std::uint64_t key) {
    ++taken_;
    EXPECT_TRUE(keys_.insert(key).second) << "draw " << taken_ << " shares its random numbers";
  }
  void take(const RequestBatch& batch) {
    for (const Request& r : batch.requests) take(r.key);
  }
  std::size_t size() const { return keys_.size(); }

 private:
  std::set<std::uint64_t> keys_;
  std::size_t taken_ = 0;
};

TEST(Keys, OfTrainingEvolutionReflectionAndEvaluationNeverCollide) {
  RunConfig config = small_config();
  Keys keys;
  for (const std::int64_t seed : {1, 2}) {
    config.run.seed = seed;
    const Task task = world_task(config);
    for (std::int64_t step = 0; step < 9; ++step) {
      const Cycle cycle = cycle_of(config, step);
      keys.take(training_requests(config, task, cycle, step, prompts, vocab));
      EvaluationPlan plan;
      plan.split = "test";
      plan.problems = {task.test.begin(), task.test.begin() + 5};
      plan.step = step;
      for (const char* split : {"test", "test:B"}) {
        plan.split = split;
        for (const Purpose purpose : {Purpose::evaluation_draw, Purpose::probe_draw}) {
          keys.take(evaluation_requests(config, plan, prompts, 3, purpose));
        }
      }
    }
    for (std::int64_t cycle = 0; cycle < 3; ++cycle) {
      std::vector<Problem> anchors;
      for (std::int64_t i = 0; i < config.evolve.anchors; ++i) {
        anchors.push_back(task.train(cycle * 15 + i));
      }
      std::vector<Trial> trials;
      for (const auto& prompt : prompts) trials.push_back({0, prompt, {0, 1, 2, 3, 4, 5, 6, 2, 2}});
      EvolutionState state;
      state.phase.cycle = cycle;
      for (state.round = 0; state.round < 3; ++state.round) {
        for (const EvolutionStage stage :
             {EvolutionStage::initial_scores, EvolutionStage::parent_scores,
              EvolutionStage::child_scores, EvolutionStage::accepted_scores}) {
          state.stage = stage;
          keys.take(scoring_requests(config, state, trials, anchors, vocab));
        }
        for (std::size_t proposal = 0; proposal < 4; ++proposal) {
          for (const int calls : {0, 1, 2}) {
            keys.take(reflection_key(config, state, proposal, calls));
          }
        }
      }
    }
  }
  EXPECT_EQ(keys.size(), 2u * (9 * (60 + 4 * 60) + 3 * 3 * (4 * 36 + 12)));
}

TEST(ScoringRequests, NumberTheDrawsOfAProblemThatATrialNamesTwice) {
  const RunConfig config = small_config();
  const Task task = world_task(config);
  const std::vector<Problem> anchors{task.train(0), task.train(1), task.train(2)};
  EvolutionState state;
  state.stage = EvolutionStage::parent_scores;
  const std::vector<Trial> trials{{4, "a", {2, 0, 2}}, {5, "b", {1}}};
  const RequestBatch batch = scoring_requests(config, state, trials, anchors, vocab);
  ASSERT_EQ(batch.requests.size(), 4u);
  const std::int32_t problems[] = {2, 0, 2, 1}, slots[] = {0, 0, 0, 1}, samples[] = {0, 0, 1, 0};
  for (std::size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(batch.requests[i].problem, problems[i]);
    EXPECT_EQ(batch.requests[i].prompt, slots[i]);
    EXPECT_EQ(batch.requests[i].sample, samples[i]);
  }
}

TEST(EvaluationRequests, DrawEachProblemAlikeWhateverElseIsEvaluated) {
  RunConfig config = small_config();
  const Task task = world_task(config);
  EvaluationPlan plan;
  plan.split = "test";
  plan.problems = {task.test[0], task.test[1], task.test[2]};
  plan.step = 6;
  const auto keys_of = [&](const std::vector<std::string>& some, std::size_t prompt) {
    std::vector<std::uint64_t> keys;
    const auto batch = evaluation_requests(config, plan, some, 2, Purpose::evaluation_draw);
    for (const Request& r : batch.requests) {
      if (static_cast<std::size_t>(r.prompt) == prompt) keys.push_back(r.key);
    }
    return keys;
  };
  EXPECT_EQ(keys_of({"two"}, 0), keys_of(prompts, 1));
  config.eval.max_new_tokens = 31;
  EXPECT_EQ(evaluation_requests(config, plan, prompts, 2, Purpose::probe_draw).max_new_tokens, 31);
  config.eval.max_new_tokens = 0;
  EXPECT_EQ(evaluation_requests(config, plan, prompts, 2, Purpose::probe_draw).max_new_tokens,
            config.rollout.max_new_tokens);
}

TEST(EvaluationProblems, AreTheFirstOnesOfTheSplit) {
  RunConfig config = small_config();
  const Task task = world_task(config);
  EXPECT_EQ(evaluation_problems(config, task), task.test);
  config.eval.problems = 3;
  EXPECT_EQ(evaluation_problems(config, task),
            (std::vector<Problem>{task.test[0], task.test[1], task.test[2]}));
  config.eval.split = "dev";
  EXPECT_EQ(evaluation_problems(config, task).front(), task.dev.front());
  config.eval.problems = 1000000;
  EXPECT_EQ(evaluation_problems(config, task), task.dev);
}

}  // namespace
}  // namespace fst
