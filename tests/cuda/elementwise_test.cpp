#include "kernels/elementwise.h"

#include <cmath>
#include <cstring>

#include "device.h"
#include "noise.h"

namespace fst::kernels {
namespace {

using test::device;
using test::DeviceArray;
using test::expect_same;
using test::held;
using test::Noise;
using test::stored_as;
using test::twin;

struct Shape {
  std::int64_t rows, columns, gap;  // gap: floats between rows
  std::int64_t ld() const { return columns + gap; }
  std::int64_t size() const { return rows * ld(); }
};

std::vector<Shape> shapes() {
  std::vector<Shape> all{{1, 1, 0},    {3, 7, 0},    {3, 7, 2}, {2, 1024, 0},
                         {5, 1025, 3}, {2, 2500, 1}, {0, 9, 0}, {9, 0, 4}};
  if (test::large()) all.insert(all.end(), {{70001, 33, 1}, {1031, 5120, 0}, {1, 10000019, 0}});
  return all;
}

template <class T>
struct CudaElementwise : testing::Test {};
TYPED_TEST_SUITE(CudaElementwise, test::Elements, test::ElementName);

TYPED_TEST(CudaElementwise, AddsFillsAndCopiesLikeTheCpu) {
  using T = TypeParam;
  Noise noise(1);
  const float value = -0.3f;  // which Bf16 rounds
  for (const Shape& s : shapes()) {
    const std::vector<float> ys = held<T>(noise.normals(s.size())),
                             floats = noise.normals(s.size());
    const std::vector<float> xs = held<T>(floats);
    const DeviceArray<T> x(stored_as<T>(xs)), sum(stored_as<T>(ys)), mixed(stored_as<T>(ys)),
        filled(stored_as<T>(ys)), copied(stored_as<T>(ys));
    const DeviceArray<float> wide(floats);
    std::vector<float> mixed_host = ys, sum_host = ys, filled_host = ys, copied_host = ys;
    add(twin(), sum_host.data(), s.ld(), xs.data(), s.ld(), s.rows, s.columns);
    add(device(), sum.data(), s.ld(), x.data(), s.ld(), s.rows, s.columns);
    add(twin(), mixed_host.data(), s.ld(), floats.data(), s.ld(), s.rows, s.columns);
    add(device(), mixed.data(), s.ld(), wide.data(), s.ld(), s.rows, s.columns);
    fill(twin(), filled_host.data(), s.ld(), value, s.rows, s.columns);
    fill(device(), filled.data(), s.ld(), value, s.rows, s.columns);
    copy_rows(twin(), copied_host.data(), s.ld(), xs.data(), s.ld(), s.rows, s.columns);
    copy_rows(device(), copied.data(), s.ld(), x.data(), s.ld(), s.rows, s.columns);
    expect_same(sum_host, sum, "add");
    expect_same(mixed_host, mixed, "add, of floats");
    expect_same(filled_host, filled, "fill");
    expect_same(copied_host, copied, "copy_rows");
  }
}

TEST(CudaElementwise, JoinsTreesLikeTheCpu) {
  Noise noise(7);
  for (const std::int64_t n : {1, 255, 1030}) {
    std::vector<std::vector<float>> values;
    for (int part = 0; part < 7; ++part) values.push_back(noise.normals(n));
    std::vector<DeviceArray<float>> arrays;
    std::vector<const float*> host_parts, device_parts;
    for (const auto& part : values) {
      host_parts.push_back(part.data());
      device_parts.push_back(arrays.emplace_back(part).data());
    }
    // ((0 + (1 + 2)) + ((3 + 4) + (5 + 6))), and a single part.
    const std::vector<std::int32_t> tree = {0, 0, 2, 0, 1, 0, 3}, one = {0};
    for (const auto& joins : {tree, one}) {
      const auto count = static_cast<std::int64_t>(joins.size());
      std::vector<float> expected(static_cast<std::size_t>(n));
      join(twin(), expected.data(), host_parts.data(), joins.data(), count, n);
      const DeviceArray<float> y(expected.size());
      join(device(), y.data(), device_parts.data(), joins.data(), count, n);
      expect_same(expected, y, "join");
    }
  }
}

TEST(CudaElementwise, WidensEveryHalf) {
  std::vector<std::uint16_t> halves(1 << 16);
  for (std::size_t i = 0; i < halves.size(); ++i) halves[i] = static_cast<std::uint16_t>(i);
  const auto count = static_cast<std::int64_t>(halves.size());
  const DeviceArray<std::uint16_t> x(halves);
  for (const Storage storage : {Storage::bf16, Storage::f16}) {
    std::vector<float> expected(halves.size());
    widen(twin(), expected.data(), halves.data(), storage, count);
    const DeviceArray<float> y(halves.size());
    widen(device(), y.data(), x.data(), storage, count);
    expect_same(expected, y, storage == Storage::bf16 ? "bf16" : "f16");
  }
}

/// Floats that halves distinguish: every sign and exponent, mantissas around each rounding border.
std::vector<float> roundings() {
  std::vector<float> xs;
  for (std::uint32_t upper = 0; upper < (1u << 9); ++upper) {
    for (const std::uint32_t border :
         {0x0u, 0x1000u, 0x2000u, 0x3000u, 0x8000u, 0x18000u, 0x7ff000u}) {
      for (const std::uint32_t offset : {0u, 1u, 0xfffu, 0x7fffu}) {
        const std::uint32_t bits = (upper << 23) + ((border + offset) & 0x7fffffu);
        float x = 0.0f;
        std::memcpy(&x, &bits, sizeof x);
        xs.push_back(x);
      }
    }
  }
  return xs;
}

TEST(CudaElementwise, NarrowsToTheNearestEven) {
  const std::vector<float> xs = roundings();
  const auto count = static_cast<std::int64_t>(xs.size());
  const DeviceArray<float> x(xs);
  for (const Storage storage : {Storage::bf16, Storage::f16}) {
    std::vector<std::uint16_t> expected(xs.size());
    narrow(twin(), expected.data(), storage, xs.data(), count);
    const DeviceArray<std::uint16_t> y(xs.size());
    narrow(device(), y.data(), storage, x.data(), count);
    expect_same(expected, y, storage == Storage::bf16 ? "bf16" : "f16");
  }
}

TEST(CudaElementwise, CopiesFloatsThatNeedNoRounding) {
  const std::vector<float> xs = roundings();
  const auto count = static_cast<std::int64_t>(xs.size());
  const DeviceArray<float> x(xs), wide(xs.size()), narrowed(xs.size());
  widen(device(), wide.data(), x.data(), Storage::f32, count);
  narrow(device(), narrowed.data(), Storage::f32, x.data(), count);
  expect_same(xs, wide, "widen");
  expect_same(xs, narrowed, "narrow");
}

TYPED_TEST(CudaElementwise, GathersRowsInAnyOrder) {
  using T = TypeParam;
  Noise noise(2);
  for (const std::int64_t columns : {5, 1100}) {
    const std::vector<float> xs = held<T>(noise.normals(7 * (columns + 3)));
    const std::vector<std::int32_t> indices{6, 0, 0, 3, 6, 1};
    const DeviceArray<T> x(stored_as<T>(xs));
    const DeviceArray<std::int32_t> index(indices);
    std::vector<float> expected(6 * static_cast<std::size_t>(columns + 1));
    const DeviceArray<T> y(stored_as<T>(expected));
    gather_rows(twin(), expected.data(), columns + 1, xs.data(), columns + 3, indices.data(), 6,
                columns);
    gather_rows(device(), y.data(), columns + 1, x.data(), columns + 3, index.data(), 6, columns);
    expect_same(expected, y, "gather_rows");
  }
}

TYPED_TEST(CudaElementwise, AddsRowsOfEqualIndexInOrder) {
  using T = TypeParam;
  Noise noise(3);
  const std::int64_t table = 11;
  const std::int64_t most = test::large() ? 20011 : 700;
  for (const std::int64_t count : {std::int64_t{0}, std::int64_t{1}, std::int64_t{300}, most}) {
    for (const std::int64_t columns : {3, 260}) {
      // Of very different magnitude: another order would give other bits.
      std::vector<float> dys = noise.normals(count * (columns + 2));
      for (float& dy : dys) dy *= static_cast<float>(std::exp2(noise.normal() * 8.0));
      dys = held<T>(dys);
      const std::vector<float> dxs = held<T>(noise.normals(table * (columns + 1)));
      std::vector<std::int32_t> indices(static_cast<std::size_t>(count));
      for (auto& i : indices) i = static_cast<std::int32_t>(noise.below(table));
      const DeviceArray<T> dy(stored_as<T>(dys)), dx(stored_as<T>(dxs));
      const DeviceArray<std::int32_t> index(indices);
      std::vector<float> expected = dxs;
      for (std::size_t i = 0; i < indices.size(); ++i) {  // rounded after each addition
        float* const row = expected.data() + indices[i] * (columns + 1);
        add(twin(), row, columns, dys.data() + static_cast<std::int64_t>(i) * (columns + 2),
            columns, 1, columns);
        const std::vector<float> sums = held<T>({row, row + columns});
        std::copy(sums.begin(), sums.end(), row);
      }
      scatter_add_rows(device(), dx.data(), columns + 1, dy.data(), columns + 2, index.data(),
                       count, columns);
      expect_same(expected, dx, "scatter_add_rows");
    }
  }
}

}  // namespace
}  // namespace fst::kernels
