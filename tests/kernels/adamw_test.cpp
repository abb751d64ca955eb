#include "kernels/adamw.h"

#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include <gtest/gtest.h>

#include "kernels/thread_pool.h"
#include "support/isa.h"
#include "support/noise.h"

namespace fst::kernels {
namespace {

const AdamWScalars scalars{0.5f, 0.999f, 0.9f, 0.1f, 0.99f, 0.01f, 2e-3f, 3.0f, 1e-8f};

struct State {
  std::vector<float> parameter, m, v, gradient;
};

State state_of(std::int64_t n) {
  test::Noise noise(17);
  State s{noise.normals(n), noise.normals(n, 0.1), noise.normals(n), noise.normals(n)};
  for (float& v : s.v) v = v * v;
  return s;
}

State stepped(const Cpu& cpu, State s) {
  adamw(cpu, s.parameter.data(), s.m.data(), s.v.data(), s.gradient.data(),
        static_cast<std::int64_t>(s.parameter.size()), scalars);
  return s;
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return test::differing(a, b) == 0;
}

TEST(AdamW, FollowsTheFormulaInDouble) {
  const State before = state_of(37);
  const State after = stepped(Cpu{best_isa(), nullptr}, before);
  const double tolerance = 2e-6;  // a dozen roundings of numbers of order one
  for (std::size_t i = 0; i < before.m.size(); ++i) {
    const double g = 0.5 * static_cast<double>(before.gradient[i]);
    const double m = 0.9 * static_cast<double>(before.m[i]) + 0.1 * g;
    const double v = 0.99 * static_cast<double>(before.v[i]) + 0.01 * g * g;
    const double p =
        0.999 * static_cast<double>(before.parameter[i]) - 2e-3 * m / (std::sqrt(v) * 3.0 + 1e-8);
    EXPECT_NEAR(after.m[i], m, tolerance);
    EXPECT_NEAR(after.v[i], v, tolerance * (1.0 + v));
    EXPECT_NEAR(after.parameter[i], p, tolerance * (1.0 + std::fabs(p)));
  }
}

TEST(AdamW, GivesTheSameBitsOnEveryInstructionSetAndForEveryCut) {
  const std::int64_t n = 40001;
  const State before = state_of(n);
  const State expected = stepped(Cpu{Isa::scalar, nullptr}, before);
  ThreadPool pool(3);
  for (const Isa isa : test::isas()) {
    const State whole = stepped(Cpu{isa, &pool}, before);
    EXPECT_TRUE(same_bits(whole.parameter, expected.parameter));
    EXPECT_TRUE(same_bits(whole.m, expected.m));
    EXPECT_TRUE(same_bits(whole.v, expected.v));
    State cut = before;
    for (const std::int64_t begin : {0, 7, 1000}) {
      const std::int64_t end = begin == 0 ? 7 : begin == 7 ? 1000 : n;
      adamw(Cpu{isa, nullptr}, cut.parameter.data() + begin, cut.m.data() + begin,
            cut.v.data() + begin, cut.gradient.data() + begin, end - begin, scalars);
    }
    EXPECT_TRUE(same_bits(cut.parameter, expected.parameter));
  }
}

double plain_squares(const std::vector<float>& x) {
  ExactSum sum;
  for (const float value : x) sum.add_product(value, value);
  return sum.value();
}

double fast_squares(const Cpu& cpu, const std::vector<float>& x) {
  ExactSum sum;
  sum_of_squares(cpu, sum, x.data(), static_cast<std::int64_t>(x.size()));
  return sum.value();
}

TEST(SumOfSquares, IsExactForEverySpreadOfMagnitudes) {
  ThreadPool pool(3);
  for (const int spread : {1, 18, 21, 40, 120}) {
    for (const std::int64_t n : {0, 1, 15, 1023, 1024, 1025, 70001}) {
      test::Noise noise(static_cast<std::uint32_t>(n + spread));
      std::vector<float> x = noise.normals(n);
      for (float& value : x) {
        value = std::ldexp(value, -static_cast<int>(noise.below(spread)));
      }
      const double expected = plain_squares(x);
      for (const Isa isa : test::isas()) {
        EXPECT_EQ(fast_squares(Cpu{isa, nullptr}, x), expected);
        EXPECT_EQ(fast_squares(Cpu{isa, &pool}, x), expected);
      }
    }
  }
}

// The value rounds to 53 bits; here every bit down to the last square's must have been kept.
TEST(SumOfSquares, KeepsTheSmallestElementBesideTheGreatest) {
  for (int apart = 0; apart < 149; ++apart) {
    std::vector<float> x(100, 0.0f);
    x[3] = 1.0f + 0x1p-23f;
    x[77] = std::ldexp(1.0f + 0x1p-22f, -apart);
    ExactSum sum;
    sum_of_squares(Cpu{best_isa(), nullptr}, sum, x.data(), 100);
    sum.add(-static_cast<double>(x[3]) * static_cast<double>(x[3]));
    EXPECT_EQ(sum.value(), static_cast<double>(x[77]) * static_cast<double>(x[77])) << apart;
  }
}

TEST(SumOfSquares, TakesTheExtremesOfTheRange) {
  const Cpu cpu{best_isa(), nullptr};
  const std::vector<float> largest(2049, std::numeric_limits<float>::max());
  const std::vector<float> least(2049, std::numeric_limits<float>::denorm_min());
  EXPECT_EQ(fast_squares(cpu, largest), plain_squares(largest));
  EXPECT_EQ(fast_squares(cpu, least), 2049 * 0x1p-298);
}

TEST(SumOfSquares, IsPoisonedByAnElementThatIsNotFinite) {
  for (const float bad :
       {std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()}) {
    std::vector<float> x(1500, 1.0f);
    x[1400] = bad;
    EXPECT_TRUE(std::isnan(fast_squares(Cpu{best_isa(), nullptr}, x)));
  }
}

}  // namespace
}  // namespace fst::kernels
