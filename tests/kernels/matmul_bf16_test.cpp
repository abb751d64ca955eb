#include "kernels/matmul_bf16.h"

#include <bit>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <string>
#include <vector>
#include <xmmintrin.h>

#include <gtest/gtest.h>

#include "kernels/thread_pool.h"
#include "matmul_bf16_support.h"

namespace fst::kernels {
namespace {

using namespace bf16_test;

struct Shape {
  std::int64_t rows, n, k;
};
// Odd on purpose, then the shapes around which the blocking changes: one row, one column, leaves
// that are empty or shorter than a block, several strips of rows and chunks of columns.
const Shape shapes[] = {{1, 1, 1},    {3, 5, 7},     {1, 33, 129},   {17, 31, 5},  {29, 70, 130},
                        {16, 64, 64}, {7, 37, 2051}, {65, 33, 1100}, {395, 3, 67}, {2, 1061, 45}};

class MatmulBf16 : public testing::TestWithParam<Isa> {
 protected:
  void SetUp() override {
    if (!supports(GetParam())) GTEST_SKIP() << "not run: this CPU lacks " << name_of(GetParam());
  }
  /// Runs `check` with one thread and with three.
  template <class F>
  void for_threads(F&& check) {
    check(Cpu{GetParam(), nullptr});
    check(Cpu{GetParam(), &pool_});
  }
  ThreadPool pool_{3};
};

Halves packed(const Cpu& cpu, const Halves& weight, std::int64_t n, std::int64_t k,
              SumOrder order) {
  Halves panels(index(packed_weight_size(n, k, order)), Bf16{0x7fc0});  // NaN where not written
  pack_weight(cpu, panels.data(), weight.data(), n, k, order);
  return panels;
}

/// y [rows, n] of one call on contiguous matrices.
Floats forward(const Cpu& cpu, const Halves& x, const Halves& weight, std::int64_t rows,
               std::int64_t n, std::int64_t k, SumOrder order) {
  Floats y(index(rows * n));
  linear_forward(cpu, y.data(), n, x.data(), k, packed(cpu, weight, n, k, order).data(), nullptr,
                 rows, n, k, order, Update::overwrite);
  return y;
}

Floats old_contents(std::int64_t count, float) {
  return random_floats(count, 4);
}
Halves old_contents(std::int64_t count, Bf16) {
  return random_halves(count, 4);
}

template <class Y>
void check_forward(const Cpu& cpu, const Shape& shape, SumOrder order, const Floats& sums,
                   const Halves& x, const Halves& weight) {
  const auto& [rows, n, k] = shape;
  const std::int64_t ldx = k + 3, ldy = n + 2;
  const Floats bias = random_floats(n, 3);
  for (const Update how : {Update::overwrite, Update::add}) {
    const float* b = how == Update::add ? bias.data() : nullptr;
    auto y = old_contents(rows * ldy, Y{}), expected = y;
    for (std::int64_t i = 0; i < rows * n; ++i) {
      const float r = b == nullptr ? sums[index(i)] : sums[index(i)] + b[i % n];
      update(expected[index(i / n * ldy + i % n)], r, how);
    }
    linear_forward(cpu, y.data(), ldy, x.data(), ldx, packed(cpu, weight, n, k, order).data(), b,
                   rows, n, k, order, how);
    EXPECT_EQ(differing_bits(y, expected), 0) << rows << "x" << n << "x" << k;
  }
}

TEST_P(MatmulBf16, ForwardHasTheBitsOfItsDefinition) {
  for (const Shape& shape : shapes) {
    const auto& [rows, n, k] = shape;
    const std::int64_t ldx = k + 3;
    const Halves x = random_halves(rows * ldx, 1), weight = random_halves(n * k, 2);
    for (const SumOrder order : orders) {
      Floats sums;
      for (std::int64_t i = 0; i < rows * n; ++i) {
        sums.push_back(
            product(order, {&x[index(i / n * ldx)], 1}, {&weight[index(i % n * k)], 1}, 0, k));
      }
      for_threads([&](const Cpu& cpu) {
        check_forward<float>(cpu, shape, order, sums, x, weight);
        check_forward<Bf16>(cpu, shape, order, sums, x, weight);
      });
    }
  }
}

template <class Y>
void check_backward_input(const Cpu& cpu, std::int64_t rows, std::int64_t k, SumOrder order,
                          const std::vector<std::int64_t>& sizes, const Floats& sums,
                          const Halves& dy, const Halves& weight) {
  const std::int64_t n = std::accumulate(sizes.begin(), sizes.end(), std::int64_t{0});
  const std::int64_t lddx = k + 1, lddy = n + 5;
  for (const Update how : {Update::overwrite, Update::add}) {
    auto dx = old_contents(rows * lddx, Y{}), expected = dx;
    for (std::int64_t i = 0; i < rows * k; ++i) {
      update(expected[index(i / k * lddx + i % k)], sums[index(i)], how);
    }
    if (sizes.size() == 1) {
      linear_backward_input(cpu, dx.data(), lddx, dy.data(), lddy, weight.data(), k, rows, n, k,
                            order, how);
    } else {
      linear_backward_input(cpu, dx.data(), lddx, dy.data(), lddy, weight.data(), k, rows,
                            sizes.data(), static_cast<std::int64_t>(sizes.size()), k, order, how);
    }
    EXPECT_EQ(differing_bits(dx, expected), 0) << rows << "x" << k << "x" << n;
  }
}

TEST_P(MatmulBf16, BackwardInputAddsMatricesOfTheBitsOfTheirDefinition) {
  const struct {
    std::int64_t rows, k;
    std::vector<std::int64_t> sizes;
  } cases[] = {{1, 1, {1}},     {3, 5, {7}},     {19, 33, {301}},        {9, 545, {39}},
               {201, 45, {33}}, {7, 45, {3, 5}}, {7, 35, {129, 64, 71}}, {5, 33, {2051, 9, 40}}};
  for (const auto& [rows, k, sizes] : cases) {
    const std::int64_t n = std::accumulate(sizes.begin(), sizes.end(), std::int64_t{0});
    const std::int64_t lddy = n + 5;
    const Halves dy = random_halves(rows * lddy, 5), weight = random_halves(n * k, 6);
    for (const SumOrder order : orders) {
      Floats sums;
      for (std::int64_t i = 0; i < rows * k; ++i) {
        const Line a{&dy[index(i / k * lddy)], 1}, b{&weight[index(i % k)], k};
        float sum = product(order, a, b, 0, sizes[0]);
        std::int64_t begin = sizes[0];
        for (std::size_t m = 1; m < sizes.size(); begin += sizes[m++]) {
          sum = sum + product(order, a, b, begin, sizes[m]);
        }
        sums.push_back(sum);
      }
      for_threads([&, rows = rows, k = k, &sizes = sizes](const Cpu& cpu) {
        check_backward_input<float>(cpu, rows, k, order, sizes, sums, dy, weight);
        check_backward_input<Bf16>(cpu, rows, k, order, sizes, sums, dy, weight);
      });
    }
  }
}

using Ends = std::vector<std::int32_t>;

Floats weight_gradient(const Cpu& cpu, Floats dweight, const Halves& dy, const Halves& x,
                       const Ends& ends, std::int64_t n, std::int64_t k, Chain chain) {
  linear_backward_weight(cpu, dweight.data(), k, dy.data(), n + 3, x.data(), k + 1, ends.data(),
                         static_cast<std::int64_t>(ends.size()) - 1, n, k, chain);
  return dweight;
}

TEST_P(MatmulBf16, BackwardWeightBeginsAChainOrContinuesThatOfTheOldContents) {
  const struct {
    std::int64_t n, k;
    Ends ends;
  } cases[] = {{1, 1, {0, 1}},
               {5, 7, {0, 3, 3, 35}},
               {33, 70, {0, 31, 32, 129}},
               {131, 37, {2, 5, 75}},
               {3, 545, {0, 64, 100}},
               {200, 33, {0, 1, 2, 70}},
               {17, 19, {0, 1500, 2051}},
               {9, 33, {0}},
               {9, 33, {4, 4}}};
  for (const auto& [n, k, ends] : cases) {
    const std::int64_t lddy = n + 3, ldx = k + 1, rows = ends.back() + 1;
    const Halves dy = random_halves(rows * lddy, 8), x = random_halves(rows * ldx, 9);
    const Floats old = random_floats(n * k, 10);
    Floats expected = old, fresh(old.size(), 0.0f);
    for (std::int64_t i = 0; i < n * k; ++i) {
      const Line a{&dy[index(i / k)], lddy}, b{&x[index(i % k)], ldx};
      for (std::size_t s = 0; s + 1 < ends.size(); ++s) {
        expected[index(i)] = blocks(expected[index(i)], a, b, ends[s], ends[s + 1]);
        fresh[index(i)] = blocks(fresh[index(i)], a, b, ends[s], ends[s + 1]);
      }
    }
    for_threads([&, n = n, k = k, &ends = ends](const Cpu& cpu) {
      const Floats resumed = weight_gradient(cpu, old, dy, x, ends, n, k, Chain::resume);
      EXPECT_EQ(differing_bits(resumed, expected), 0) << n << "x" << k << "x" << rows;
      const Floats unread(old.size(), NAN);
      const Floats begun = weight_gradient(cpu, unread, dy, x, ends, n, k, Chain::begin);
      EXPECT_EQ(differing_bits(begun, fresh), 0) << n << "x" << k << "x" << rows;
    });
  }
}

// Sequences of 40, 7, 64 and 33 rows: in one call; in two; with other rows between them; and the
// third cut after 32 rows.
TEST_P(MatmulBf16, WeightGradientDoesNotDependOnHowSequencesArePacked) {
  const std::int64_t n = 45, k = 39, lddy = n + 3, ldx = k + 1, rows = 144;
  const Halves dy = random_halves(rows * lddy, 8), x = random_halves(rows * ldx, 9);
  for_threads([&](const Cpu& cpu) {
    const Floats empty(index(n * k));
    const Floats once =
        weight_gradient(cpu, empty, dy, x, {0, 40, 47, 111, 144}, n, k, Chain::begin);
    Floats twice = weight_gradient(cpu, empty, dy, x, {0, 40, 47}, n, k, Chain::begin);
    twice = weight_gradient(cpu, twice, dy, x, {47, 111, 144}, n, k, Chain::resume);
    EXPECT_EQ(differing_bits(once, twice), 0);
    Floats cut = weight_gradient(cpu, empty, dy, x, {0, 40, 47, 79}, n, k, Chain::begin);
    cut = weight_gradient(cpu, cut, dy, x, {79, 111, 144}, n, k, Chain::resume);
    EXPECT_EQ(differing_bits(once, cut), 0);
    // The same rows 5 further on, behind others.
    Halves moved_dy = random_halves(5 * lddy, 20), moved_x = random_halves(5 * ldx, 21);
    moved_dy.insert(moved_dy.end(), dy.begin(), dy.end());
    moved_x.insert(moved_x.end(), x.begin(), x.end());
    const Floats moved =
        weight_gradient(cpu, empty, moved_dy, moved_x, {5, 45, 52, 116, 149}, n, k, Chain::begin);
    EXPECT_EQ(differing_bits(once, moved), 0);
  });
}

// What tensor parallelism rests on: 172 is divided by 2 and 4, but its eighths are not whole.
TEST_P(MatmulBf16, SubtreesOfRanksJoinToTheBitsOfTheWholeTree) {
  const Cpu cpu{GetParam(), nullptr};
  const std::int64_t rows = 19, n = 41;
  for (const auto& [ranks, k] : std::vector<std::pair<std::int64_t, std::int64_t>>{
           {2, 172}, {4, 172}, {8, 8 * 29}, {2, 2 * 1003}, {4, 4 * 501}}) {
    const Halves x = random_halves(rows * k, 1), weight = random_halves(n * k, 2);
    const Floats whole = forward(cpu, x, weight, rows, n, k, SumOrder::leaves);
    std::vector<Floats> parts;
    for (std::int64_t r = 0; r < ranks; ++r) {
      const std::int64_t width = k / ranks;
      Halves x_slice, weight_slice;
      for (std::int64_t t = 0; t < rows; ++t) {
        const Bf16* row = x.data() + t * k + r * width;
        x_slice.insert(x_slice.end(), row, row + width);
      }
      for (std::int64_t i = 0; i < n; ++i) {
        const Bf16* row = weight.data() + i * k + r * width;
        weight_slice.insert(weight_slice.end(), row, row + width);
      }
      parts.push_back(
          forward(cpu, x_slice, weight_slice, rows, n, width, static_cast<SumOrder>(8 / ranks)));
    }
    for (; parts.size() > 1; parts.resize(parts.size() / 2)) {
      for (std::size_t i = 0; i < parts.size() / 2; ++i) {
        Floats joined = parts[2 * i];
        for (std::size_t e = 0; e < joined.size(); ++e) joined[e] += parts[2 * i + 1][e];
        parts[i] = joined;
      }
    }
    EXPECT_EQ(differing_bits(parts[0], whole), 0) << ranks << " ranks, " << k;
  }
}

TEST_P(MatmulBf16, RowDoesNotDependOnItsBatch) {
  const Cpu cpu{GetParam(), nullptr};
  const std::int64_t rows = 67, n = 75, k = 301;
  const Halves x = random_halves(rows * k, 1), weight = random_halves(n * k, 2);
  for (const SumOrder order : orders) {
    const Floats batch = forward(cpu, x, weight, rows, n, k, order);
    const Halves panels = packed(cpu, weight, n, k, order);
    Floats alone(batch.size());
    for (std::int64_t t = 0; t < rows; ++t) {
      linear_forward(cpu, alone.data() + t * n, n, x.data() + t * k, k, panels.data(), nullptr, 1,
                     n, k, order, Update::overwrite);
    }
    EXPECT_EQ(differing_bits(batch, alone), 0);
  }
}

TEST_P(MatmulBf16, NanInOneRowDoesNotReachOthers) {
  const Cpu cpu{GetParam(), nullptr};
  const std::int64_t rows = 16, n = 33, k = 20, poisoned = 5;
  Halves x = random_halves(rows * k, 1);
  const Halves weight = random_halves(n * k, 2);
  const Floats clean = forward(cpu, x, weight, rows, n, k, SumOrder::chain);
  for (std::int64_t i = 0; i < k; ++i) x[index(poisoned * k + i)] = Bf16{0x7fc0};
  const Floats dirty = forward(cpu, x, weight, rows, n, k, SumOrder::chain);
  for (std::int64_t i = 0; i < rows * n; ++i) {
    const bool nan = std::isnan(dirty[index(i)]);
    EXPECT_TRUE(i / n == poisoned ? nan : dirty[index(i)] == clean[index(i)]);
  }
}

// Every path from a product to the result has at most as many roundings as there are products and
// blocks, each of relative size 2^-24; (1 + 2^-24)^(2 k) - 1 < 2 k 2^-24 (1 + 2^-10) here.
TEST_P(MatmulBf16, SumsAreWithinTheBoundOfTheirRoundings) {
  const Cpu cpu{GetParam(), nullptr};
  const std::int64_t rows = 5, n = 35, k = 3001;
  const double bound =
      static_cast<double>(k) * 0x1p-24;  // two chains of half the length, and joins
  const Halves x = random_halves(rows * k, 1), weight = random_halves(n * k, 2);
  for (const SumOrder order : orders) {
    const Floats y = forward(cpu, x, weight, rows, n, k, order);
    for (std::int64_t i = 0; i < rows * n; ++i) {
      double sum = 0.0, size = 0.0;
      for (std::int64_t e = 0; e < k; ++e) {
        const double term = static_cast<double>(widened(x[index(i / n * k + e)])) *
                            widened(weight[index(i % n * k + e)]);
        sum += term;
        size += std::abs(term);
      }
      EXPECT_LE(std::abs(y[index(i)] - sum), bound * size);
    }
  }
}

/// Bits are compared: where the mode was left changed, 0 == 2^-127.
std::uint32_t bits(float x) {
  return std::bit_cast<std::uint32_t>(x);
}

/// The bits of y of one row and one column.
std::uint32_t dot(const Cpu& cpu, const Floats& x, const Floats& weight, SumOrder order) {
  Halves a, b;
  for (const float value : x) a.push_back(narrowed(value));
  for (const float value : weight) b.push_back(narrowed(value));
  return bits(forward(cpu, a, b, 1, 1, static_cast<std::int64_t>(x.size()), order)[0]);
}

TEST_P(MatmulBf16, DenormalNumbersAreFlushedInsideTheProduct) {
  const Cpu cpu{GetParam(), nullptr};
  // An operand that is denormal counts as zero, however large the other one is.
  EXPECT_EQ(dot(cpu, {0x1p-130f, 1.0f}, {0x1p100f, 3.0f}, SumOrder::chain), bits(3.0f));
  EXPECT_EQ(dot(cpu, {1.0f, 0x1p100f}, {3.0f, 0x1p-127f}, SumOrder::chain), bits(3.0f));
  // A term below 2^-126 is lost, at it it stays.
  EXPECT_EQ(dot(cpu, {0x1p-70f, 0.0f}, {0x1p-57f, 0.0f}, SumOrder::chain), bits(0.0f));
  EXPECT_EQ(dot(cpu, {0x1p-70f, 0.0f}, {0x1p-56f, 0.0f}, SumOrder::chain), bits(0x1p-126f));
  // The two chains join to a denormal number, which is flushed too.
  EXPECT_EQ(dot(cpu, {0x1.8p-70f, 0x1p-70f}, {0x1p-56f, -0x1p-56f}, SumOrder::chain), bits(0.0f));
  // What decides is the result rounded to 24 bits: 2^-126 - 2^-151 rounds to 2^-126 and stays,
  // 2^-126 - 1.5 2^-151 to 2^-126 - 2^-150 and is lost.
  EXPECT_EQ(dot(cpu, {0x1p-63f, 0.0f, -0x1p-75f}, {0x1p-63f, 0.0f, 0x1p-76f}, SumOrder::chain),
            bits(0x1p-126f));
  EXPECT_EQ(dot(cpu, {0x1p-63f, 0.0f, -0x1.8p-75f}, {0x1p-63f, 0.0f, 0x1p-76f}, SumOrder::chain),
            bits(0.0f));
}

TEST_P(MatmulBf16, DenormalNumbersAreKeptOutsideTheProduct) {
  const Cpu cpu{GetParam(), nullptr};
  // Two leaves of one block each, whose sum is denormal.
  EXPECT_EQ(dot(cpu, {0x1.8p-70f, 0x1p-70f}, {0x1p-56f, -0x1p-56f}, SumOrder::two),
            bits(0x1p-127f));
  // Bias and old contents.
  const Halves x{narrowed(0.0f)}, weight = packed(cpu, {narrowed(1.0f)}, 1, 1, SumOrder::chain);
  const float bias = 0x1p-130f;
  float y = 0x1p-131f;
  linear_forward(cpu, &y, 1, x.data(), 1, weight.data(), &bias, 1, 1, 1, SumOrder::chain,
                 Update::add);
  EXPECT_EQ(bits(y), bits(0x1.8p-130f));
  Bf16 half = narrowed(0x1p-131f);
  linear_forward(cpu, &half, 1, x.data(), 1, weight.data(), &bias, 1, 1, 1, SumOrder::chain,
                 Update::add);
  EXPECT_EQ(half.bits, narrowed(0x1.8p-130f).bits);
}

TEST_P(MatmulBf16, LeavesTheModeOfTheProcessorAsItWas) {
  for_threads([&](const Cpu& cpu) {
    const unsigned mode = 0x1f80;  // as every program starts; below: without the sticky flags
    ASSERT_EQ(_mm_getcsr() & 0xffc0u, mode);
    const std::int64_t rows = 64, n = 640, k = 256;
    forward(cpu, random_halves(rows * k, 1), random_halves(n * k, 2), rows, n, k, SumOrder::leaves);
    EXPECT_EQ(_mm_getcsr() & 0xffc0u, mode);
    std::vector<unsigned> modes(3, mode);
    parallel_for(cpu, 3, 1, [&](std::int64_t begin, std::int64_t end) {
      for (; begin < end; ++begin) modes[index(begin)] = _mm_getcsr() & 0xffc0u;
    });
    EXPECT_EQ(modes, std::vector<unsigned>(3, mode));
  });
}

TEST_P(MatmulBf16, BiasBackwardAddsRowsInOrder) {
  for_threads([](const Cpu& cpu) {
    const std::int64_t rows = 37, n = 83, lddy = 90;
    const Halves dy = random_halves(rows * lddy, 1);
    Floats dbias = random_floats(n, 2), expected = dbias;
    for (std::int64_t t = 0; t < rows; ++t) {
      for (std::int64_t j = 0; j < n; ++j) expected[index(j)] += widened(dy[index(t * lddy + j)]);
    }
    bias_backward(cpu, dbias.data(), dy.data(), lddy, rows, n);
    EXPECT_EQ(differing_bits(dbias, expected), 0);
  });
}

INSTANTIATE_TEST_SUITE_P(EveryInstructionSet, MatmulBf16,
                         testing::Values(Isa::scalar, Isa::scalar_fma, Isa::avx2, Isa::avx512,
                                         Isa::amx),
                         [](const auto& isa) {
                           std::string name = name_of(isa.param);
                           for (char& c : name) c = c == ' ' ? '_' : c;
                           return name;
                         });

}  // namespace
}  // namespace fst::kernels
