#pragma once

#include "../kernels/attention_definition.h"
#include "tensor_core.h"

/// The GPU's chain of attention over bfloat16: blocks of 16 by the published model of the tensor
/// core, the last one filled up with zeros.
namespace fst::test {

inline float tensor_chain_of(float c, const float* a, const float* b, std::int64_t n) {
  static const kernels::test::TensorCore core = kernels::test::core_of_device();
  for (std::int64_t begin = 0; begin < n; begin += 16) {
    std::uint16_t left[16] = {}, right[16] = {};
    for (std::int64_t i = begin; i < std::min(begin + 16, n); ++i) {
      left[i - begin] = kernels::narrowed(a[i]).bits;
      right[i - begin] = kernels::narrowed(b[i]).bits;
    }
    c = kernels::test::tensor_core_dot(left, right, c, core);
  }
  return c;
}

}  // namespace fst::test
