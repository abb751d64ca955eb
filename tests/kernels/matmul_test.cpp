#include "kernels/matmul.h"

#include <bit>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <vector>

#include <gtest/gtest.h>

#include "kernels/philox.h"
#include "kernels/thread_pool.h"

namespace fst::kernels {
namespace {

using Floats = std::vector<float>;

Floats random_floats(std::int64_t count, std::uint32_t seed) {
  Floats x(static_cast<std::size_t>(count));
  for (std::size_t i = 0; i < x.size(); ++i) {
    const auto word = philox({static_cast<std::uint32_t>(i), 0, 0, 0}, {seed, 7})[0];
    x[i] = static_cast<float>(word) * 0x1p-31f - 1.0f;
  }
  return x;
}

float chain(float start, const float* a, std::int64_t a_step, const float* b, std::int64_t b_step,
            std::int64_t begin, std::int64_t end) {
  for (std::int64_t i = begin; i < end; ++i) start = std::fma(a[i * a_step], b[i * b_step], start);
  return start;
}

constexpr SumOrder orders[] = {SumOrder::chain, SumOrder::two, SumOrder::four, SumOrder::leaves};

/// The definition of one output element in kernels/matmul.h.
float product(SumOrder order, const float* a, std::int64_t a_step, const float* b,
              std::int64_t b_step, std::int64_t n) {
  const auto leaves = static_cast<std::int64_t>(order);
  std::vector<float> sums;
  for (std::int64_t i = 0; i < leaves; ++i) {
    sums.push_back(chain(0.0f, a, a_step, b, b_step, i * n / leaves, (i + 1) * n / leaves));
  }
  for (; sums.size() > 1; sums.resize(sums.size() / 2)) {
    for (std::size_t i = 0; i < sums.size() / 2; ++i) sums[i] = sums[2 * i] + sums[2 * i + 1];
  }
  return sums[0];
}

/// All sums of a product a b^T by the definition: a [rows, n], b(j, i) = b[j * b_row + i * b_step].
Floats products(SumOrder order, const Floats& a, std::int64_t rows, std::int64_t a_row,
                const Floats& b, std::int64_t columns, std::int64_t b_row, std::int64_t b_step,
                std::int64_t n) {
  Floats sums;
  for (std::int64_t t = 0; t < rows; ++t) {
    for (std::int64_t j = 0; j < columns; ++j) {
      sums.push_back(product(order, a.data() + t * a_row, 1, b.data() + j * b_row, b_step, n));
    }
  }
  return sums;
}

std::int64_t differing_bits(const Floats& x, const Floats& y) {
  std::int64_t count = x.size() == y.size() ? 0 : 1;
  for (std::size_t i = 0; i < x.size() && i < y.size(); ++i) {
    count += std::bit_cast<std::uint32_t>(x[i]) != std::bit_cast<std::uint32_t>(y[i]);
  }
  return count;
}

struct Shape {
  std::int64_t rows, n, k;
};
// Odd on purpose, then the shapes around which the blocking changes: one row, one column, an inner
// length below 8 (empty leaves), several blocks of rows, columns and inner indices.
const Shape shapes[] = {{1, 1, 1},      {3, 5, 7},    {1, 33, 129},   {17, 31, 5},
                        {29, 70, 130},  {64, 64, 16}, {15, 97, 2051}, {131, 259, 67},
                        {20, 70, 8200}, {520, 33, 67}};

std::vector<Isa> instruction_sets() {
  std::vector<Isa> all;
  for (const Isa isa : {Isa::scalar, Isa::scalar_fma, Isa::avx2, Isa::avx512}) {
    if (supports(isa)) all.push_back(isa);
  }
  return all;
}

class Matmul : public testing::TestWithParam<Isa> {
 protected:
  /// Runs `check` with one thread and with three.
  template <class F>
  void for_threads(F&& check) {
    check(Cpu{GetParam(), nullptr});
    check(Cpu{GetParam(), &pool_});
  }
  ThreadPool pool_{3};
};

Floats packed(const Cpu& cpu, const Floats& weight, std::int64_t n, std::int64_t k) {
  Floats panels(static_cast<std::size_t>(packed_weight_size(n, k)));
  pack_weight(cpu, panels.data(), weight.data(), Storage::f32, n, k);
  return panels;
}

TEST_P(Matmul, ForwardHasTheBitsOfItsDefinition) {
  for (const auto& [rows, n, k] : shapes) {
    const std::int64_t ldx = k + 3, ldy = n + 2;
    const Floats x = random_floats(rows * ldx, 1), weight = random_floats(n * k, 2);
    const Floats bias = random_floats(n, 3), old = random_floats(rows * ldy, 4);
    for (const SumOrder order : orders) {
      const Floats sums = products(order, x, rows, ldx, weight, n, k, 1, k);
      for (const Update update : {Update::overwrite, Update::add}) {
        for (const float* b : {static_cast<const float*>(nullptr), bias.data()}) {
          Floats expected = old;
          for (std::int64_t i = 0; i < rows * n; ++i) {
            float r = sums[static_cast<std::size_t>(i)];
            if (b != nullptr) r = r + b[i % n];
            float& e = expected[static_cast<std::size_t>(i / n * ldy + i % n)];
            e = update == Update::add ? e + r : r;
          }
          for_threads([&](const Cpu& cpu) {
            Floats y = old;
            linear_forward(cpu, y.data(), ldy, x.data(), ldx, packed(cpu, weight, n, k).data(), b,
                           rows, n, k, order, update);
            EXPECT_EQ(differing_bits(y, expected), 0) << rows << "x" << n << "x" << k;
          });
        }
      }
    }
  }
}

TEST_P(Matmul, BackwardInputHasTheBitsOfItsDefinition) {
  for (const auto& [rows, k, n] : shapes) {
    const std::int64_t lddx = k + 1, lddy = n + 5;
    const Floats dy = random_floats(rows * lddy, 5), weight = random_floats(n * k, 6);
    const Floats old = random_floats(rows * lddx, 7);
    for (const SumOrder order : orders) {
      const Floats sums = products(order, dy, rows, lddy, weight, k, 1, k, n);
      for (const Update update : {Update::overwrite, Update::add}) {
        Floats expected = old;
        for (std::int64_t i = 0; i < rows * k; ++i) {
          float& e = expected[static_cast<std::size_t>(i / k * lddx + i % k)];
          const float r = sums[static_cast<std::size_t>(i)];
          e = update == Update::add ? e + r : r;
        }
        for_threads([&](const Cpu& cpu) {
          Floats dx = old;
          linear_backward_input(cpu, dx.data(), lddx, dy.data(), lddy, weight.data(), k, rows, n, k,
                                order, update);
          EXPECT_EQ(differing_bits(dx, expected), 0) << rows << "x" << k << "x" << n;
        });
      }
    }
  }
}

// Matrices with fewer rows than leaves, and of lengths on both sides of where the tiles sum all
// matrices at once (1024 in all).
TEST_P(Matmul, BackwardInputOfSeveralMatricesHasTheBitsOfOneAfterAnother) {
  const std::int64_t rows = 37, k = 45;
  for (const std::vector<std::int64_t>& sizes : std::vector<std::vector<std::int64_t>>{
           {33}, {3, 5}, {129, 64, 71}, {700, 324}, {700, 325}, {2051, 9, 40}}) {
    const std::int64_t n = std::accumulate(sizes.begin(), sizes.end(), std::int64_t{0});
    const std::int64_t lddx = k + 1, lddy = n + 5;
    const Floats dy = random_floats(rows * lddy, 5), weight = random_floats(n * k, 6);
    for (const SumOrder order : orders) {
      for_threads([&](const Cpu& cpu) {
        Floats expected = random_floats(rows * lddx, 7), fused = expected;
        std::int64_t begin = 0;
        for (const std::int64_t size : sizes) {
          linear_backward_input(cpu, expected.data(), lddx, dy.data() + begin, lddy,
                                weight.data() + begin * k, k, rows, size, k, order,
                                begin == 0 ? Update::overwrite : Update::add);
          begin += size;
        }
        linear_backward_input(cpu, fused.data(), lddx, dy.data(), lddy, weight.data(), k, rows,
                              sizes.data(), static_cast<std::int64_t>(sizes.size()), k, order,
                              Update::overwrite);
        EXPECT_EQ(differing_bits(fused, expected), 0) << n << " in " << sizes.size();
      });
    }
  }
}

TEST_P(Matmul, BackwardWeightBeginsAChainOrContinuesThatOfTheOldContents) {
  for (const auto& [n, k, rows] : shapes) {
    const std::int64_t lddy = n + 3, ldx = k + 1;
    const Floats dy = random_floats(rows * lddy, 8), x = random_floats(rows * ldx, 9);
    const Floats old = random_floats(n * k, 10);
    Floats expected = old;
    for (std::int64_t i = 0; i < n * k; ++i) {
      float& e = expected[static_cast<std::size_t>(i)];
      e = chain(e, dy.data() + i / k, lddy, x.data() + i % k, ldx, 0, rows);
    }
    for_threads([&](const Cpu& cpu) {
      Floats whole = old, parts = old;
      linear_backward_weight(cpu, whole.data(), k, dy.data(), lddy, x.data(), ldx, rows, n, k,
                             Chain::resume);
      EXPECT_EQ(differing_bits(whole, expected), 0) << n << "x" << k << "x" << rows;
      const std::int64_t cut = rows / 3;
      linear_backward_weight(cpu, parts.data(), k, dy.data(), lddy, x.data(), ldx, cut, n, k,
                             Chain::resume);
      linear_backward_weight(cpu, parts.data(), k, dy.data() + cut * lddy, lddy,
                             x.data() + cut * ldx, ldx, rows - cut, n, k, Chain::resume);
      EXPECT_EQ(differing_bits(parts, expected), 0) << n << "x" << k << "x" << rows;
      Floats fresh(whole.size(), NAN),
          from_zero(whole.size(), 0.0f);  // the old contents are unread
      linear_backward_weight(cpu, fresh.data(), k, dy.data(), lddy, x.data(), ldx, cut, n, k,
                             Chain::begin);
      linear_backward_weight(cpu, from_zero.data(), k, dy.data(), lddy, x.data(), ldx, cut, n, k,
                             Chain::resume);
      EXPECT_EQ(differing_bits(fresh, from_zero), 0) << n << "x" << k << "x" << cut;
    });
  }
}

// What tensor parallelism rests on: 172 is divided by 2 and 4, but its eighths are not whole.
TEST_P(Matmul, SubtreesOfRanksJoinToTheBitsOfTheWholeTree) {
  const Cpu cpu{GetParam(), nullptr};
  const std::int64_t rows = 19, n = 41;
  for (const auto& [ranks, k] : std::vector<std::pair<std::int64_t, std::int64_t>>{
           {2, 172}, {4, 172}, {8, 8 * 29}, {2, 2 * 5003}, {4, 4 * 2501}}) {
    const Floats x = random_floats(rows * k, 1), weight = random_floats(n * k, 2);
    Floats whole(static_cast<std::size_t>(rows * n));
    linear_forward(cpu, whole.data(), n, x.data(), k, packed(cpu, weight, n, k).data(), nullptr,
                   rows, n, k, SumOrder::leaves, Update::overwrite);
    std::vector<Floats> parts;
    for (std::int64_t r = 0; r < ranks; ++r) {
      const std::int64_t width = k / ranks;
      Floats slice;
      for (std::int64_t i = 0; i < n; ++i) {
        const float* row = weight.data() + i * k + r * width;
        slice.insert(slice.end(), row, row + width);
      }
      parts.emplace_back(whole.size());
      linear_forward(cpu, parts.back().data(), n, x.data() + r * width, k,
                     packed(cpu, slice, n, width).data(), nullptr, rows, n, width,
                     static_cast<SumOrder>(8 / ranks), Update::overwrite);
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

TEST_P(Matmul, RowDoesNotDependOnItsBatch) {
  const Cpu cpu{GetParam(), nullptr};
  const std::int64_t rows = 67, n = 75, k = 301;
  const Floats x = random_floats(rows * k, 1), weight = random_floats(n * k, 2);
  const Floats panels = packed(cpu, weight, n, k);
  for (const SumOrder order : orders) {
    Floats batch(static_cast<std::size_t>(rows * n)), alone = batch;
    linear_forward(cpu, batch.data(), n, x.data(), k, panels.data(), nullptr, rows, n, k, order,
                   Update::overwrite);
    for (std::int64_t t = 0; t < rows; ++t) {
      linear_forward(cpu, alone.data() + t * n, n, x.data() + t * k, k, panels.data(), nullptr, 1,
                     n, k, order, Update::overwrite);
    }
    EXPECT_EQ(differing_bits(batch, alone), 0);
  }
}

TEST_P(Matmul, PaddingOfTheBatchDoesNotReachOtherRows) {
  const Cpu cpu{GetParam(), nullptr};
  const std::int64_t rows = 16, n = 33, k = 20, poisoned = 5;
  Floats x = random_floats(rows * k, 1);
  const Floats panels = packed(cpu, random_floats(n * k, 2), n, k);
  Floats clean(static_cast<std::size_t>(rows * n)), dirty = clean;
  linear_forward(cpu, clean.data(), n, x.data(), k, panels.data(), nullptr, rows, n, k,
                 SumOrder::chain, Update::overwrite);
  for (std::int64_t i = 0; i < k; ++i) x[static_cast<std::size_t>(poisoned * k + i)] = NAN;
  linear_forward(cpu, dirty.data(), n, x.data(), k, panels.data(), nullptr, rows, n, k,
                 SumOrder::chain, Update::overwrite);
  for (std::int64_t t = 0; t < rows; ++t) {
    for (std::int64_t j = 0; j < n; ++j) {
      const auto at = static_cast<std::size_t>(t * n + j);
      EXPECT_TRUE(t == poisoned ? std::isnan(dirty[at]) : dirty[at] == clean[at]);
    }
  }
}

TEST_P(Matmul, BiasBackwardAddsRowsInOrder) {
  for_threads([](const Cpu& cpu) {
    const std::int64_t rows = 37, n = 83, lddy = 90;
    const Floats dy = random_floats(rows * lddy, 1);
    Floats dbias = random_floats(n, 2), expected = dbias;
    for (std::int64_t t = 0; t < rows; ++t) {
      for (std::int64_t j = 0; j < n; ++j) {
        expected[static_cast<std::size_t>(j)] += dy[static_cast<std::size_t>(t * lddy + j)];
      }
    }
    bias_backward(cpu, dbias.data(), dy.data(), lddy, rows, n);
    EXPECT_EQ(differing_bits(dbias, expected), 0);
  });
}

TEST_P(Matmul, PackedHalfPrecisionWeightsGiveTheProductOfTheWidenedOnes) {
  const Cpu cpu{GetParam(), nullptr};
  const std::int64_t n = 35, k = 77;
  const Floats weight = random_floats(n * k, 2);
  for (const Storage storage : {Storage::bf16, Storage::f16}) {
    std::vector<std::uint16_t> half(weight.size());
    narrow(cpu, half.data(), storage, weight.data(), n * k);
    Floats widened(weight.size());
    widen(cpu, widened.data(), half.data(), storage, n * k);
    Floats panels(static_cast<std::size_t>(packed_weight_size(n, k)));
    pack_weight(cpu, panels.data(), half.data(), storage, n, k);
    EXPECT_EQ(differing_bits(panels, packed(cpu, widened, n, k)), 0);
  }
}

INSTANTIATE_TEST_SUITE_P(EveryInstructionSet, Matmul, testing::ValuesIn(instruction_sets()),
                         [](const auto& isa) {
                           std::string name = name_of(isa.param);
                           for (char& c : name) c = c == ' ' ? '_' : c;
                           return name;
                         });

}  // namespace
}  // namespace fst::kernels
