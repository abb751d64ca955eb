#include "fst/evolve/choices.h"

#include <algorithm>
#include <numeric>

#include <gtest/gtest.h>

#include "fst/base/error.h"

#include "python_random.h"

namespace fst {
namespace {

using Ids = std::vector<int>;

// The reference's generator is test equipment; its vectors (fst_spec.md 4.10) keep it honest.
TEST(PythonRandom, GivesCpythonsNumbers) {
  test::PythonRandom words(0), reals(0), fives(0);
  for (const std::uint32_t expected : {3626764237u, 1654615998u, 3255389356u, 3823568514u}) {
    EXPECT_EQ(words.next32(), expected);
  }
  for (const double expected :
       {0.8444218515250481, 0.7579544029403025, 0.420571580830845, 0.25891675029296335}) {
    EXPECT_EQ(reals.uniform(), expected);
  }
  for (const std::uint64_t expected : {3u, 3u, 0u, 2u, 4u, 3u, 3u, 2u, 3u, 2u}) {
    EXPECT_EQ(fives.below(5), expected);
  }
  EXPECT_EQ(test::PythonRandom(0).shuffled(8), (Ids{4, 1, 5, 2, 0, 3, 7, 6}));
}

TEST(KeyedChoices, DependOnSeedCycleAndRoundAlone) {
  const auto shuffled = [](std::uint64_t seed, std::int64_t cycle, std::int64_t round) {
    Ids ids(97);
    std::iota(ids.begin(), ids.end(), 0);
    keyed_choices(seed, cycle, round).shuffle(ids);
    return ids;
  };
  const Ids once = shuffled(1, 2, 3);
  EXPECT_EQ(shuffled(1, 2, 3), once);
  EXPECT_NE(shuffled(2, 2, 3), once);
  EXPECT_NE(shuffled(1, 3, 3), once);
  EXPECT_NE(shuffled(1, 2, 4), once);
  Ids sorted = once;
  std::sort(sorted.begin(), sorted.end());
  EXPECT_EQ(sorted.front(), 0);
  EXPECT_EQ(sorted.back(), 96);
  EXPECT_EQ(std::unique(sorted.begin(), sorted.end()), sorted.end());
}

TEST(KeyedChoices, ParentsDoNotMoveTheShuffles) {
  const Ids list(13, 0);
  Ids after_parents(31), alone(31);
  std::iota(alone.begin(), alone.end(), 0);
  after_parents = alone;
  const Choices drawn = keyed_choices(5, 0, 0);
  EXPECT_LT(drawn.choose(list), list.size());
  EXPECT_LT(drawn.choose(list), list.size());
  drawn.shuffle(after_parents);
  keyed_choices(5, 0, 0).shuffle(alone);
  EXPECT_EQ(after_parents, alone);
}

TEST(KeyedChoices, AnEmptyListHasNoChoice) {
  EXPECT_THROW(keyed_choices(1, 0, 0).choose({}), Error);
}

}  // namespace
}  // namespace fst
