#pragma once

#include <cstdint>

#include "kernels/exec.h"

namespace fst::kernels {

template <Isa isa>
struct Swiglu {
  static void forward(float* h, const float* gate_up, std::int64_t rows, std::int64_t dim);
  static void backward(float* dgate_up, const float* dh, const float* gate_up, std::int64_t rows,
                       std::int64_t dim);
};

}  // namespace fst::kernels
