#pragma once

#include <cstdint>

#include "kernels/bf16.h"
#include "kernels/exec.h"

namespace fst::kernels {

/// T is float or Bf16: what is read is widened exactly, all arithmetic is float32, and what is
/// written is rounded once.
///
/// h[t, f] = silu(g) u with g = gate_up[t, f], u = gate_up[t, dim + f], silu(g) = g / (1 + e^-g).
/// h [rows, dim], gate_up [rows, 2 dim]. Source: arXiv:2002.05202.
template <class Exec, class T>
void swiglu_forward(const Exec&, T* h, const T* gate_up, std::int64_t rows, std::int64_t dim);
/// With s = 1 / (1 + e^-g): du = dh g s, dg = dh u (s + g s (1 - s)). dgate_up may be gate_up.
template <class Exec, class T>
void swiglu_backward(const Exec&, T* dgate_up, const T* dh, const T* gate_up, std::int64_t rows,
                     std::int64_t dim);

}  // namespace fst::kernels
