#include "kernels/decoding.h"

#include <vector>

#include <gtest/gtest.h>

namespace fst::kernels {
namespace {

using Ints = std::vector<std::int32_t>;

TEST(TakeDrawn, FillsInTheTokensThatWereNotKnownAndNoOthers) {
  const Ints drawn{70, -1, 72, 0};
  Ints tokens{5, -1, -3, 0, -2, -4, 9, -3};
  take_drawn(Cpu{}, tokens.data(), drawn.data(), static_cast<std::int64_t>(tokens.size()));
  EXPECT_EQ(tokens, (Ints{5, 70, 72, 0, 0, 0, 9, 72}));
}

TEST(TestEndings, FindsStopsThenLengthsAndWhatWasNotDrawn) {
  std::vector<std::uint32_t> stops(3);
  for (const int stop : {0, 31, 32, 95}) stops[stop / 32] |= 1u << (stop % 32);
  const Ints drawn{0, 1, 31, 32, 33, 95, 94, -1, 0, 33};
  const Ints places{0, 0, 3, 3, 3, 6, 6, 6, 6, 8}, limits{7, 7, 7, 7, 7, 7, 7, 7, 7, 7};
  Ints endings(drawn.size(), -9);
  test_endings(Cpu{}, endings.data(), drawn.data(), stops.data(), places.data(), limits.data(),
               static_cast<std::int64_t>(drawn.size()));
  const auto none = static_cast<std::int32_t>(Ending::none),
             stop = static_cast<std::int32_t>(Ending::stop),
             length = static_cast<std::int32_t>(Ending::length),
             broken = static_cast<std::int32_t>(Ending::broken);
  EXPECT_EQ(endings, (Ints{stop, none, stop, stop, none, stop, length, broken, stop, length}));
}

}  // namespace
}  // namespace fst::kernels
