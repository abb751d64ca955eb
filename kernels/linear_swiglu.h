#pragma once

#include <cstdint>

#include "kernels/bf16.h"
#include "kernels/exec.h"

namespace fst::kernels {

/// Rows that linear_swiglu() takes at most.
inline constexpr std::int64_t most_swiglu_rows = 64;

/// The first half of an MLP in decoding, in one pass: linear_forward() of gate and up, one chain
/// each, then swiglu_forward(); their bits.
///
/// @param h        [rows, dim], contiguous
/// @param gate_up  [rows, 2 dim], contiguous: working memory, contents undefined behind
/// @param x        [rows, k], rows of `ldx`
/// @param packed   of the weight [2 dim, k] of gate and up, from pack_weight for one chain
template <class Exec, class T>
void linear_swiglu(const Exec&, T* h, T* gate_up, const T* x, std::int64_t ldx, const T* packed,
                   std::int64_t rows, std::int64_t dim, std::int64_t k);

}  // namespace fst::kernels
