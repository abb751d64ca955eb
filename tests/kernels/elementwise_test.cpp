#include "kernels/elementwise.h"

#include <bit>
#include <cmath>

#include <gtest/gtest.h>

#include "halves.h"
#include "isa.h"
#include "kernels/thread_pool.h"
#include "noise.h"

namespace fst::kernels {
namespace {

using test::differing;
using test::isas;
using test::Noise;
using test::rounded;
using test::stored_as;

constexpr std::uint32_t patterns = 0x10000;  // of bfloat16

std::vector<Bf16> every_pattern() {
  std::vector<Bf16> x;
  for (std::uint32_t i = 0; i < patterns; ++i) x.push_back({static_cast<std::uint16_t>(i)});
  return x;
}

/// Each bfloat16, and what lies just below, at and just above the tie that follows it: denormal
/// numbers, infinities and NaNs (those with a payload in the lower half alone too) are among them.
std::vector<float> around_every_tie() {
  std::vector<float> x;
  for (std::uint32_t i = 0; i < patterns; ++i) {
    for (const std::uint32_t lower : {0x0u, 0x1u, 0x7fffu, 0x8000u, 0x8001u, 0xffffu}) {
      x.push_back(std::bit_cast<float>((i << 16) + lower));
    }
  }
  return x;
}

// These two are the loads and stores of bfloat16 lanes themselves (kernels/cpu/vec.h).
TEST(Elementwise, WideningIsExactForEveryPatternOnAllInstructionSets) {
  const std::vector<Bf16> x = every_pattern();
  for (const Isa isa : isas()) {
    std::vector<float> y(x.size());
    widen(Cpu{isa, nullptr}, y.data(), x.data(), Storage::bf16, patterns);
    for (std::size_t i = 0; i < x.size(); ++i) {
      ASSERT_EQ(std::bit_cast<std::uint32_t>(y[i]), i << 16) << name_of(isa);
    }
  }
}

TEST(Elementwise, NarrowingIsTheDefinitionAroundEveryTieOnAllInstructionSets) {
  const std::vector<float> x = around_every_tie();
  for (const Isa isa : isas()) {
    std::vector<Bf16> y(x.size());
    narrow(Cpu{isa, nullptr}, y.data(), Storage::bf16, x.data(),
           static_cast<std::int64_t>(x.size()));
    for (std::size_t i = 0; i < x.size(); ++i) {
      ASSERT_EQ(y[i].bits, narrowed(x[i]).bits)
          << name_of(isa) << " bits " << std::hex << std::bit_cast<std::uint32_t>(x[i]);
    }
  }
}

TEST(Elementwise, ConversionOfAnyLengthTouchesNothingBehind) {
  Noise noise(1);
  const std::vector<float> x = noise.normals(40);
  const std::vector<Bf16> halves = test::narrowed(x);
  for (const Isa isa : isas()) {
    const Cpu cpu{isa, nullptr};
    for (std::int64_t n = 0; n < 40; ++n) {
      const auto end = static_cast<std::size_t>(n);
      std::vector<Bf16> narrow_y(41, Bf16{0x1234});
      narrow(cpu, narrow_y.data(), Storage::bf16, x.data(), n);
      EXPECT_EQ(differing(test::widened(narrow_y).data(), test::widened(halves).data(), end), 0);
      EXPECT_EQ(narrow_y[end].bits, 0x1234) << name_of(isa);
      // An array of just these elements, for the sanitizers to see what is read behind them.
      const std::vector<Bf16> exact(halves.begin(), halves.begin() + n);
      std::vector<float> wide(41, 9.0f);
      widen(cpu, wide.data(), exact.data(), Storage::bf16, n);
      EXPECT_EQ(differing(wide.data(), test::widened(halves).data(), end), 0);
      EXPECT_EQ(wide[end], 9.0f) << name_of(isa);
    }
  }
}

// Rows of odd length in wider matrices, and one row long enough for several threads.
struct Shape {
  std::int64_t rows, columns, ldy, ldx;
};
const Shape shapes[] = {{5, 37, 41, 38}, {3, 16, 16, 16}, {1, 70001, 70001, 70001}};

TEST(Elementwise, AddsInFloat32AndRoundsOnceOnAllInstructionSetsAndThreads) {
  ThreadPool pool(2);
  for (const Shape& s : shapes) {
    Noise noise(2);
    const auto y = rounded(noise.normals(s.rows * s.ldy)), x = noise.normals(s.rows * s.ldx);
    std::vector<float> want = y, want_of_halves = y;
    for (std::int64_t r = 0; r < s.rows; ++r) {
      for (std::int64_t c = 0; c < s.columns; ++c) {
        const auto to = static_cast<std::size_t>(r * s.ldy + c);
        const float addend = x[static_cast<std::size_t>(r * s.ldx + c)];
        want[to] = widened(narrowed(y[to] + addend));
        want_of_halves[to] = widened(narrowed(y[to] + widened(narrowed(addend))));
      }
    }
    const std::vector<Bf16> halves = test::narrowed(x);
    for (const Isa isa : isas()) {
      for (ThreadPool* threads : {static_cast<ThreadPool*>(nullptr), &pool}) {
        const Cpu cpu{isa, threads};
        std::vector<Bf16> got = test::narrowed(y), got_of_halves = got;
        add(cpu, got.data(), s.ldy, x.data(), s.ldx, s.rows, s.columns);
        add(cpu, got_of_halves.data(), s.ldy, halves.data(), s.ldx, s.rows, s.columns);
        EXPECT_EQ(differing(test::widened(got), want), 0) << name_of(isa);
        EXPECT_EQ(differing(test::widened(got_of_halves), want_of_halves), 0) << name_of(isa);
      }
    }
  }
}

template <class T>
class RowsOf : public testing::Test {};
using Types = testing::Types<float, Bf16>;
TYPED_TEST_SUITE(RowsOf, Types);

TYPED_TEST(RowsOf, AreFilledCopiedAndGatheredWithoutTouchingTheGaps) {
  const std::int64_t rows = 5, columns = 37, ldy = 41, ldx = 39;
  const std::vector<std::int32_t> index{3, 0, 3, 4, 1};
  const float value = 1.2345678f;
  Noise noise(3);
  const auto x = stored_as<TypeParam>(noise.normals(rows * ldx));
  for (const Isa isa : isas()) {
    const Cpu cpu{isa, nullptr};
    auto filled = stored_as<TypeParam>(std::vector<float>(static_cast<std::size_t>(rows * ldy), 9));
    auto copied = filled, gathered = filled;
    fill(cpu, filled.data(), ldy, value, rows, columns);
    copy_rows(cpu, copied.data(), ldy, x.data(), ldx, rows, columns);
    gather_rows(cpu, gathered.data(), ldy, x.data(), ldx, index.data(), rows, columns);
    for (std::int64_t r = 0; r < rows; ++r) {
      for (std::int64_t c = 0; c < ldy; ++c) {
        const auto at = static_cast<std::size_t>(r * ldy + c);
        const auto from = [&](std::int64_t row) {
          return c < columns ? widened(x[static_cast<std::size_t>(row * ldx + c)]) : 9.0f;
        };
        const float one = widened(narrowed_to<TypeParam>(value));
        ASSERT_EQ(widened(filled[at]), c < columns ? one : 9.0f);
        ASSERT_EQ(widened(copied[at]), from(r));
        ASSERT_EQ(widened(gathered[at]), from(index[static_cast<std::size_t>(r)]));
      }
    }
  }
}

TYPED_TEST(RowsOf, AreAddedInTheOrderOfTheirIndicesRoundingEachTime) {
  const std::int64_t count = 300, columns = 133, rows = 4, lddx = 135, lddy = 134;
  Noise noise(4);
  const auto start = stored_as<TypeParam>(noise.normals(rows * lddx));
  const auto dy = stored_as<TypeParam>(noise.normals(count * lddy));
  std::vector<std::int32_t> index;
  for (std::int64_t i = 0; i < count; ++i) {
    index.push_back(static_cast<std::int32_t>(noise.below(rows)));
  }
  auto want = start;
  for (std::int64_t i = 0; i < count; ++i) {
    for (std::int64_t c = 0; c < columns; ++c) {
      TypeParam& to = want[static_cast<std::size_t>(index[static_cast<std::size_t>(i)] * lddx + c)];
      const float sum = widened(to) + widened(dy[static_cast<std::size_t>(i * lddy + c)]);
      to = narrowed_to<TypeParam>(sum);
    }
  }
  ThreadPool pool(3);
  for (const Isa isa : isas()) {
    for (ThreadPool* threads : {static_cast<ThreadPool*>(nullptr), &pool}) {
      auto got = start;
      scatter_add_rows(Cpu{isa, threads}, got.data(), lddx, dy.data(), lddy, index.data(), count,
                       columns);
      EXPECT_EQ(differing(test::widened(got), test::widened(want)), 0) << name_of(isa);
    }
  }
}

}  // namespace
}  // namespace fst::kernels
