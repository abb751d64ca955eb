#include "kernels/bf16.h"

#include <bit>
#include <cmath>
#include <cstdint>

#include <gtest/gtest.h>

namespace fst::kernels {
namespace {

TEST(Bf16, NarrowingRoundsToTheNearestEvenNumber) {
  for (std::uint32_t i = 0; i < 0x10000u; ++i) {
    const Bf16 x{static_cast<std::uint16_t>(i)};
    const float value = widened(x);
    if (std::isnan(value)) {
      EXPECT_TRUE(std::isnan(widened(narrowed(value))));
      continue;
    }
    EXPECT_EQ(narrowed(value).bits, i);
    if (std::isinf(value)) continue;
    const std::uint32_t tie = (i << 16) + 0x8000u;
    const std::uint32_t even = i + (i & 1u);
    EXPECT_EQ(narrowed(std::bit_cast<float>(tie - 1)).bits, i);
    EXPECT_EQ(narrowed(std::bit_cast<float>(tie)).bits, even);
    EXPECT_EQ(narrowed(std::bit_cast<float>(tie + 1)).bits, i + 1);
  }
}

TEST(Bf16, NarrowingKeepsNansWhosePayloadIsInTheLowerHalf) {
  EXPECT_TRUE(std::isnan(widened(narrowed(std::bit_cast<float>(0x7f800001u)))));
  EXPECT_TRUE(std::isnan(widened(narrowed(std::bit_cast<float>(0xffffffffu)))));
}

}  // namespace
}  // namespace fst::kernels
