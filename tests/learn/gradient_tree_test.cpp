#include "fst/learn/gradient_tree.h"

#include <gtest/gtest.h>

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

}  // namespace
}  // namespace fst
