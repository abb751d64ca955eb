#pragma once

#include <cstdint>

#include "kernels/bf16.h"
#include "kernels/exec.h"

namespace fst::kernels {

template <Isa isa, class T>
struct Swiglu {
  static void forward(T* h, const T* gate_up, std::int64_t rows, std::int64_t dim);
  static void backward(T* dgate_up, const T* dh, const T* gate_up, std::int64_t rows,
                       std::int64_t dim);
};

}  // namespace fst::kernels
