#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <vector>

#include "kernels/matmul_bf16.h"
#include "kernels/philox.h"

/// The definition in kernels/matmul_bf16.h, one operation after another, without the processor's
/// modes: denormal numbers are flushed here by hand.
namespace fst::kernels::bf16_test {

using Floats = std::vector<float>;
using Halves = std::vector<Bf16>;

inline std::size_t index(std::int64_t i) {
  return static_cast<std::size_t>(i);
}

inline Floats random_floats(std::int64_t count, std::uint32_t seed) {
  Floats x(index(count));
  for (std::size_t i = 0; i < x.size(); ++i) {
    const auto word = philox({static_cast<std::uint32_t>(i), 0, 0, 0}, {seed, 11})[0];
    x[i] = static_cast<float>(word) * 0x1p-31f - 1.0f;
  }
  return x;
}
inline Halves random_halves(std::int64_t count, std::uint32_t seed) {
  Halves x;
  for (const float value : random_floats(count, seed)) x.push_back(narrowed(value));
  return x;
}

inline float flushed(float x) {
  return std::fpclassify(x) == FP_SUBNORMAL ? std::copysign(0.0f, x) : x;
}
inline float flushed_add(float x, float y) {
  return flushed(flushed(x) + flushed(y));  // a denormal sum is exact
}
inline float flushed_fma(float x, float y, float z) {
  const float a = flushed(x), b = flushed(y), c = flushed(z);
  const float rounded = std::fma(a, b, c);
  if (std::abs(rounded) > 0x1p-120f) return rounded;
  // Exact: the product has 16 bits, and a double reaches far below 2^-126. The tie 2^-126 - 2^-151
  // rounds to the even 2^-126.
  const double exact = std::fma(static_cast<double>(a), static_cast<double>(b), c);
  if (exact == 0.0) return rounded;
  return std::abs(exact) < 0x1p-126 - 0x1p-151 ? std::copysign(0.0f, rounded) : rounded;
}

/// An operand of one output element: element i is x[i * step].
struct Line {
  const Bf16* x;
  std::int64_t step;
};

/// Continues a chain of blocks over the inner indices [begin, end).
inline float blocks(float c, Line a, Line b, std::int64_t begin, std::int64_t end) {
  for (; begin < end; begin += 32) {
    float sums[2] = {0.0f, 0.0f};
    for (std::int64_t i = 0; i < 32; ++i) {
      const bool there = begin + i < end;
      const float x = there ? widened(a.x[(begin + i) * a.step]) : 0.0f;
      const float y = there ? widened(b.x[(begin + i) * b.step]) : 0.0f;
      sums[i % 2] = flushed_fma(x, y, sums[i % 2]);
    }
    c = flushed_add(c, flushed_add(sums[0], sums[1]));
  }
  return c;
}

/// The sum over [first, first + n) in `order`.
inline float product(SumOrder order, Line a, Line b, std::int64_t first, std::int64_t n) {
  const auto leaves = static_cast<std::int64_t>(order);
  Floats sums;
  for (std::int64_t i = 0; i < leaves; ++i) {
    sums.push_back(blocks(0.0f, a, b, first + i * n / leaves, first + (i + 1) * n / leaves));
  }
  for (; sums.size() > 1; sums.resize(sums.size() / 2)) {
    for (std::size_t i = 0; i < sums.size() / 2; ++i) sums[i] = sums[2 * i] + sums[2 * i + 1];
  }
  return sums[0];
}

inline void update(float& y, float r, Update how) {
  y = how == Update::add ? y + r : r;
}
inline void update(Bf16& y, float r, Update how) {
  y = narrowed(how == Update::add ? widened(y) + r : r);
}

inline std::int64_t differing_bits(const Floats& x, const Floats& y) {
  std::int64_t count = x.size() == y.size() ? 0 : 1;
  for (std::size_t i = 0; i < x.size() && i < y.size(); ++i) {
    count += std::bit_cast<std::uint32_t>(x[i]) != std::bit_cast<std::uint32_t>(y[i]);
  }
  return count;
}
inline std::int64_t differing_bits(const Halves& x, const Halves& y) {
  std::int64_t count = x.size() == y.size() ? 0 : 1;
  for (std::size_t i = 0; i < x.size() && i < y.size(); ++i) count += x[i].bits != y[i].bits;
  return count;
}

inline constexpr SumOrder orders[] = {SumOrder::chain, SumOrder::two, SumOrder::four,
                                      SumOrder::leaves};

}  // namespace fst::kernels::bf16_test
