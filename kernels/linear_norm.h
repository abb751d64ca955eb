#pragma once

#include <cstdint>
#include <type_traits>

#include "kernels/bf16.h"
#include "kernels/exec.h"
#include "kernels/matmul.h"

namespace fst::kernels {

/// Rows that linear_add_norm() takes at most.
template <class T>
inline constexpr std::int64_t most_add_norm_rows = std::is_same_v<T, float> ? 32 : 64;

/// The residual of decoding and the norm behind it, in one pass: linear_forward() with Update::add
/// into y, then rms_norm_forward() of y; their bits. The sum has several leaves.
///
/// @param y       [rows, n], contiguous; in and out
/// @param normed  [rows, n], contiguous
/// @param rstd    [rows]
/// @param x       [rows, k], rows of `ldx`
/// @param packed  from pack_weight for sums in `order`
/// @param weight  [n], of the norm
template <class Exec, class T>
void linear_add_norm(const Exec&, T* y, T* normed, float* rstd, const T* x, std::int64_t ldx,
                     const T* packed, const float* weight, std::int64_t rows, std::int64_t n,
                     std::int64_t k, SumOrder order, float eps);

}  // namespace fst::kernels
