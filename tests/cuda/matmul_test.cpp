#include "kernels/matmul.h"

#include <string>

#include "device.h"
#include "noise.h"

namespace fst::kernels {
namespace {

using test::device;
using test::DeviceArray;
using test::expect_same;
using test::Noise;
using test::twin;

using Floats = std::vector<float>;

struct Shape {
  std::int64_t rows, n, k;
};
std::string name_of(const Shape& s, SumOrder order) {
  return std::to_string(s.rows) + " x " + std::to_string(s.n) + " x " + std::to_string(s.k) +
         ", chains: " + std::to_string(static_cast<int>(order));
}

constexpr SumOrder orders[] = {SumOrder::chain, SumOrder::two, SumOrder::four, SumOrder::leaves};

Floats normals(std::int64_t count, std::uint32_t seed) {
  return Noise(seed).normals(count);
}

Floats packed_on_cpu(const Floats& weight, std::int64_t n, std::int64_t k) {
  Floats packed(static_cast<std::size_t>(packed_weight_size(n, k)));
  pack_weight(twin(), packed.data(), weight.data(), Storage::f32, n, k);
  return packed;
}

/// `gap` elements between rows; a multiple of four keeps every row aligned if the sizes are.
void expect_forward(const Shape& s, SumOrder order, Update update, bool bias, std::int64_t gap) {
  const auto& [rows, n, k] = s;
  const std::int64_t ldx = k + gap, ldy = n + gap;
  const Floats x = normals(rows * ldx, 1), weight = normals(n * k, 2), b = normals(n, 3);
  const Floats packed = packed_on_cpu(weight, n, k), old = normals(rows * ldy, 4);
  Floats expected = old;
  linear_forward(twin(), expected.data(), ldy, x.data(), ldx, packed.data(),
                 bias ? b.data() : nullptr, rows, n, k, order, update);
  const DeviceArray<float> y(old), xs(x), panels(packed), bs(b);
  linear_forward(device(), y.data(), ldy, xs.data(), ldx, panels.data(), bias ? bs.data() : nullptr,
                 rows, n, k, order, update);
  expect_same(expected, y, name_of(s, order).c_str());
}

void expect_backward_input(const Shape& s, SumOrder order, Update update, std::int64_t gap) {
  const auto& [rows, n, k] = s;
  const std::int64_t lddx = k + gap, lddy = n + gap, ldw = k + gap;
  const Floats dy = normals(rows * lddy, 1), weight = normals(n * ldw, 2),
               old = normals(rows * lddx, 3);
  Floats expected = old;
  linear_backward_input(twin(), expected.data(), lddx, dy.data(), lddy, weight.data(), ldw, rows, n,
                        k, order, update);
  const DeviceArray<float> dx(old), dys(dy), weights(weight);
  linear_backward_input(device(), dx.data(), lddx, dys.data(), lddy, weights.data(), ldw, rows, n,
                        k, order, update);
  expect_same(expected, dx, name_of(s, order).c_str());
}

void expect_backward_weight(const Shape& s, std::int64_t gap, Chain chain = Chain::resume) {
  const auto& [rows, n, k] = s;
  const std::int64_t lddw = k + gap, lddy = n + gap, ldx = k + gap;
  const Floats dy = normals(rows * lddy, 1), x = normals(rows * ldx, 2), old = normals(n * lddw, 3);
  Floats expected = old;
  linear_backward_weight(twin(), expected.data(), lddw, dy.data(), lddy, x.data(), ldx, rows, n, k,
                         chain);
  const DeviceArray<float> dweight(old), dys(dy), xs(x);
  linear_backward_weight(device(), dweight.data(), lddw, dys.data(), lddy, xs.data(), ldx, rows, n,
                         k, chain);
  expect_same(expected, dweight, name_of(s, SumOrder::chain).c_str());
}

// Odd, then what wraps the kernels' steps: inner lengths of several times 256 (few rows) and 16
// (many), with a rest and without; leaves that are empty, and leaves that begin off a multiple
// of 4.
const Shape shapes[] = {{1, 1, 1},     {1, 70, 1300}, {3, 5, 7},     {4, 33, 257},
                        {5, 64, 2048}, {9, 31, 517},  {17, 97, 800}, {32, 32, 256},
                        {33, 129, 67}, {64, 64, 128}, {70, 257, 43}};
// Enough tiles of 128 rows and columns to fill a device: with the leaves as blocks, and without.
const Shape leafy = {265, 900, 101};
const Shape many = {1500, 1430, 19};

TEST(CudaMatmul, PackingHasTheBitsOfTheCpu) {
  Noise noise(5);
  for (const auto& [n, k] : {std::pair{1, 1}, {33, 70}, {64, 32}, {95, 129}}) {
    const auto count = static_cast<std::size_t>(n * k);
    for (const Storage storage : {Storage::f32, Storage::bf16, Storage::f16}) {
      std::vector<std::uint16_t> weight(storage == Storage::f32 ? 2 * count : count);
      for (auto& word : weight) word = static_cast<std::uint16_t>(noise.bits());
      Floats expected(static_cast<std::size_t>(packed_weight_size(n, k)));
      pack_weight(twin(), expected.data(), weight.data(), storage, n, k);
      const DeviceArray<std::uint16_t> from(weight);
      const DeviceArray<float> packed(expected.size());
      pack_weight(device(), packed.data(), from.data(), storage, n, k);
      expect_same(expected, packed, "packed");
    }
  }
}

TEST(CudaMatmul, ForwardHasTheBitsOfTheCpu) {
  for (const Shape& s : shapes) {
    for (const SumOrder order : orders) {
      for (const std::int64_t gap : {0, 3}) {
        expect_forward(s, order, Update::overwrite, false, gap);
        expect_forward(s, order, Update::add, true, gap);
      }
    }
  }
}

TEST(CudaMatmul, BackwardInputHasTheBitsOfTheCpu) {
  for (const Shape& s : shapes) {
    for (const SumOrder order : orders) {
      for (const std::int64_t gap : {0, 3}) {
        expect_backward_input(s, order, gap == 0 ? Update::add : Update::overwrite, gap);
      }
    }
  }
}

TEST(CudaMatmul, BackwardWeightHasTheBitsOfTheCpu) {
  for (const Shape& s : shapes) {
    for (const std::int64_t gap : {0, 3}) {
      expect_backward_weight(s, gap);
      expect_backward_weight(s, gap, Chain::begin);
    }
  }
}

TEST(CudaMatmul, ManyTilesHaveTheBitsOfTheCpu) {
  expect_forward(leafy, SumOrder::leaves, Update::overwrite, true, 0);
  expect_forward(many, SumOrder::chain, Update::overwrite, false, 1);
  expect_forward(many, SumOrder::leaves, Update::add, false, 0);
  expect_backward_input({1100, 11, 900}, SumOrder::two, Update::overwrite, 0);
  expect_backward_weight({19, 1500, 1430}, 2);
  if (!test::large()) return;
  for (const std::int64_t rows : {1, 2, 7, 16, 31, 33, 200, 2049}) {  // layers of Qwen3-0.6B
    expect_forward({rows, 3072, 1024}, SumOrder::chain, Update::overwrite, false, 0);
    expect_forward({rows, 1024, 3072}, SumOrder::leaves, Update::add, false, 0);
    expect_backward_input({rows, 3072, 1024}, SumOrder::leaves, Update::overwrite, 0);
    expect_backward_input({rows, 1024, 3072}, SumOrder::chain, Update::overwrite, 0);
    expect_backward_weight({rows, 3072, 1024}, 0);
  }
}

TEST(CudaMatmul, WeightGradientsContinueTheirChains) {
  const std::int64_t rows = 37, n = 40, k = 70, first = 13;
  const Floats dy = normals(rows * n, 1), x = normals(rows * k, 2);
  Floats expected(static_cast<std::size_t>(n * k));
  linear_backward_weight(twin(), expected.data(), k, dy.data(), n, x.data(), k, rows, n, k,
                         Chain::begin);
  const DeviceArray<float> dweight(expected.size()), dys(dy), xs(x);
  linear_backward_weight(device(), dweight.data(), k, dys.data(), n, xs.data(), k, first, n, k,
                         Chain::begin);
  linear_backward_weight(device(), dweight.data(), k, dys.data() + first * n, n,
                         xs.data() + first * k, k, rows - first, n, k, Chain::resume);
  expect_same(expected, dweight, "two calls");
}

TEST(CudaMatmul, NoChainTakesAStepTooMany) {
  // Every product underflows to -0, and so does its chain; 0 * 0 behind the end would give +0.
  for (const std::int64_t rows : {3, 40}) {
    for (const std::int64_t inner : {5, 21, 259}) {
      const std::int64_t n = 35;
      const auto count = static_cast<std::size_t>(n * inner);
      const Floats small(count, 0x1p-100f), a(static_cast<std::size_t>(rows * inner), -0x1p-100f);
      const Floats minus_zero(static_cast<std::size_t>(rows * n), -0.0f);
      const DeviceArray<float> as(a), bs(small), packed(packed_on_cpu(small, n, inner));
      const DeviceArray<float> y(minus_zero.size()), dx(minus_zero.size()), dweight(minus_zero);
      linear_forward(device(), y.data(), n, as.data(), inner, packed.data(), nullptr, rows, n,
                     inner, SumOrder::chain, Update::overwrite);
      linear_backward_input(device(), dx.data(), n, as.data(), inner, bs.data(), n, rows, inner, n,
                            SumOrder::chain, Update::overwrite);
      linear_backward_weight(device(), dweight.data(), n, as.data(), rows, bs.data(), n, inner,
                             rows, n, Chain::resume);
      expect_same(minus_zero, y, "y");
      expect_same(minus_zero, dx, "dx");
      expect_same(minus_zero, dweight, "dweight");
    }
  }
}

TEST(CudaMatmul, NothingIsTouchedOrSummedWhereThereIsNothing) {
  expect_forward({0, 5, 7}, SumOrder::chain, Update::overwrite, false, 1);
  expect_forward({3, 5, 0}, SumOrder::leaves, Update::add, true, 1);
  expect_forward({40, 5, 0}, SumOrder::chain, Update::overwrite, true, 1);
  expect_backward_weight({0, 5, 7}, 1);
  expect_backward_weight({0, 5, 7}, 1, Chain::begin);
}

TEST(CudaMatmul, MatricesWithOneInputHaveTheBitsOfOneAfterAnother) {
  const std::int64_t rows = 37, k = 45, sizes[] = {33, 16, 8}, n = 57;
  const Floats dy = normals(rows * n, 1), weight = normals(n * k, 2);
  Floats expected(static_cast<std::size_t>(rows * k));
  linear_backward_input(twin(), expected.data(), k, dy.data(), n, weight.data(), k, rows, sizes, 3,
                        k, SumOrder::leaves, Update::overwrite);
  const DeviceArray<float> dx(expected.size()), dys(dy), weights(weight);
  linear_backward_input(device(), dx.data(), k, dys.data(), n, weights.data(), k, rows, sizes, 3, k,
                        SumOrder::leaves, Update::overwrite);
  expect_same(expected, dx, "three matrices");
}

TEST(CudaMatmul, BiasGradientHasTheBitsOfTheCpu) {
  for (const auto& [rows, n] : {std::pair{0, 3}, {1, 1}, {13, 65}, {64, 200}}) {
    const std::int64_t lddy = n + 3;
    const Floats dy = normals(rows * lddy, 1);
    Floats expected = normals(n, 2);
    const DeviceArray<float> dbias(expected), dys(dy);
    bias_backward(twin(), expected.data(), dy.data(), lddy, rows, n);
    bias_backward(device(), dbias.data(), dys.data(), lddy, rows, n);
    expect_same(expected, dbias, "bias");
  }
}

}  // namespace
}  // namespace fst::kernels
