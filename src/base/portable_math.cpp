#include "fst/base/portable_math.h"

#include <cmath>
#include <limits>

namespace fst {

double portable_exp(double x) {
  if (x != x) return x;
  if (x > 709.8) return std::numeric_limits<double>::infinity();
  if (x < -745.2) return 0.0;
  // x = k ln 2 + r, |r| <= 0.35; ln 2 in two parts, the first with 21 trailing zero bits, so that
  // k * high is exact. Taylor to the 13th power leaves 2^-57 of the result.
  constexpr double inverse_ln2 = 1.4426950408889634074;
  constexpr double ln2_high = 6.93147180369123816490e-01;
  constexpr double ln2_low = 1.90821492927058770002e-10;
  const double k = std::floor(x * inverse_ln2 + 0.5);
  const double r = (x - k * ln2_high) - k * ln2_low;
  double sum = 1.0;
  for (int n = 13; n >= 1; --n) sum = 1.0 + r * sum / n;
  return std::ldexp(sum, static_cast<int>(k));
}

double portable_log(double x) {
  if (x != x || x < 0.0) return std::numeric_limits<double>::quiet_NaN();
  if (x == 0.0) return -std::numeric_limits<double>::infinity();
  if (std::isinf(x)) return x;
  int exponent = 0;
  double m = std::frexp(x, &exponent);  // exact
  if (m < 0.70710678118654752) {
    m *= 2.0;
    --exponent;
  }
  // log m = 2 artanh(z), z = (m - 1)/(m + 1), |z| <= 0.1716: odd powers to the 25th reach 2^-70.
  const double z = (m - 1.0) / (m + 1.0);
  const double z2 = z * z;
  double series = 0.0;
  for (int n = 25; n >= 1; n -= 2) series = series * z2 + 1.0 / n;
  const double k = exponent;
  return k * 6.93147180369123816490e-01 + (2.0 * z * series + k * 1.90821492927058770002e-10);
}

}  // namespace fst
