#include "kernels/matmul_bf16.h"

#include <numeric>

#include "matmul_bf16_definition.h"

namespace fst::kernels::test {
namespace {

using bf16_test::differing_bits;
using bf16_test::orders;
using bf16_test::random_floats;
using fst::test::device;
using fst::test::DeviceArray;

struct Shape {
  std::int64_t rows, n, k, gap;
};
std::string name_of(const Shape& s, SumOrder order) {
  return std::to_string(s.rows) + " x " + std::to_string(s.n) + " x " + std::to_string(s.k) +
         " + " + std::to_string(s.gap) + ", chains: " + std::to_string(static_cast<int>(order));
}

// Odd, and in eights, which the asynchronous copies take; both so long that every ring of stages
// is gone round twice with a rest, in one chain or in leaves. Leaves that are empty or shorter than
// a block.
const Shape shapes[] = {{1, 1, 1, 0},    {3, 5, 7, 1},     {2, 19, 2200, 0}, {1, 40, 2312, 8},
                        {9, 5, 2187, 3}, {16, 8, 2192, 0}, {17, 3, 1170, 1}, {32, 8, 1160, 8},
                        {33, 5, 930, 2}, {64, 8, 920, 0},  {65, 70, 40, 1},  {66, 5, 470, 0},
                        {70, 8, 464, 8}, {65, 8, 64, 0}};

template <class Y>
void expect_forward(const Shape& s, SumOrder order, const Matrix& x, const Matrix& weight,
                    const Floats& sums) {
  const DeviceArray<Bf16> xs(x.values), packed(weight.values);
  const Floats bias = random_floats(s.n, 3);
  const DeviceArray<float> biases(bias);
  for (const Update how : {Update::overwrite, Update::add}) {
    const bool biased = how == Update::add;
    Floats totals = sums;
    for (std::size_t i = 0; biased && i < totals.size(); ++i) totals[i] += bias[i % index(s.n)];
    expect_output<Y>(totals, s.rows, s.n, s.n + s.gap, how, name_of(s, order), [&](Y* y) {
      linear_forward(device(), y, s.n + s.gap, xs.data(), x.ld, packed.data(),
                     biased ? biases.data() : nullptr, s.rows, s.n, s.k, order, how);
    });
  }
}

TEST(CudaMatmulBf16, ForwardHasTheBitsOfItsDefinition) {
  for (const Shape& s : shapes) {
    const Matrix x(s.rows, s.k, s.gap, 1), weight(s.n, s.k, 0, 2);
    for (const SumOrder order : orders) {
      const bool subtree = order == SumOrder::two || order == SumOrder::four;
      if (subtree && s.k > 100) continue;
      Floats sums;
      for (std::int64_t i = 0; i < s.rows * s.n; ++i) {
        sums.push_back(tensor_sum(order, x.row(i / s.n), weight.row(i % s.n), 0, s.k));
      }
      expect_forward<float>(s, order, x, weight, sums);
      expect_forward<Bf16>(s, order, x, weight, sums);
    }
  }
}

template <class Y>
void expect_backward_input(const Matrix& dy, const Matrix& weight,
                           const std::vector<std::int64_t>& sizes, SumOrder order,
                           const Floats& sums, std::int64_t gap) {
  const std::int64_t rows = dy.rows, k = weight.columns;
  const DeviceArray<Bf16> dys(dy.values), weights(weight.values);
  for (const Update how : {Update::overwrite, Update::add}) {
    expect_output<Y>(sums, rows, k, k + gap, how, std::to_string(rows), [&](Y* dx) {
      if (sizes.size() == 1) {
        linear_backward_input(device(), dx, k + gap, dys.data(), dy.ld, weights.data(), weight.ld,
                              rows, dy.columns, k, order, how);
      } else {
        linear_backward_input(device(), dx, k + gap, dys.data(), dy.ld, weights.data(), weight.ld,
                              rows, sizes.data(), static_cast<std::int64_t>(sizes.size()), k, order,
                              how);
      }
    });
  }
}

TEST(CudaMatmulBf16, InputGradientsHaveTheBitsOfTheirDefinition) {
  struct Case {
    std::int64_t rows, k, gap;
    std::vector<std::int64_t> sizes;
  };
  const Case cases[] = {
      {1, 1, 0, {1}},   {3, 7, 1, {5}},           {70, 5, 1, {470}},         {9, 24, 8, {464}},
      {66, 8, 0, {64}}, {5, 13, 1, {150, 37, 5}}, {67, 16, 0, {128, 64, 64}}};
  for (const Case& c : cases) {
    const std::int64_t n = std::accumulate(c.sizes.begin(), c.sizes.end(), std::int64_t{0});
    const Matrix dy(c.rows, n, c.gap, 1), weight(n, c.k, c.gap, 2);
    for (const SumOrder order : orders) {
      Floats sums;
      for (std::int64_t i = 0; i < c.rows * c.k; ++i) {
        std::int64_t first = 0;
        float total = 0.0f;
        for (const std::int64_t size : c.sizes) {
          const float sum = tensor_sum(order, dy.row(i / c.k), weight.column(i % c.k), first, size);
          total = first == 0 ? sum : total + sum;
          first += size;
        }
        sums.push_back(total);
      }
      expect_backward_input<float>(dy, weight, c.sizes, order, sums, c.gap);
      expect_backward_input<Bf16>(dy, weight, c.sizes, order, sums, c.gap);
    }
  }
}

/// The weight gradient of the sequences that begin at `starts`, from `dweight`.
void continue_gradient(Floats& dweight, std::int64_t ld, const Matrix& dy, const Matrix& x,
                       const std::vector<std::int32_t>& starts) {
  for (std::int64_t i = 0; i < dy.columns * x.columns; ++i) {
    float& c = dweight[index(i / x.columns * ld + i % x.columns)];
    for (std::size_t s = 0; s + 1 < starts.size(); ++s) {
      c = tensor_chain(c, dy.column(i / x.columns), x.column(i % x.columns), starts[s],
                       starts[s + 1]);
    }
  }
}

std::vector<std::int32_t> starts_of(const std::vector<std::int32_t>& lengths) {
  std::vector<std::int32_t> starts{0};
  for (const std::int32_t length : lengths) starts.push_back(starts.back() + length);
  return starts;
}

TEST(CudaMatmulBf16, WeightGradientsHaveTheBitsOfTheirDefinition) {
  struct Case {
    std::int64_t n, k, gap;
    std::vector<std::int32_t> lengths;
  };
  const Case cases[] = {{1, 1, 0, {1}},
                        {7, 5, 1, {3, 16, 0, 40}},
                        {70, 9, 1, {100, 1, 17}},
                        {8, 72, 8, {64, 5, 380, 30}},  // twice round the ring and more
                        {3, 5, 2, std::vector<std::int32_t>(300, 2)},  // more than a call's table
                        {16, 8, 0, {}}};
  for (const Case& c : cases) {
    const std::vector<std::int32_t> starts = starts_of(c.lengths);
    const Matrix dy(starts.back(), c.n, c.gap, 1), x(starts.back(), c.k, c.gap, 2);
    const DeviceArray<Bf16> dys(dy.values), xs(x.values);
    const std::int64_t ld = c.k + c.gap;
    for (const Chain chain : {Chain::begin, Chain::resume}) {
      Floats expected = random_floats(c.n * ld, 3);
      const DeviceArray<float> dweight(expected);
      for (std::int64_t i = 0; chain == Chain::begin && i < c.n * c.k; ++i) {
        expected[index(i / c.k * ld + i % c.k)] = 0.0f;
      }
      continue_gradient(expected, ld, dy, x, starts);
      linear_backward_weight(device(), dweight.data(), ld, dys.data(), dy.ld, xs.data(), x.ld,
                             starts.data(), static_cast<std::int64_t>(c.lengths.size()), c.n, c.k,
                             chain);
      EXPECT_EQ(differing_bits(expected, dweight.host()), 0) << c.n << " x " << c.k;
    }
  }
}

TEST(CudaMatmulBf16, WeightGradientsDoNotDependOnThePackingOfSequences) {
  const std::int64_t n = 24, k = 40;
  const Matrix dy(69, n, 0, 1), x(69, k, 0, 2);
  const DeviceArray<Bf16> dys(dy.values), xs(x.values);
  const auto gradient = [&](const std::vector<std::vector<std::int32_t>>& calls) {
    const DeviceArray<float> dweight(Floats(index(n * k), 1.0f));
    Chain chain = Chain::begin;
    for (const auto& starts : calls) {
      linear_backward_weight(device(), dweight.data(), k, dys.data(), n, xs.data(), k,
                             starts.data(), static_cast<std::int64_t>(starts.size()) - 1, n, k,
                             chain);
      chain = Chain::resume;
    }
    return dweight.host();
  };
  const Floats whole = gradient({{0, 21, 69}});
  EXPECT_EQ(differing_bits(whole, gradient({{0, 21}, {21, 69}})), 0) << "a call a sequence";
  EXPECT_EQ(differing_bits(whole, gradient({{0, 21, 53}, {53, 69}})), 0) << "continued";
  EXPECT_NE(differing_bits(whole, gradient({{0, 22, 69}})), 0) << "other sequences";
}

/// All rows in one call, and in calls of `counts` rows, again and again.
void expect_independent_rows(const Shape& s, SumOrder order, const std::vector<int>& counts) {
  const Matrix x(s.rows, s.k, 0, 1), weight(s.n, s.k, 0, 2);
  const DeviceArray<Bf16> xs(x.values), packed(weight.values);
  const DeviceArray<float> together(index(s.rows * s.n)), apart(index(s.rows * s.n));
  const auto forward = [&](std::int64_t first, std::int64_t count, float* y) {
    linear_forward(device(), y + first * s.n, s.n, xs.data() + first * s.k, s.k, packed.data(),
                   nullptr, count, s.n, s.k, order, Update::overwrite);
  };
  forward(0, s.rows, together.data());
  std::int64_t first = 0;
  for (std::size_t i = 0; first < s.rows; ++i) {
    const std::int64_t count = std::min<std::int64_t>(counts[i % counts.size()], s.rows - first);
    forward(first, count, apart.data());
    first += count;
  }
  EXPECT_EQ(differing_bits(together.host(), apart.host()), 0) << name_of(s, order);
}

TEST(CudaMatmulBf16, ARowDoesNotDependOnItsBatch) {
  for (const SumOrder order : {SumOrder::chain, SumOrder::leaves}) {
    expect_independent_rows({67, 40, 136, 0}, order, {1, 7, 10, 17, 32});
    if (!fst::test::large()) continue;
    const std::vector<int> counts{1, 5, 64, 13, 32, 129, 700};  // every kernel
    expect_independent_rows({2050, 3072, 1024, 0}, order, counts);
    expect_independent_rows({2050, 1024, 3072, 0}, order, counts);
    expect_independent_rows({1000, 4096, 4096, 0}, order, counts);
  }
}

TEST(CudaMatmulBf16, SubtreesOfRanksMakeTheTreeOfLeaves) {
  const std::int64_t rows = 3, n = 9, k = 8 * 21;
  const Matrix x(rows, k, 0, 1), weight(n, k, 0, 2);
  const auto part = [&](SumOrder order, std::int64_t first, std::int64_t size) {
    Halves own, own_weight;  // the rank's columns
    for (std::int64_t i = 0; i < (rows + n) * size; ++i) {
      const Matrix& from = i < rows * size ? x : weight;
      const std::int64_t r = i < rows * size ? i / size : i / size - rows;
      (i < rows * size ? own : own_weight).push_back(from.values[index(r * k + first + i % size)]);
    }
    const DeviceArray<Bf16> xs(own), packed(own_weight);
    const DeviceArray<float> y(index(rows * n));
    linear_forward(device(), y.data(), n, xs.data(), size, packed.data(), nullptr, rows, n, size,
                   order, Update::overwrite);
    return y.host();
  };
  const Floats whole = part(SumOrder::leaves, 0, k);
  for (const SumOrder order : {SumOrder::chain, SumOrder::two, SumOrder::four}) {
    const std::int64_t ranks = 8 / static_cast<std::int64_t>(order), size = k / ranks;
    std::vector<Floats> sums;
    for (std::int64_t r = 0; r < ranks; ++r) sums.push_back(part(order, r * size, size));
    for (; sums.size() > 1; sums.resize(sums.size() / 2)) {
      for (std::size_t i = 0; i < sums.size() / 2; ++i) {
        Floats joined;
        for (std::size_t e = 0; e < whole.size(); ++e) {
          joined.push_back(sums[2 * i][e] + sums[2 * i + 1][e]);
        }
        sums[i] = joined;
      }
    }
    EXPECT_EQ(differing_bits(whole, sums[0]), 0) << ranks << " ranks";
  }
}

TEST(CudaMatmulBf16, NothingIsTouchedOrSummedWhereThereIsNothing) {
  const Matrix nothing(1, 1, 0, 1);
  const DeviceArray<Bf16> operand(nothing.values);
  for (const std::int64_t rows : {0, 3, 70}) {
    expect_output<float>(Floats(index(rows * 5), 0.0f), rows, 5, 6, Update::add, "no inner index",
                         [&](float* y) {
                           linear_forward(device(), y, 6, operand.data(), 0, operand.data(),
                                          nullptr, rows, 5, 0, SumOrder::leaves, Update::add);
                         });
  }
}

TEST(CudaMatmulBf16, ThePackedFormIsTheWeight) {
  const Matrix weight(5, 37, 0, 1);
  const DeviceArray<Bf16> from(weight.values);
  EXPECT_EQ(packed_weight_size(device(), 5, 37, SumOrder::leaves), 5 * 37);
  const DeviceArray<Bf16> packed(weight.values.size());
  pack_weight(device(), packed.data(), from.data(), 5, 37, SumOrder::leaves);
  EXPECT_EQ(differing_bits(weight.values, packed.host()), 0);
}

}  // namespace
}  // namespace fst::kernels::test
