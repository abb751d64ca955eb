#pragma once

#include <cstdint>

#include "kernels/bf16.h"
#include "kernels/exec.h"

namespace fst::kernels {

/// T is float or Bf16: what is read is widened exactly, all arithmetic is float32 as written, and
/// what is written is rounded once.
///
/// y[t, i] = x[t, i] rstd[t] weight[i], rstd[t] = 1 / sqrt(mean_i x[t, i]^2 + eps).
///
/// @param y       [rows, dim]  may alias x
/// @param rstd    [rows]       kept for the backward pass
/// @param x       [rows, dim]
/// @param weight  [dim]
/// The sum of squares is a row sum of the numerics contract. Source: arXiv:1910.07467, eq. 4.
template <class Exec, class T>
void rms_norm_forward(const Exec&, T* y, float* rstd, const T* x, const float* weight,
                      std::int64_t rows, std::int64_t dim, float eps);

/// dx[t, i] = rstd (g[i] - x[t, i] rstd^2 mean_j g[j] x[t, j]) with g = dy weight; written to dx,
/// or added to it with one rounding where `accumulate`. dweight[i] = fma(dy[t, i], x[t, i] rstd[t],
/// dweight[i]), t ascending, continued from the old contents. dx may alias dy unless `accumulate`.
template <class Exec, class T>
void rms_norm_backward(const Exec&, T* dx, float* dweight, const T* dy, const T* x,
                       const float* rstd, const float* weight, std::int64_t rows, std::int64_t dim,
                       bool accumulate);

}  // namespace fst::kernels
