#include "fst/evolve/frontier.h"

#include <cmath>

#include <gtest/gtest.h>

#include "fst/base/error.h"
#include "fst/evolve/parent.h"

#include "python_random.h"

namespace fst {
namespace {

/// A worked example: fst_spec.md 4.13, run with the reference.
struct Example {
  const char* name;
  ScoreMatrix scores;
  Fronts fronts;
  std::vector<double> means;
  Fronts reduced;
  std::vector<int> sampling_list;
  int best;
};

const std::vector<Example>& examples() {
  static const std::vector<Example> all{{"A",
                                         {{0, 1, 0, 0}, {1, 1, 0, 0}, {0, 0, 1, 1}},
                                         {{1}, {0, 1}, {2}, {2}},
                                         {.25, .5, .5},
                                         {{1}, {1}, {2}, {2}},
                                         {1, 1, 2, 2},
                                         1},
                                        {"B",
                                         {{.5, 1, 0, .2}, {.5, 1, 0, .2}, {.5, 1, 1, .1}},
                                         {{0, 1, 2}, {0, 1, 2}, {2}, {0, 1}},
                                         {.425, .425, .65},
                                         {{1, 2}, {1, 2}, {2}, {1}},
                                         {1, 1, 1, 2, 2, 2},
                                         2},
                                        {"C",
                                         {{1, 0, 1, 0}, {1, 1, 0, 0}, {0, 1, 1, 0}},
                                         {{0, 1}, {1, 2}, {0, 2}, {0, 1, 2}},
                                         {.5, .5, .5},
                                         {{1}, {1, 2}, {2}, {1, 2}},
                                         {1, 1, 1, 2, 2, 2},
                                         0},
                                        {"D",
                                         {{.2, .9, .4, 0}, {.8, .9, .1, 0}, {.8, .3, .7, 0}},
                                         {{1, 2}, {0, 1}, {2}, {0, 1, 2}},
                                         {.375, .45000000000000007, .45},
                                         {{1, 2}, {1}, {2}, {1, 2}},
                                         {1, 1, 1, 2, 2, 2},
                                         1},
                                        {"E",
                                         {{0, 0, 0, 0}, {0, 0, 0, 0}, {0, 0, 0, 0}},
                                         {{0, 1, 2}, {0, 1, 2}, {0, 1, 2}, {0, 1, 2}},
                                         {0, 0, 0},
                                         {{2}, {2}, {2}, {2}},
                                         {2, 2, 2, 2},
                                         0},
                                        {"F",
                                         {{.2, .9, .5, .1}, {.8, .9, .6, 0}, {.3, .1, .6, .7}},
                                         {{1}, {0, 1}, {1, 2}, {2}},
                                         {.42500000000000004, .5750000000000001, .425},
                                         {{1}, {1}, {1, 2}, {2}},
                                         {1, 1, 1, 2, 2},
                                         1},
                                        {"G",
                                         {{1, 0, 0, 0}, {0, 1, 0, 0}, {0, 0, 1, 0}},
                                         {{0}, {1}, {2}, {0, 1, 2}},
                                         {.25, .25, .25},
                                         {{0}, {1}, {2}, {0, 1, 2}},
                                         {0, 0, 1, 1, 2, 2},
                                         0},
                                        {"H",
                                         {{0, 0, 0, 0}, {1, 0, 0, 0}, {0, 1, 0, 0}, {1, 1, 0, 1}},
                                         {{1, 3}, {2, 3}, {0, 1, 2, 3}, {3}},
                                         {0, .25, .25, .75},
                                         {{3}, {3}, {3}, {3}},
                                         {3, 3, 3, 3},
                                         3}};
  return all;
}

const ScoreMatrix& scores_of(const std::string& name) {
  for (const Example& example : examples()) {
    if (example.name == name) return example.scores;
  }
  throw Error("no example " + name);
}

TEST(Frontier, WorkedExamplesComeOutExactly) {
  for (const Example& example : examples()) {
    SCOPED_TRACE(example.name);
    const auto means = mean_scores(example.scores);
    EXPECT_EQ(means, example.means);
    EXPECT_EQ(frontier_of(example.scores), example.fronts);
    const Reduction reduction = remove_redundant(example.fronts, means);
    EXPECT_EQ(reduction.fronts, example.reduced);
    EXPECT_EQ(sampling_list(reduction.fronts), example.sampling_list);
    EXPECT_EQ(best_candidate(means), example.best);
  }
}

std::vector<int> seeded_draws(const std::string& name, std::uint32_t seed, int count) {
  test::PythonRandom random(seed);
  std::vector<int> draws;
  for (int i = 0; i < count; ++i) {
    draws.push_back(choose_parent(scores_of(name), EvolveOptions{}, random.choices()));
  }
  return draws;
}

TEST(Frontier, SeededDrawsAreTheReferences) {
  using Draws = std::vector<int>;
  EXPECT_EQ(seeded_draws("A", 0, 10), (Draws{2, 2, 1, 2, 2, 2, 2, 2, 2, 1}));
  EXPECT_EQ(seeded_draws("B", 0, 10), (Draws{2, 2, 1, 1, 2, 2, 2, 1, 2, 1}));
  EXPECT_EQ(seeded_draws("B", 1, 10), (Draws{1, 2, 1, 1, 1, 2, 2, 2, 2, 2}));
  EXPECT_EQ(seeded_draws("B", 42, 10), (Draws{2, 1, 1, 2, 1, 1, 1, 1, 2, 1}));
  EXPECT_EQ(seeded_draws("F", 0, 10), (Draws{2, 2, 1, 1, 2, 2, 2, 1, 2, 1}));
  EXPECT_EQ(seeded_draws("F", 1, 10), (Draws{1, 2, 1, 1, 1, 2, 2, 2, 2, 1}));
  EXPECT_EQ(seeded_draws("F", 42, 10), (Draws{1, 1, 1, 1, 1, 1, 1, 2, 1, 2}));
  EXPECT_EQ(seeded_draws("G", 0, 10), (Draws{1, 1, 0, 1, 2, 1, 1, 1, 1, 1}));
}

TEST(Frontier, TenThousandSeededDrawsHaveTheReferencesFrequencies) {
  const auto draws = seeded_draws("F", 0, 10000);
  EXPECT_EQ(std::count(draws.begin(), draws.end(), 1), 6043);
  EXPECT_EQ(std::count(draws.begin(), draws.end(), 2), 3957);
}

TEST(Frontier, SumsRunFromLeftToRight) {
  // 1e16 + 1 rounds back to 1e16, so only the order 1e16, -1e16, 1 keeps the 1.
  EXPECT_EQ(plain_sum(std::vector<double>{1e16, -1e16, 1}), 1.0);
  EXPECT_EQ(plain_sum(std::vector<double>{1e16, 1, -1e16}), 0.0);
  EXPECT_EQ(mean_score({}), -INFINITY);
}

TEST(Frontier, RowsOfDifferentLengthAreRefused) {
  EXPECT_THROW(frontier_of({{1, 0}, {1}}), Error);
}

TEST(Frontier, CurrentBestTakesTheFirstOfEqualMeansWithoutADraw) {
  EvolveOptions options;
  options.selector = ParentSelector::current_best;
  EXPECT_EQ(choose_parent(scores_of("C"), options, Choices{}), 0);
}

TEST(Frontier, EpsilonGreedyExploresBelowEpsilonOnly) {
  EvolveOptions options;
  options.selector = ParentSelector::epsilon_greedy;
  Choices choices;
  choices.choose = [](std::span<const int> list) { return list.size() - 1; };
  choices.uniform = [] { return 0.1; };
  EXPECT_EQ(choose_parent(scores_of("F"), options, choices), 1);
  choices.uniform = [] { return 0.0999; };
  EXPECT_EQ(choose_parent(scores_of("F"), options, choices), 2);
}

std::vector<int> chosen(const ScoreMatrix& scores, std::vector<std::string> texts, int k,
                        LeadRule lead) {
  return choose_population(ranking(scores), texts, mean_scores(scores), k, lead);
}

TEST(Population, EqualTextsTakeOnePlaceAndTheListRepeatsCyclically) {
  // Ranked 1, 2, 0; candidate 2 repeats the text of 1.
  EXPECT_EQ(chosen(scores_of("A"), {"a", "b", "b"}, 5, LeadRule::among_chosen),
            (std::vector<int>{1, 0, 1, 0, 1}));
}

TEST(Population, TheLeadIsTheBestOfTheChosenUnlessThePoolsBestIsKept) {
  // Candidate 0 of example C has the best mean (a tie) but is redundant.
  const ScoreMatrix& scores = scores_of("C");
  EXPECT_EQ(chosen(scores, {"a", "b", "c"}, 1, LeadRule::among_chosen), (std::vector<int>{1}));
  EXPECT_EQ(chosen(scores, {"a", "b", "c"}, 1, LeadRule::always_kept), (std::vector<int>{0}));
  EXPECT_EQ(chosen(scores, {"a", "b", "c"}, 2, LeadRule::always_kept), (std::vector<int>{0, 1}));
}

TEST(Population, AKeptLeadReplacesItsTwinAndNobodyElse) {
  EXPECT_EQ(chosen(scores_of("C"), {"a", "a", "c"}, 2, LeadRule::always_kept),
            (std::vector<int>{0, 2}));
}

}  // namespace
}  // namespace fst
