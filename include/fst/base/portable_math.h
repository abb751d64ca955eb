#pragma once

namespace fst {

/// exp and natural logarithm in double, from operations that round the same way everywhere (no C
/// library): within 2 ulp. What reaches a weight, a decision or the digest uses these.
/// portable_exp: 0 below -745.2, infinity above 709.8, NaN for NaN.
double portable_exp(double x);
/// portable_log: minus infinity at 0, NaN below and for NaN.
double portable_log(double x);

}  // namespace fst
