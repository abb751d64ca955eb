#include "fst/run/recorder.h"

#include <gtest/gtest.h>

namespace fst {
namespace {

std::vector<Outcome> with_answers(const std::vector<std::int64_t>& answers) {
  std::vector<Outcome> outcomes;
  for (const std::int64_t answer : answers) {
    outcomes.emplace_back();
    outcomes.back().answer = answer;
  }
  return outcomes;
}

TEST(CollapseShare, IsThatOfTheMostFrequentAnswer) {
  EXPECT_EQ(collapse_share(with_answers({3, 3, 5, 3})), 0.75);
  EXPECT_EQ(collapse_share(with_answers({1, 2, 3, 4})), 0.25);
  EXPECT_EQ(collapse_share(with_answers({0, 0, 0})), 1.0);
}

TEST(CollapseShare, AnswersThatFollowNoRuleAreNoCollapse) {
  EXPECT_EQ(collapse_share(with_answers({-1, -1, -1, 7})), 0.25);
  EXPECT_EQ(collapse_share(with_answers({-1, -1})), 0.0);
  EXPECT_EQ(collapse_share({}), 0.0);
}

}  // namespace
}  // namespace fst
