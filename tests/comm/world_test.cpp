#include "fst/comm/world.h"

#include <string>

#include <gtest/gtest.h>

namespace fst {
namespace {

bool mentions(const std::vector<std::string>& problems, const std::string& text) {
  for (const auto& problem : problems) {
    if (problem.find(text) != std::string::npos) return true;
  }
  return false;
}

TEST(RankPlan, AllZeroIsColocatedOnAnyNumberOfRanks) {
  for (const int size : {1, 2, 3, 7}) EXPECT_TRUE(problems_of({}, size).empty()) << size;
  EXPECT_TRUE(RankPlan{}.colocated());
}

TEST(RankPlan, AnAbsentRoleIsNoMistakeHere) {
  const RankPlan plan{{2, 1}, {0, 1}, {1, 1}};
  EXPECT_TRUE(problems_of(plan, 3).empty());
  EXPECT_FALSE(plan.colocated());
}

TEST(RankPlan, SumThatDiffersFromTheJobIsExplained) {
  const auto problems = problems_of({{2, 1}, {1, 1}, {1, 1}}, 3);
  ASSERT_EQ(problems.size(), 1u);
  EXPECT_TRUE(mentions(problems, "2 + 1 + 1 = 4")) << problems[0];
  EXPECT_TRUE(mentions(problems, "the job has 3 ranks")) << problems[0];
}

TEST(RankPlan, AllMistakesAreListedAtOnce) {
  const auto problems = problems_of({{-1, 1}, {1, 3}, {3, 2}}, 3);
  EXPECT_EQ(problems.size(), 3u);
  EXPECT_TRUE(mentions(problems, "ranks.rollout is -1"));
  EXPECT_TRUE(mentions(problems, "reflection.tp is 3"));
  EXPECT_TRUE(mentions(problems, "learner.tp = 2 does not divide the 3 learner ranks"));
}

TEST(RankPlan, ColocatedTensorParallelismMustDivideTheJob) {
  EXPECT_TRUE(problems_of({{0, 2}, {0, 1}, {0, 4}}, 4).empty());
  EXPECT_TRUE(mentions(problems_of({{0, 2}, {0, 1}, {0, 1}}, 3), "rollout.tp = 2"));
}

TEST(World, AloneHasEveryRoleWithoutMpi) {
  const World world = World::alone();
  for (const Role role : {Role::rollout, Role::reflection, Role::learner}) {
    EXPECT_EQ(world.role(role).size(), 1);
    EXPECT_EQ(world.unit(role).size(), 1);
    EXPECT_EQ(world.across(role).size(), 1);
    EXPECT_EQ(world.units(role), 1);
    EXPECT_EQ(world.world_rank(role, 0), 0);
  }
  EXPECT_EQ(world.policy().rank(), 0);
  EXPECT_EQ(world.layout(), "1 rank, colocated");
  EXPECT_NO_THROW(world.expect_same(5, "five"));
}

TEST(World, WrongPlanIsTheUsersMistake) {
  World world = World::alone();
  EXPECT_THROW(world.split({{1, 1}, {1, 1}, {1, 1}}), InputError);
}

}  // namespace
}  // namespace fst
