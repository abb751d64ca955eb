#include "fst/evolve/minibatch.h"

#include <algorithm>
#include <numeric>

#include <gtest/gtest.h>

#include "fst/base/error.h"

#include "python_random.h"

namespace fst {
namespace {

using Ids = std::vector<int>;

/// The first `count` minibatches of the reference with seed 0.
std::vector<Ids> minibatches(std::int64_t pool, std::int64_t size, std::int64_t count) {
  test::PythonRandom random(0);
  MinibatchSampler sampler;
  std::vector<Ids> drawn;
  for (std::int64_t round = 0; round < count; ++round) {
    drawn.push_back(next_minibatch(sampler, pool, size, {round, 0}, random.choices()));
  }
  return drawn;
}

TEST(Minibatch, ListsOfTheSpecificationComeOut) {
  using Lists = std::vector<Ids>;
  EXPECT_EQ(minibatches(4, 3, 4), (Lists{{2, 0, 1}, {3, 3, 1}, {0, 1, 3}, {2, 2, 3}}));
  EXPECT_EQ(minibatches(8, 3, 6),
            (Lists{{4, 1, 5}, {2, 0, 3}, {7, 6, 6}, {1, 0, 4}, {5, 3, 2}, {7, 6, 6}}));
  EXPECT_EQ(minibatches(7, 3, 6),
            (Lists{{4, 2, 1}, {0, 5, 3}, {6, 6, 3}, {1, 0, 4}, {5, 6, 2}, {3, 3, 2}}));
  EXPECT_EQ(minibatches(6, 2, 6), (Lists{{4, 2}, {1, 0}, {5, 3}, {4, 0}, {1, 5}, {2, 3}}));
  EXPECT_EQ(minibatches(2, 3, 3), (Lists{{0, 1, 1}, {0, 1, 1}, {1, 0, 0}}));
}

TEST(Minibatch, EveryProblemIsSeenOnceInAnEpochThatDividesEvenly) {
  MinibatchSampler sampler;
  Ids seen;
  for (std::int64_t round = 0; round < 5; ++round) {
    const Ids ids = next_minibatch(sampler, 15, 3, {round, 0}, keyed_choices(3, 0, round));
    seen.insert(seen.end(), ids.begin(), ids.end());
  }
  std::sort(seen.begin(), seen.end());
  Ids all(15);
  std::iota(all.begin(), all.end(), 0);
  EXPECT_EQ(seen, all);
}

TEST(Minibatch, AnEmptyPoolIsAnError) {
  MinibatchSampler sampler;
  EXPECT_THROW(next_minibatch(sampler, 0, 3, {0, 0}, keyed_choices(1, 0, 0)), Error);
}

}  // namespace
}  // namespace fst
