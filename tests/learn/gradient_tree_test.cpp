#include "fst/learn/gradient_tree.h"

#include <set>

#include <gtest/gtest.h>

#include "support/tiny_model.h"

namespace fst {
namespace {

TEST(PartOf, PartsFollowEachOtherAndDifferByOneAtMost) {
  for (const std::int64_t count : {0, 1, 5, 8, 31, 1000003}) {
    for (const std::int64_t parts : {1, 2, 3, 4, 7, 8, 64}) {
      std::int64_t next = 0;
      for (std::int64_t i = 0; i < parts; ++i) {
        const Range part = part_of(count, parts, i);
        EXPECT_EQ(part.begin, next);
        EXPECT_GE(part.size(), count / parts);
        EXPECT_LE(part.size(), count / parts + 1);
        next = part.end;
      }
      EXPECT_EQ(next, count);
    }
  }
}

// The memory plan counts on it. Every gradient that the tree holds is handed out for a leaf first.
TEST(GradientTree, HoldsNoMoreGradientsThanItSays) {
  const std::int64_t fewest[] = {1, 2, 3, 3, 4, 4, 4, 4, 5};  // 1 + log2(leaves), rounded up
  for (std::int64_t leaves = 1; leaves <= 9; ++leaves) {
    EXPECT_EQ(GradientTree::held_gradients(leaves), fewest[leaves - 1]);
    const Communicator self = Communicator::self();
    GradientTree tree(testing::tiny_config(), Device::cpu(), self, leaves);
    std::set<const Gradients*> held;
    for (int step = 0; step < 2; ++step) {
      tree.reduce([&](std::int64_t, Gradients& gradients) { held.insert(&gradients); });
    }
    EXPECT_EQ(static_cast<std::int64_t>(held.size()), fewest[leaves - 1]) << leaves << " leaves";
  }
}

}  // namespace
}  // namespace fst
