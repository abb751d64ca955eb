#pragma once

#include <cstdint>

#include "kernels/exact_sum.h"
#include "kernels/exec.h"

namespace fst::kernels {

/// The scalars of one optimiser step, rounded to float32 once.
struct AdamWScalars {
  float clip;            // factor of the gradient
  float decay;           // 1 - lr * weight_decay
  float keep_m, take_m;  // beta1, 1 - beta1
  float keep_v, take_v;  // beta2, 1 - beta2
  float rate;            // lr / (1 - beta1^t)
  float root;            // 1 / sqrt(1 - beta2^t)
  float eps;
};

/// One step of AdamW, element by element, one rounding per operation as written:
///
///   g = clip * gradient
///   m = fma(keep_m, m, take_m * g)
///   v = fma(keep_v, v, (take_v * g) * g)
///   parameter = parameter * decay - (rate * m) / (sqrt(v) * root + eps)
///
/// @param parameter, m, v  [n], updated in place
/// @param gradient         [n], may not alias the others
/// Source: Loshchilov & Hutter 2019, arXiv:1711.05101, in torch's order (decay first).
template <class Exec>
void adamw(const Exec& exec, float* parameter, float* m, float* v, const float* gradient,
           std::int64_t n, const AdamWScalars& scalars);

/// Adds x[i]^2, i < n, to `sum` without rounding, so no order matters. Blocks of 1024 are summed in
/// two doubles where that is exact (the elements of a block within a factor of about 2^20) and
/// element by element elsewhere.
template <class Exec>
void sum_of_squares(const Exec& exec, ExactSum& sum, const float* x, std::int64_t n);

}  // namespace fst::kernels
