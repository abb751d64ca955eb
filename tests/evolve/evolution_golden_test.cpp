#include <gtest/gtest.h>

#include "golden_cases.h"
#include "python_random.h"
#include "replay.h"

namespace fst {
namespace {

using Json = nlohmann::json;

TEST(EvolutionGolden, EveryRecordedRunIsFollowedWithItsDrawsGiven) {
  for (const Json& trace : test::golden_cases("gepa/traces.json")) {
    SCOPED_TRACE(trace.at("id").get<std::string>());
    test::Replay(trace).run_recorded();
    if (testing::Test::HasFailure()) return;  // one diverging run is enough to read
  }
}

/// Whether every draw's place is recorded: then the list was in our order, and its draws are found.
bool same_lists(const Json& trace) {
  for (const Json& iteration : trace.at("iterations")) {
    for (const Json& task : iteration.at("tasks")) {
      if (!task.contains("same_draw") && !task.contains("draw_index")) return false;
    }
  }
  return true;
}

TEST(EvolutionGolden, TheReferencesGeneratorFindsEveryDrawOfTheParetoRuns) {
  int runs = 0;
  for (const Json& trace : test::golden_cases("gepa/traces.json")) {
    if (trace.at("config").at("selector") != "pareto" || !same_lists(trace)) continue;
    SCOPED_TRACE(trace.at("id").get<std::string>());
    test::PythonRandom random(trace.at("config").at("seed").get<std::uint32_t>());
    test::Replay(trace).run_with(random.choices());
    if (testing::Test::HasFailure()) return;
    ++runs;
  }
  EXPECT_GT(runs, 0);
}

/// Whether proposal `number`, counted from 1, passes the gate.
bool accepted(const std::string& rule, int number) {
  if (rule == "all") return true;
  if (rule == "none") return false;
  if (rule == "first only") return number == 1;
  if (rule == "every 4th") return number % 4 == 0;
  throw std::runtime_error("unknown rule " + rule);
}

ScoreMatrix constant_scores(const std::vector<Trial>& trials, double score) {
  ScoreMatrix scores;
  for (const Trial& trial : trials) scores.emplace_back(trial.problems.size(), score);
  return scores;
}

void spend(const Json& budget) {
  EvolveOptions options;
  options.max_metric_calls = budget.at("budget").get<std::int64_t>();
  options.minibatch = budget.at("minibatch").get<int>();
  Phase phase;
  phase.anchors = budget.at("n").get<std::int64_t>();
  const auto rule = budget.at("accepted").get<std::string>();
  Candidate seed;
  seed.text = "seed";
  Evolution evolution(options, phase, {&seed, 1});
  evolution.record_anchor_scores(constant_scores(evolution.trials(), 0));
  std::vector<std::int64_t> totals;
  while (evolution.more()) {
    evolution.draw_round(keyed_choices(7, 0, evolution.state().round));
    evolution.record_parent_scores(constant_scores(evolution.trials(), 0));
    const int number = static_cast<int>(evolution.state().round);
    evolution.record_replies({{{ReplyStatus::complete, "child " + std::to_string(number)}}}, {});
    const double score = accepted(rule, number) ? 1 : 0;
    evolution.record_child_scores(constant_scores(evolution.trials(), score));
    evolution.record_anchor_scores(constant_scores(evolution.trials(), 0));
    totals.push_back(evolution.state().metric_calls);
  }
  EXPECT_EQ(evolution.state().proposals.size(), budget.at("proposals").get<std::size_t>());
  EXPECT_EQ(evolution.state().pool.size(), budget.at("candidates").get<std::size_t>());
  EXPECT_EQ(evolution.state().metric_calls, budget.at("total").get<std::int64_t>());
  if (totals.size() > 12) totals.erase(totals.begin() + 6, totals.end() - 6);
  EXPECT_EQ(totals, budget.at("totals_after_iterations").get<std::vector<std::int64_t>>());
}

TEST(EvolutionGolden, BudgetsAreSpentToTheRecordedTotals) {
  for (const Json& budget : test::golden_cases("gepa/budget.json")) {
    SCOPED_TRACE(budget.dump());
    spend(budget);
  }
}

}  // namespace
}  // namespace fst
