#include "fst/task/text.h"

#include <map>
#include <set>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "fst/base/error.h"

namespace fst {
namespace {

TEST(Trim, RemovesUnicodeWhiteSpaceAtBothEndsOnly) {
  EXPECT_EQ(trim(" \t\r\n a b\u3000\u00a0\u2009"), "a b");
  EXPECT_EQ(trim("\u2028\u0085"), "");
  EXPECT_EQ(trim(""), "");
}

TEST(Trim, KeepsCharactersThatShareBytesWithWhiteSpace) {
  EXPECT_EQ(trim("\u00e9"), "\u00e9");                // C3 A9
  EXPECT_EQ(trim("\u2013x\u2014"), "\u2013x\u2014");  // E2 80 93, E2 80 94
  EXPECT_EQ(trim("\xA0"), "\xA0");                    // a stray byte is not a no-break space
}

TEST(WithoutWhiteSpace, RemovesItEverywhere) {
  EXPECT_EQ(without_white_space(" 7 ,\n5\u00a0,6\t"), "7,5,6");
}

TEST(AfterThinking, TakesTheTextAfterTheLastEndTag) {
  EXPECT_EQ(after_thinking("<think>a</think>b</think> c"), " c");
  EXPECT_EQ(after_thinking("<think>a"), "<think>a");
}

TEST(LastBoxed, TakesTheLastBoxWithBalancedBraces) {
  EXPECT_EQ(last_boxed("\\boxed{1} \\boxed{2}"), "2");
  EXPECT_EQ(last_boxed("\\boxed{1} \\boxed{2"), "1");
  EXPECT_EQ(last_boxed("\\boxed{\\text{a}{b}}"), "\\text{a}{b}");
  EXPECT_EQ(last_boxed("} \\boxed{}"), "");
  EXPECT_EQ(last_boxed("boxed{1} {2}"), std::nullopt);
}

TEST(LastBoxed, TakesTheInnerOfNestedBoxes) {
  EXPECT_EQ(last_boxed("\\boxed{a\\boxed{b}c}"), "b");
}

TEST(LastBoxed, ReadsAHundredThousandOpenBoxesInOnePass) {
  std::string text;
  for (int i = 0; i < 100'000; ++i) text += "\\boxed{";
  EXPECT_EQ(last_boxed(text), std::nullopt);
  EXPECT_EQ(last_boxed("\\boxed{9}" + text), "9");
}

TEST(InQuotes, CutsBetweenCharactersNotInsideThem) {
  EXPECT_EQ(in_quotes("abc", 3), "\"abc\"");
  EXPECT_EQ(in_quotes("ab\u00e9d", 3), "\"ab...\"");
}

TEST(Shuffled, IsABijectionForEverySizeAndKey) {
  for (const std::int64_t size : {1, 2, 3, 5, 17, 64, 101}) {
    for (const std::uint64_t key : {0u, 1u, 977u}) {
      std::set<std::int64_t> seen;
      for (std::int64_t i = 0; i < size; ++i) {
        const std::int64_t at = shuffled(i, size, key);
        ASSERT_GE(at, 0);
        ASSERT_LT(at, size);
        seen.insert(at);
      }
      EXPECT_EQ(static_cast<std::int64_t>(seen.size()), size);
    }
  }
}

TEST(Shuffled, ReachesAllOrdersOfThreeAboutEquallyOften) {
  std::map<std::vector<std::int64_t>, int> counts;
  const int keys = 1200;
  for (std::uint64_t key = 0; key < keys; ++key) {
    ++counts[{shuffled(0, 3, key), shuffled(1, 3, key), shuffled(2, 3, key)}];
  }
  ASSERT_EQ(counts.size(), 6u);
  // 200 expected, standard deviation sqrt(1200 * 1/6 * 5/6) = 12.9; five of them.
  constexpr int spread = 65;
  for (const auto& [order, count] : counts) EXPECT_NEAR(count, keys / 6, spread);
}

TEST(Shuffled, RefusesAnIndexOutsideTheSize) {
  EXPECT_THROW(shuffled(3, 3, 1), Error);
  EXPECT_THROW(shuffled(-1, 3, 1), Error);
  EXPECT_THROW(shuffled(0, 0, 1), Error);
}

}  // namespace
}  // namespace fst
