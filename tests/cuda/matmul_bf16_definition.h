#pragma once

#include <algorithm>
#include <string>

#include "device.h"
#include "kernels/matmul_bf16.h"
#include "tests/cuda/tensor_core.h"
#include "tests/kernels/matmul_bf16_support.h"

/// The GPU's side of kernels/matmul_bf16.h, one block after another by the published model of the
/// tensor core. Lines of elements, updates and random numbers are those of the CPU's tests.
namespace fst::kernels::test {

using bf16_test::Floats;
using bf16_test::Halves;
using bf16_test::index;
using bf16_test::Line;

/// Continues a chain of blocks of 16 over the inner indices [begin, end).
inline float tensor_chain(float c, Line a, Line b, std::int64_t begin, std::int64_t end) {
  static const TensorCore core = core_of_device();
  for (; begin < end; begin += 16) {
    std::uint16_t left[16] = {}, right[16] = {};
    for (std::int64_t i = begin; i < std::min(begin + 16, end); ++i) {
      left[i - begin] = a.x[i * a.step].bits;
      right[i - begin] = b.x[i * b.step].bits;
    }
    c = tensor_core_dot(left, right, c, core);
  }
  return c;
}

/// The sum over [first, first + n) in `order`.
inline float tensor_sum(SumOrder order, Line a, Line b, std::int64_t first, std::int64_t n) {
  const auto leaves = static_cast<std::int64_t>(order);
  Floats sums;
  for (std::int64_t i = 0; i < leaves; ++i) {
    sums.push_back(tensor_chain(0.0f, a, b, first + i * n / leaves, first + (i + 1) * n / leaves));
  }
  for (; sums.size() > 1; sums.resize(sums.size() / 2)) {
    for (std::size_t i = 0; i < sums.size() / 2; ++i) sums[i] = sums[2 * i] + sums[2 * i + 1];
  }
  return sums[0];
}

/// A matrix with `ld` elements from row to row; what lies between is NaN, which nobody may use.
struct Matrix {
  std::int64_t rows, columns, ld;
  Halves values;

  Matrix(std::int64_t r, std::int64_t c, std::int64_t gap, std::uint32_t seed)
      : rows(r), columns(c), ld(c + gap), values(bf16_test::random_halves(r * ld, seed)) {
    for (std::int64_t i = 0; i < r * ld; ++i) {
      if (i % ld >= c) values[index(i)] = Bf16{0x7fc0};
    }
  }
  Line row(std::int64_t r) const { return {&values[index(r * ld)], 1}; }
  Line column(std::int64_t c) const { return {&values[index(c)], ld}; }
};

inline Floats old_contents(std::int64_t count, float) {
  return bf16_test::random_floats(count, 4);
}
inline Halves old_contents(std::int64_t count, Bf16) {
  return bf16_test::random_halves(count, 4);
}

/// `call(y)` on a device array with old contents must make y what `sums`, [rows, columns], and the
/// update say, and leave the gaps between rows alone.
template <class Y, class Call>
void expect_output(const Floats& sums, std::int64_t rows, std::int64_t columns, std::int64_t ld,
                   Update how, const std::string& what, const Call& call) {
  auto expected = old_contents(rows * ld, Y{});
  const fst::test::DeviceArray<Y> y(expected);
  for (std::int64_t i = 0; i < rows * columns; ++i) {
    bf16_test::update(expected[index(i / columns * ld + i % columns)], sums[index(i)], how);
  }
  call(y.data());
  EXPECT_EQ(bf16_test::differing_bits(expected, y.host()), 0) << what;
}

}  // namespace fst::kernels::test
