#pragma once

#include <cstdint>

#include "kernels/bf16.h"
#include "kernels/exec.h"

namespace fst::kernels {

/// cosine[p, i], sine[p, i] of angle = float(p) inv_freq[i], p < positions, i < half, with
/// inv_freq[i] = 1 / float(theta^(2i / (2 half))), all roundings to float32 as in transformers'
/// default rotary embedding; power, cosine and sine in double precision by our own routines.
/// Source: arXiv:2104.09864, eq. 34.
void rope_table(const Cpu&, float* cosine, float* sine, double theta, std::int64_t positions,
                std::int64_t half);

/// The heads of one projection: rows of `heads` heads of `dim` elements, `stride` elements from one
/// row to the next; where the rows stand, and the norm.
struct HeadRows {
  std::int64_t rows = 0, heads = 0, dim = 0;
  const std::int32_t* positions = nullptr;  // [rows]
  const float* cosine = nullptr;            // [positions, dim / 2], from rope_table
  const float* sine = nullptr;
  const float* weight = nullptr;  // [dim] of the norm; nullptr: none
};

/// T is float or Bf16: what is read is widened exactly, all arithmetic is float32 (n too), and what
/// is written is rounded once.
///
/// n = x rstd weight per head as in rms_norm.h (n = x where weight is nullptr: rstd is not
/// touched), then with n1, n2 the halves of the head: y1 = n1 cos - n2 sin, y2 = n2 cos + n1 sin.
/// y, x [rows, heads * dim] with row strides; rstd [rows, heads]. y may be x.
template <class Exec, class T>
void head_norm_rope_forward(const Exec&, T* y, std::int64_t y_stride, float* rstd, const T* x,
                            std::int64_t x_stride, float eps, const HeadRows& shape);

/// dx is overwritten and may be dy; dweight [heads, dim]: one chain over rows ascending per head,
/// continued (nullptr without norm).
template <class Exec, class T>
void head_norm_rope_backward(const Exec&, T* dx, std::int64_t dx_stride, float* dweight,
                             const T* dy, std::int64_t dy_stride, const T* x, std::int64_t x_stride,
                             const float* rstd, const HeadRows& shape);

}  // namespace fst::kernels
