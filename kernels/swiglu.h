#pragma once

#include <cstdint>

#include "kernels/exec.h"

namespace fst::kernels {

/// h[t, f] = silu(g) u with g = gate_up[t, f], u = gate_up[t, dim + f], silu(g) = g / (1 + e^-g).
/// h [rows, dim], gate_up [rows, 2 dim]. Source: arXiv:2002.05202.
template <class Exec>
void swiglu_forward(const Exec&, float* h, const float* gate_up, std::int64_t rows,
                    std::int64_t dim);
/// With s = 1 / (1 + e^-g): du = dh g s, dg = dh u (s + g s (1 - s)). dgate_up may be gate_up.
template <class Exec>
void swiglu_backward(const Exec&, float* dgate_up, const float* dh, const float* gate_up,
                     std::int64_t rows, std::int64_t dim);

}  // namespace fst::kernels
