#include "fst/base/portable_math.h"

#include <cmath>
#include <limits>

#include <gtest/gtest.h>

namespace fst {
namespace {

constexpr double two_ulp = 4.5e-16;  // 2 * 2^-52, relative

TEST(PortableMath, ExpIsWithinTwoUlpOfTheLibraryInLongDouble) {
  for (int i = -70000; i <= 70000; i += 37) {
    const double x = i * 0.01;
    const double expected = static_cast<double>(std::exp(static_cast<long double>(x)));
    if (expected < std::numeric_limits<double>::min()) continue;  // subnormal: absolute error only
    EXPECT_NEAR(portable_exp(x) / expected, 1.0, two_ulp) << x;
  }
}

TEST(PortableMath, ExpHasExactEnds) {
  EXPECT_EQ(portable_exp(0.0), 1.0);
  EXPECT_EQ(portable_exp(-1000.0), 0.0);
  EXPECT_TRUE(std::isinf(portable_exp(710.0)));
  EXPECT_TRUE(std::isnan(portable_exp(std::nan(""))));
}

TEST(PortableMath, LogIsWithinTwoUlpOfTheLibraryInLongDouble) {
  for (double x = 1e-300; x < 1e300; x *= 1.37) {
    const double expected = static_cast<double>(std::log(static_cast<long double>(x)));
    EXPECT_NEAR(portable_log(x), expected, two_ulp * std::abs(expected) + 1e-18) << x;
  }
}

TEST(PortableMath, LogHasExactEnds) {
  EXPECT_EQ(portable_log(1.0), 0.0);
  EXPECT_TRUE(std::isinf(portable_log(0.0)));
  EXPECT_TRUE(std::isnan(portable_log(-1.0)));
}

}  // namespace
}  // namespace fst
