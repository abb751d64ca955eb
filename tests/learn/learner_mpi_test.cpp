#include "fst/learn/learner.h"

#include "learn_fixture.h"
#include "mpi_main.h"

namespace fst {
namespace {

std::vector<float> part(const std::vector<float>& x, Range range) {
  return {x.begin() + range.begin, x.begin() + range.end};
}

class LearnerTest : public ::testing::TestWithParam<std::tuple<std::int64_t, DType>> {};

INSTANTIATE_TEST_SUITE_P(Leaves, LearnerTest,
                         ::testing::Combine(::testing::Values<std::int64_t>(8, 5, 2),
                                            ::testing::ValuesIn(test::arithmetics)));

TEST_P(LearnerTest, TheNumberOfLearnersChangesNoBit) {
  LearnerOptions options = test::all_terms();
  options.gradient_leaves = std::get<std::int64_t>(GetParam());
  const DType dtype = std::get<DType>(GetParam());
  test::TinyModels models(dtype, test::world().all()), alone(dtype);
  const test::Learnt expected = test::learn_twice(alone, Communicator::self(), options);
  const test::Learnt learnt = test::learn_twice(models, test::world().all(), options);
  EXPECT_EQ(test::differing(learnt.weights, expected.weights), 0);
  EXPECT_EQ(test::differing(learnt.masters, part(expected.masters, learnt.shard)), 0);
  EXPECT_EQ(test::differing(learnt.m, part(expected.m, learnt.shard)), 0);
  EXPECT_EQ(test::differing(learnt.v, part(expected.v, learnt.shard)), 0);
  EXPECT_EQ(test::numbers_of(learnt.first), test::numbers_of(expected.first));
  EXPECT_EQ(test::numbers_of(learnt.second), test::numbers_of(expected.second));
  EXPECT_NE(expected.second.ratio_mean, 1.0);
}

}  // namespace
}  // namespace fst
