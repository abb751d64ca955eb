#include "fst/run/schedule.h"

#include <algorithm>

#include <gtest/gtest.h>

namespace fst {
namespace {

RunConfig config_of(Method method, std::int64_t steps_per_cycle = 6) {
  RunConfig config;
  config.run.method = method;
  config.train.steps_per_cycle = steps_per_cycle;
  config.train.problems_per_step = 5;
  return config;
}

const Method methods[] = {Method::fst,    Method::rl,         Method::gepa,    Method::frozen,
                          Method::copies, Method::per_prompt, Method::rl_gepa, Method::gepa_rl};

TEST(Schedule, CyclesOfOneStageFollowEachOther) {
  const RunConfig config = config_of(Method::fst);
  for (std::int64_t step = 0; step < 40; ++step) {
    const Cycle cycle = cycle_of(config, step);
    EXPECT_EQ(cycle.index, step / 6);
    EXPECT_EQ(cycle.stage, 0);
    EXPECT_EQ(cycle.first_step, step / 6 * 6);
    EXPECT_EQ(cycle.steps, 6);
    EXPECT_EQ(cycle.first_position, cycle.first_step * 5);
    EXPECT_EQ(cycle.opens_stage, step < 6);
    EXPECT_TRUE(cycle.evolves);
  }
}

TEST(Schedule, ACycleIsCutAtTheEndOfItsStageAndTheNextStageBeginsAFreshOne) {
  RunConfig config = config_of(Method::fst);
  config.task.stages = {"A", "B", "C"};
  config.task.steps_per_stage = 20;  // 6 + 6 + 6 + 2
  std::int64_t index = 0;
  for (std::int64_t step = 0; step < 40;) {
    const Cycle cycle = cycle_of(config, step);
    const std::int64_t within = step % 20;
    EXPECT_EQ(cycle.index, index++);
    EXPECT_EQ(cycle.first_step, step);
    EXPECT_EQ(cycle.stage, step / 20);
    EXPECT_EQ(cycle.steps, within == 18 ? 2 : 6);
    EXPECT_EQ(cycle.first_position, within * 5) << "each stage has a stream of its own";
    EXPECT_EQ(cycle.opens_stage, within == 0);
    for (std::int64_t later = step; later < step + cycle.steps; ++later) {
      EXPECT_EQ(cycle_of(config, later).index, cycle.index);
    }
    step += cycle.steps;
  }
}

TEST(Schedule, TheLastStageGoesOnAsLongAsTheRunDoes) {
  RunConfig config = config_of(Method::fst);
  config.task.stages = {"A", "B"};
  config.task.steps_per_stage = 8;
  const Cycle cycle = cycle_of(config, 8 + 6 + 6 + 1);
  EXPECT_EQ(cycle.stage, 1);
  EXPECT_EQ(cycle.index, 2 + 2);
  EXPECT_EQ(cycle.first_step, 8 + 12);
  EXPECT_EQ(cycle.steps, 6);
}

TEST(Schedule, OneNamedStageIsARunWithoutStages) {
  RunConfig plain = config_of(Method::fst), staged = config_of(Method::fst);
  plain.task.variant = "B";
  staged.task.stages = {"B"};
  staged.task.steps_per_stage = 4;
  EXPECT_EQ(stage_variants(plain), stage_variants(staged));
  for (std::int64_t step = 0; step < 20; ++step) {
    EXPECT_EQ(cycle_of(staged, step).first_step, cycle_of(plain, step).first_step);
    EXPECT_EQ(cycle_of(staged, step).steps, cycle_of(plain, step).steps);
  }
}

TEST(Schedule, ALongerRunGoesThroughTheSameCycles) {
  for (const Method method : methods) {
    RunConfig shorter = config_of(method), longer = config_of(method);
    shorter.run.steps = 13;
    longer.run.steps = 1000;
    for (std::int64_t step = 0; step < 30; ++step) {
      const Cycle a = cycle_of(shorter, step), b = cycle_of(longer, step);
      EXPECT_EQ(a.index, b.index);
      EXPECT_EQ(a.first_step, b.first_step);
      EXPECT_EQ(a.steps, b.steps);
      EXPECT_EQ(a.evolves, b.evolves);
    }
  }
}

TEST(Schedule, MethodsEvolveWhereTheirNamesSay) {
  const auto evolving_cycles = [](Method method) {
    std::vector<std::int64_t> cycles;
    for (std::int64_t step = 0; step < 18; step += 6) {
      if (cycle_of(config_of(method), step).evolves) cycles.push_back(step / 6);
    }
    return cycles;
  };
  using Cycles = std::vector<std::int64_t>;
  for (const Method every : {Method::fst, Method::gepa, Method::copies, Method::per_prompt}) {
    EXPECT_EQ(evolving_cycles(every), (Cycles{0, 1, 2})) << name_of(every);
  }
  EXPECT_EQ(evolving_cycles(Method::gepa_rl), Cycles{0});
  for (const Method never : {Method::rl, Method::frozen, Method::rl_gepa}) {
    EXPECT_EQ(evolving_cycles(never), Cycles{}) << name_of(never);
  }
  EXPECT_TRUE(traits_of(Method::rl_gepa).evolves_at_end);
  EXPECT_TRUE(traits_of(Method::rl_gepa).evolves());
}

TEST(Schedule, OnlyMethodsUnderTheSeedPromptTrainWithOnePrompt) {
  for (const Method method : methods) {
    RunConfig config = config_of(method);
    config.evolve.prompts = 4;
    const bool seed_only = method == Method::rl || method == Method::rl_gepa;
    EXPECT_EQ(population_size(config), seed_only ? 1 : 4) << name_of(method);
  }
}

TEST(Schedule, EvaluationsAreDueAtMultiplesOrNever) {
  RunConfig config;
  config.eval.every = 3;
  std::vector<std::int64_t> due;
  for (std::int64_t step = 0; step < 8; ++step) {
    if (evaluation_due(config, step)) due.push_back(step);
  }
  EXPECT_EQ(due, (std::vector<std::int64_t>{0, 3, 6}));
  config.eval.every = 0;
  EXPECT_FALSE(evaluation_due(config, 0));
  EXPECT_FALSE(evaluation_due(config, 5));
}

TEST(Schedule, SamplesAheadInsideACycleOnlyWhateverTheLengthOfTheRun) {
  RunConfig config = config_of(Method::fst, 4);
  config.task.stages = {"A", "B"};
  config.task.steps_per_stage = 6;  // cycles of 4, 2, then 4 each
  std::vector<std::int64_t> ahead;
  const auto all = [&] {
    ahead.clear();
    for (std::int64_t step = 0; step < 14; ++step) {
      if (samples_ahead(config, cycle_of(config, step), step)) ahead.push_back(step);
    }
    return ahead;
  };
  EXPECT_EQ(all(), std::vector<std::int64_t>{});
  config.rollout.max_lag = 1;
  EXPECT_EQ(all(), (std::vector<std::int64_t>{0, 1, 2, 4, 6, 7, 8, 10, 11, 12}));
  config.run.steps = 7;
  EXPECT_EQ(all(), (std::vector<std::int64_t>{0, 1, 2, 4, 6, 7, 8, 10, 11, 12}));
  config.train.steps_per_cycle = 1;
  EXPECT_EQ(all(), std::vector<std::int64_t>{}) << "every step is the first of its cycle";
}

TEST(UnusedKeys, AreThoseThatTheMethodIgnores) {
  const std::vector<std::string> given{
      "run.seed", "evolve.prompts", "evolve.anchors",   "reflection.top_p",  "model.reflection",
      "optim.lr", "kl.coef",        "train.group_size", "evolve.population", "rollout.max_lag"};
  const auto unused = [&](Method method) { return unused_keys(config_of(method), given); };
  using Keys = std::vector<std::string>;
  EXPECT_EQ(unused(Method::fst), Keys{"evolve.population"});
  EXPECT_EQ(unused(Method::rl), (Keys{"evolve.prompts", "evolve.anchors", "reflection.top_p",
                                      "model.reflection", "evolve.population"}));
  EXPECT_EQ(unused(Method::gepa), (Keys{"optim.lr", "kl.coef", "train.group_size",
                                        "evolve.population", "rollout.max_lag"}));
  EXPECT_EQ(unused(Method::frozen),
            (Keys{"evolve.anchors", "reflection.top_p", "model.reflection"}));
  EXPECT_EQ(unused(Method::rl_gepa), Keys{"evolve.population"});
}

}  // namespace
}  // namespace fst
