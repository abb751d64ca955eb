#include "kernels/exact_sum.h"

#include <limits>

namespace fst::kernels {

double ExactSum::value() const {
  ExactSum copy = *this;
  copy.normalise();
  if (copy.digit_[digits] != 0) return std::numeric_limits<double>::quiet_NaN();
  const bool negative = copy.digit_[digits - 1] < 0;
  if (negative) {
    for (std::size_t i = 0; i < digits; ++i) copy.digit_[i] = -copy.digit_[i];
    copy.normalise();
  }
  int top = digits - 1;
  while (top >= 0 && copy.digit_[static_cast<std::size_t>(top)] == 0) --top;
  if (top < 0) return 0.0;
  // The leading 64 bits and one sticky bit decide the rounding.
  int lead = 31;
  const auto digit = [&](int i) {
    return i < 0 ? std::uint64_t{0}
                 : static_cast<std::uint64_t>(copy.digit_[static_cast<std::size_t>(i)]);
  };
  while (((digit(top) >> lead) & 1) == 0) --lead;
  const int high_bit = top * 32 + lead;  // weight 2^(high_bit - 1074)
  const int low_bit = high_bit - 52 > 0 ? high_bit - 52 : 0;
  std::uint64_t mantissa = 0;
  for (int bit = high_bit; bit >= low_bit; --bit) {
    mantissa = (mantissa << 1) | ((digit(bit >> 5) >> (bit & 31)) & 1);
  }
  if (low_bit > 0) {
    const int half = low_bit - 1;
    const bool round = ((digit(half >> 5) >> (half & 31)) & 1) != 0;
    bool sticky = (digit(half >> 5) & ((std::uint64_t{1} << (half & 31)) - 1)) != 0;
    for (int i = (half >> 5) - 1; i >= 0 && !sticky; --i) sticky = digit(i) != 0;
    if (round && (sticky || (mantissa & 1) != 0)) ++mantissa;
  }
  const double magnitude = std::ldexp(static_cast<double>(mantissa), low_bit - 1074);
  return negative ? -magnitude : magnitude;
}

}  // namespace fst::kernels
