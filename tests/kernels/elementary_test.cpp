#include "kernels/elementary.h"

#include <cmath>
#include <cstring>
#include <limits>

#include <gtest/gtest.h>

#include "isa.h"

namespace fst::kernels {
namespace {

using test::differing;
using test::isas;

// Promised in kernels/elementary.h; 0.5 is the rounding of the result itself.
constexpr double ulp_bound = 1.5;
// The tables round to float32: 1e-15 leaves them wrong only within 1e-8 of a rounding boundary.
constexpr double double_bound = 1e-15;
constexpr float infinity = std::numeric_limits<float>::infinity();

double error_in_ulp(float got, long double want) {
  if (!std::isfinite(got)) return std::fabs(want) > 3.4028235e38L ? 0.0 : 1e30;
  int exponent = 0;
  std::frexp(static_cast<double>(want), &exponent);
  const int ulp_exponent = std::max(exponent - 24, -149);
  return static_cast<double>(std::fabs(static_cast<long double>(got) - want) /
                             std::ldexp(1.0L, ulp_exponent));
}

/// Every `step`-th float of all 2^32 bit patterns.
std::vector<float> floats(std::uint32_t step) {
  std::vector<float> all;
  for (std::uint64_t b = 0; b < (std::uint64_t{1} << 32); b += step) {
    const auto bits = static_cast<std::uint32_t>(b);
    float x = 0;
    std::memcpy(&x, &bits, sizeof x);
    all.push_back(x);
  }
  return all;
}

std::vector<float> between(float low, float high, int count) {
  std::vector<float> all;
  for (int i = 0; i < count; ++i) {
    all.push_back(low + (high - low) * static_cast<float>(i) / static_cast<float>(count));
  }
  return all;
}

TEST(Elementary, ExpIsAccurateDownToTheSmallestDenormal) {
  const Cpu cpu{best_isa(), nullptr};
  for (const auto& x : {between(-104.5f, 89.0f, 200001), floats(65521)}) {
    std::vector<float> y(x.size());
    exp_each(cpu, y.data(), x.data(), static_cast<std::int64_t>(x.size()));
    for (std::size_t i = 0; i < x.size(); ++i) {
      if (std::isnan(x[i])) {
        ASSERT_TRUE(std::isnan(y[i]));
      } else {
        ASSERT_LT(error_in_ulp(y[i], std::exp(static_cast<long double>(x[i]))), ulp_bound) << x[i];
      }
    }
  }
}

TEST(Elementary, LogIsAccurateOverAllFloats) {
  const Cpu cpu{best_isa(), nullptr};
  for (const auto& x : {between(0.5f, 2.0f, 200001), floats(65521)}) {
    std::vector<float> y(x.size());
    log_each(cpu, y.data(), x.data(), static_cast<std::int64_t>(x.size()));
    for (std::size_t i = 0; i < x.size(); ++i) {
      if (std::isnan(x[i]) || x[i] < 0.0f) {
        ASSERT_TRUE(std::isnan(y[i])) << x[i];
      } else if (std::isfinite(x[i]) && x[i] > 0.0f) {
        ASSERT_LT(error_in_ulp(y[i], std::log(static_cast<long double>(x[i]))), ulp_bound) << x[i];
      }
    }
  }
}

TEST(Elementary, SpecialValuesAreThoseOfTheRealFunctions) {
  const std::vector<float> x{-infinity, infinity, 0.0f, -0.0f, 1.0f, -200.0f, 200.0f};
  for (const Isa isa : isas()) {
    const Cpu cpu{isa, nullptr};
    std::vector<float> e(x.size()), l(x.size());
    exp_each(cpu, e.data(), x.data(), static_cast<std::int64_t>(x.size()));
    log_each(cpu, l.data(), x.data(), static_cast<std::int64_t>(x.size()));
    EXPECT_EQ(e[0], 0.0f);
    EXPECT_EQ(e[1], infinity);
    EXPECT_EQ(e[2], 1.0f);
    EXPECT_EQ(e[3], 1.0f);
    EXPECT_EQ(e[5], 0.0f);
    EXPECT_EQ(e[6], infinity);
    EXPECT_TRUE(std::isnan(l[0]));
    EXPECT_EQ(l[1], infinity);
    EXPECT_EQ(l[2], -infinity);
    EXPECT_EQ(l[3], -infinity);
    EXPECT_EQ(l[4], 0.0f);
  }
}

TEST(Elementary, BitsAreTheSameOnAllInstructionSets) {
  const auto x = floats(130003);
  const auto n = static_cast<std::int64_t>(x.size());
  std::vector<float> exp0, log0;
  for (const Isa isa : isas()) {
    const Cpu cpu{isa, nullptr};
    std::vector<float> e(x.size()), l(x.size());
    exp_each(cpu, e.data(), x.data(), n);
    log_each(cpu, l.data(), x.data(), n);
    if (exp0.empty()) exp0 = e, log0 = l;
    EXPECT_EQ(differing(e, exp0), 0) << name_of(isa);
    EXPECT_EQ(differing(l, log0), 0) << name_of(isa);
  }
}

TEST(Elementary, RowDotFollowsTheSixteenLaneOrder) {
  for (const std::int64_t n : {1, 7, 16, 35, 131}) {
    std::vector<float> x, y;
    for (std::int64_t i = 0; i < n; ++i) {
      x.push_back(std::sin(static_cast<float>(3 * i + 1)) * 3.0f);
      y.push_back(std::cos(static_cast<float>(7 * i + 2)));
    }
    float lanes[16] = {};
    for (std::int64_t i = 0; i < n; ++i) {
      const auto at = static_cast<std::size_t>(i);
      lanes[i % 16] = std::fma(x[at], y[at], lanes[i % 16]);
    }
    for (int half = 8; half >= 1; half /= 2) {
      for (int j = 0; j < half; ++j) lanes[j] += lanes[j + half];
    }
    for (const Isa isa : isas()) {
      const float got = row_dot(Cpu{isa, nullptr}, x.data(), y.data(), n);
      EXPECT_EQ(differing(&got, lanes, 1), 0) << name_of(isa) << " n " << n;
    }
  }
}

TEST(Elementary, SineAndCosineHoldDoublePrecisionForLargeAngles) {
  std::vector<double> x;
  for (int i = -20000; i < 20000; ++i) x.push_back(static_cast<float>(i) * 2.6180339f);
  for (int i = 1; i < 2000; ++i) x.push_back(static_cast<double>(i) * 524287.25);
  std::vector<double> sine0, cosine0;
  for (const Isa isa : isas()) {
    std::vector<double> s(x.size()), c(x.size());
    sine_cosine_each(Cpu{isa, nullptr}, s.data(), c.data(), x.data(),
                     static_cast<std::int64_t>(x.size()));
    if (sine0.empty()) sine0 = s, cosine0 = c;
    EXPECT_EQ(differing(s, sine0), 0) << name_of(isa);
    EXPECT_EQ(differing(c, cosine0), 0) << name_of(isa);
  }
  for (std::size_t i = 0; i < x.size(); ++i) {
    const long double exact = x[i];
    ASSERT_NEAR(sine0[i], static_cast<double>(std::sin(exact)), double_bound) << x[i];
    ASSERT_NEAR(cosine0[i], static_cast<double>(std::cos(exact)), double_bound) << x[i];
  }
}

TEST(Elementary, PowerHoldsDoublePrecision) {
  for (const double base : {1.5, 2.0, 10000.0, 1e6, 5e6}) {
    for (int i = -64; i <= 64; ++i) {
      const double exponent = i / 64.0;
      const auto exact = static_cast<double>(
          std::pow(static_cast<long double>(base), static_cast<long double>(exponent)));
      double first = 0.0;
      for (const Isa isa : isas()) {
        const double got = power(Cpu{isa, nullptr}, base, exponent);
        EXPECT_NEAR(got / exact, 1.0, 20 * double_bound) << base << " ^ " << exponent;
        if (isa == isas().front()) first = got;
        EXPECT_EQ(got, first) << name_of(isa);
      }
    }
  }
}

}  // namespace
}  // namespace fst::kernels
