#include "kernels/exact_sum.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

#include <gtest/gtest.h>

#include "support/noise.h"

namespace fst::kernels {
namespace {

double sum_of(const std::vector<double>& xs) {
  ExactSum sum;
  for (const double x : xs) sum.add(x);
  return sum.value();
}

/// Any finite double, all exponents alike.
double random_double(test::Noise& noise) {
  for (;;) {
    const std::uint64_t bits = noise.bits();
    double x = 0.0;
    std::memcpy(&x, &bits, sizeof x);
    if (std::isfinite(x)) return x;
  }
}

TEST(ExactSum, OfNothingIsZero) {
  EXPECT_EQ(ExactSum().value(), 0.0);
}

TEST(ExactSum, OfOneNumberIsThatNumber) {
  test::Noise noise(1);
  const double tiny = std::numeric_limits<double>::denorm_min();
  for (const double x : {0.0, 1.0, -1.0, tiny, -tiny, 3 * tiny, std::numeric_limits<double>::min(),
                         std::numeric_limits<double>::max(), -std::numeric_limits<double>::max()}) {
    EXPECT_EQ(sum_of({x}), x);
  }
  for (int i = 0; i < 2000; ++i) {
    const double x = random_double(noise);
    ASSERT_EQ(sum_of({x}), x);
  }
}

// One addition of doubles is correctly rounded, to nearest even: the same must come out here.
TEST(ExactSum, OfTwoNumbersIsTheRoundedSum) {
  test::Noise noise(2);
  for (int i = 0; i < 5000; ++i) {
    const double x = random_double(noise) * 0.25;
    // Near x in magnitude, so that halves and carries occur.
    const double y =
        x * (noise.uniform() - 0.5) * std::ldexp(1.0, -static_cast<int>(noise.below(56)));
    ASSERT_EQ(sum_of({x, y}), x + y) << x << " + " << y;
  }
}

TEST(ExactSum, RoundsHalvesToEven) {
  const double half_ulp = std::ldexp(1.0, -53);
  EXPECT_EQ(sum_of({1.0, half_ulp}), 1.0);
  EXPECT_EQ(sum_of({1.0 + 2 * half_ulp, half_ulp}), 1.0 + 4 * half_ulp);
  EXPECT_EQ(sum_of({1.0, half_ulp, std::numeric_limits<double>::denorm_min()}), 1.0 + 2 * half_ulp);
  EXPECT_EQ(sum_of({-1.0, -half_ulp, -std::numeric_limits<double>::denorm_min()}),
            -1.0 - 2 * half_ulp);
}

TEST(ExactSum, LosesNothingToCancellation) {
  EXPECT_EQ(sum_of({1e300, 1.0, -1e300}), 1.0);
  EXPECT_EQ(sum_of({1e-300, 1e300, -1e300, -1e-300}), 0.0);
  EXPECT_EQ(sum_of({1.7e308, 1.7e308, -1.7e308, 5e-324}), 1.7e308);
}

TEST(ExactSum, BeyondTheRangeIsInfinite) {
  const double most = std::numeric_limits<double>::max();
  EXPECT_EQ(sum_of({most, most}), std::numeric_limits<double>::infinity());
  EXPECT_EQ(sum_of({-most, -most}), -std::numeric_limits<double>::infinity());
}

TEST(ExactSum, IsPoisonedByANumberThatIsNotFinite) {
  const double infinity = std::numeric_limits<double>::infinity();
  EXPECT_TRUE(std::isnan(sum_of({1.0, infinity})));
  EXPECT_TRUE(std::isnan(sum_of({infinity, -infinity, 1.0})));
  EXPECT_TRUE(std::isnan(sum_of({std::numeric_limits<double>::quiet_NaN()})));
}

TEST(ExactSum, DoesNotDependOnOrderSplitOrTransport) {
  test::Noise noise(3);
  std::vector<double> xs(3001);
  for (double& x : xs)
    x = noise.normal() * std::ldexp(1.0, static_cast<int>(noise.below(200)) - 100);
  const double whole = sum_of(xs);
  std::reverse(xs.begin(), xs.end());
  EXPECT_EQ(sum_of(xs), whole);
  std::sort(xs.begin(), xs.end());
  EXPECT_EQ(sum_of(xs), whole);

  for (const std::size_t parts : {2u, 3u, 7u}) {
    ExactSum merged;
    std::array<std::int64_t, ExactSum::words> reduced{};
    for (std::size_t part = 0; part < parts; ++part) {
      ExactSum local;
      for (std::size_t i = part; i < xs.size(); i += parts) local.add(xs[i]);
      merged.merge(local);
      const auto state = local.state();  // what a reduction over ranks adds word by word
      for (std::size_t w = 0; w < state.size(); ++w) reduced[w] += state[w];
    }
    EXPECT_EQ(merged.value(), whole);
    EXPECT_EQ(ExactSum::from_state(reduced).value(), whole);
  }
}

TEST(ExactSum, AgreesWithIntegerArithmeticWhereThatIsExact) {
  test::Noise noise(4);
  ExactSum sum;
  std::int64_t expected = 0;
  for (int i = 0; i < 4001; ++i) {
    const auto x = noise.below(std::int64_t{1} << 40) - (std::int64_t{1} << 39);
    expected += x;
    sum.add(static_cast<double>(x));
    sum.add(0x1p-700);
    sum.add(-0x1p-700);
  }
  EXPECT_EQ(sum.value(), static_cast<double>(expected));
}

TEST(ExactSum, TakesProductsOfFloatsWithoutRounding) {
  ExactSum sum;
  const float a = 1.0f + 0x1p-23f;
  sum.add_product(a, a);  // 1 + 2^-22 + 2^-46
  sum.add(-1.0);
  sum.add(-0x1p-22);
  EXPECT_EQ(sum.value(), 0x1p-46);
  ExactSum least;
  const float tiny = std::numeric_limits<float>::denorm_min();
  least.add_product(tiny, tiny);
  EXPECT_EQ(least.value(), 0x1p-298);
}

}  // namespace
}  // namespace fst::kernels
