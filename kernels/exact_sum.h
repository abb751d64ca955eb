#pragma once

#include <array>
#include <cmath>
#include <cstdint>
#include <cstring>

namespace fst::kernels {

/// A sum of doubles without rounding: a fixed-point number wide enough for every finite double, so
/// the result does not depend on the order of additions nor on how they were spread over ranks.
/// The value is rounded to double once (to nearest even). An infinity or NaN poisons the sum.
/// Idea: Kulisch accumulator; digits of 32 bits in 64-bit words, carries deferred.
class ExactSum {
 public:
  static constexpr int digits = 68;         // 2^-1074 .. 2^1024 and 62 bits of headroom
  static constexpr int words = digits + 1;  // the last word counts non-finite addends

  void add(double x) {
    std::uint64_t bits = 0;
    std::memcpy(&bits, &x, sizeof bits);
    const int exponent = static_cast<int>((bits >> 52) & 0x7ff);
    std::uint64_t mantissa = bits & 0xfffffffffffffULL;
    if (exponent == 0x7ff) {
      ++digit_[digits];
      return;
    }
    if (exponent != 0) mantissa |= 1ULL << 52;
    const int shift = exponent == 0 ? 0 : exponent - 1;  // mantissa * 2^(shift - 1074)
    const int first = shift >> 5;
    const int offset = shift & 31;
    // Not a shift of 128 bits: three digits, each below 2^32.
    const std::uint64_t low = mantissa << offset;  // bits 0 .. 63 of the shifted mantissa
    const std::uint64_t high = offset == 0 ? 0 : mantissa >> (64 - offset);
    const std::int64_t sign = (bits >> 63) != 0 ? -1 : 1;
    const auto at = static_cast<std::size_t>(first);
    digit_[at] += sign * static_cast<std::int64_t>(low & 0xffffffffULL);
    digit_[at + 1] += sign * static_cast<std::int64_t>(low >> 32);
    digit_[at + 2] += sign * static_cast<std::int64_t>(high);
    if (++pending_ == limit) normalise();
  }
  /// Adds a * b, exact in double for floats.
  void add_product(float a, float b) { add(static_cast<double>(a) * static_cast<double>(b)); }

  void merge(const ExactSum& other) {
    ExactSum copy = other;
    copy.normalise();
    normalise();
    for (std::size_t i = 0; i < words; ++i) digit_[i] += copy.digit_[i];
    pending_ = 1;
  }

  /// The sum rounded to nearest even; NaN if a non-finite number was added.
  double value() const;

  /// The state as words whose elementwise sums over up to 2^30 accumulators are again a valid
  /// state.
  std::array<std::int64_t, words> state() {
    normalise();
    return digit_;
  }
  static ExactSum from_state(const std::array<std::int64_t, words>& state) {
    ExactSum sum;
    sum.digit_ = state;
    sum.normalise();
    return sum;
  }

 private:
  static constexpr std::int64_t limit = std::int64_t{1} << 29;
  /// Digits to [0, 2^32), the sign in the top one.
  void normalise() {
    std::int64_t carry = 0;
    for (std::size_t i = 0; i + 1 < digits; ++i) {
      const std::int64_t total = digit_[i] + carry;
      carry = total >> 32;  // arithmetic shift: floor
      digit_[i] = total & 0xffffffff;
    }
    digit_[digits - 1] += carry;
    pending_ = 0;
  }

  std::array<std::int64_t, words> digit_{};
  std::int64_t pending_ = 0;
};

}  // namespace fst::kernels
