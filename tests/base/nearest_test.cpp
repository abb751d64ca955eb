#include "fst/base/nearest.h"

#include <array>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <gtest/gtest.h>

#include "fst/base/error.h"

namespace fst {
namespace {

constexpr std::array<std::string_view, 4> words = {"world", "star_graph", "exact", "A"};

TEST(Nearest, FindsTheWordWithTheFewestEdits) {
  EXPECT_EQ(nearest("wrld", words), "world");
  EXPECT_EQ(nearest("stargraf", words), "star_graph");
  EXPECT_EQ(nearest("exakt", words), "exact");
}

TEST(Nearest, HoldsAChangeOfCaseForLessThanAChangeOfLetter) {
  constexpr std::array<std::string_view, 2> letters = {"B", "A"};
  EXPECT_EQ(nearest("a", letters), "A");
  EXPECT_EQ(nearest("b", letters), "B");
}

TEST(Nearest, TakesTheFirstOnATie) {
  constexpr std::array<std::string_view, 2> letters = {"B", "A"};
  EXPECT_EQ(nearest("x", letters), "B");
  EXPECT_EQ(nearest("", letters), "B");
}

TEST(Nearest, RefusesToChooseAmongNothing) {
  EXPECT_THROW(nearest("x", std::span<const std::string_view>()), Error);
  EXPECT_THROW(nearest("x", std::vector<std::string>()), Error);
}

}  // namespace
}  // namespace fst
