#include "src/tensor/attention_pieces.h"

#include <vector>

#include <gtest/gtest.h>

namespace fst {
namespace {

using Pieces = std::vector<AttentionPiece>;
constexpr std::int64_t plenty = std::int64_t{1} << 40;

std::vector<std::int32_t> starts(const std::vector<std::int32_t>& lengths) {
  std::vector<std::int32_t> starts{0};
  for (const std::int32_t length : lengths) starts.push_back(starts.back() + length);
  return starts;
}

TEST(AttentionPieces, PlansHaveFourSizesFromOnePowerOfTwoToTheNext) {
  const std::vector<std::pair<std::int64_t, std::int64_t>> sizes{
      {1, 128},     {128, 128},   {129, 256},   {1000, 1024}, {1023, 1024},  {1024, 1024},
      {1025, 1280}, {1281, 1536}, {2047, 2048}, {2049, 2560}, {32768, 32768}};
  for (const auto& [longest, rows] : sizes) EXPECT_EQ(plan_rows(longest), rows) << longest;
}

TEST(AttentionPieces, AreOfPowersOfTwoOfSequencesInOrder) {
  const auto batch = starts({5, 7, 200, 3, 130, 9, 300});
  EXPECT_EQ(attention_pieces(batch, 2, 1, plenty),
            (Pieces{{0, 4, 256, 0, 2}, {4, 2, 256, 0, 2}, {6, 1, 384, 0, 2}}));
  EXPECT_EQ(attention_pieces(starts({4}), 3, 8, plenty), (Pieces{{0, 1, 128, 0, 3}}));
}

TEST(AttentionPieces, TakeNoMoreThanTheRoomWhileThereIsSomethingToCut) {
  constexpr std::int64_t pairs = 128 * 128;
  const auto batch = starts({10, 20, 30});
  // Two sequences of two heads, at four bytes a pair.
  EXPECT_EQ(attention_pieces(batch, 2, 4, 4 * 4 * pairs),
            (Pieces{{0, 2, 128, 0, 2}, {2, 1, 128, 0, 2}}));
  EXPECT_EQ(attention_pieces(batch, 2, 4, 4 * 4 * pairs - 1),
            (Pieces{{0, 1, 128, 0, 2}, {1, 1, 128, 0, 2}, {2, 1, 128, 0, 2}}));
  // Six heads in threes, twos and ones.
  EXPECT_EQ(attention_pieces(starts({10}), 6, 1, 3 * pairs),
            (Pieces{{0, 1, 128, 0, 3}, {0, 1, 128, 3, 3}}));
  EXPECT_EQ(attention_pieces(starts({10}), 6, 1, 3 * pairs - 1).size(), 3u);
  EXPECT_EQ(attention_pieces(starts({10}), 6, 1, 1).size(), 6u);
}

TEST(AttentionPieces, OfOneLongSequenceAmongShortOnesCutTheLongOneAlone) {
  constexpr std::int64_t pairs = 1024 * 1024;
  const auto batch = starts({100, 100, 100, 100, 1000});
  EXPECT_EQ(attention_pieces(batch, 2, 1, pairs),
            (Pieces{{0, 4, 128, 0, 2}, {4, 1, 1024, 0, 1}, {4, 1, 1024, 1, 1}}));
}

}  // namespace
}  // namespace fst
