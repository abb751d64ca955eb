#pragma once

#include <cstdint>

#include "kernels/cuda/cuda.h"

/// Correct kernels that use each word of gpu.h.
namespace fst::kernels::test {

struct Words {
  int shuffled, crossed, uniform;
  bool any_of_first, any_of_none;
  std::uint32_t bits;
  float value, fused, root, denormal;
  float greatest, greatest_left, greatest_right;
};

void sum_rows(const Cuda& cuda, const float* x, float* out, std::int64_t rows,
              std::int64_t columns);
void say_words(const Cuda& cuda, unsigned blocks, std::int64_t* counts, std::int32_t* least,
               Words* out);
/// y[i] = gpu::exp_falling(x[i]).
void exp_falling_each(const Cuda& cuda, float* y, const float* x, std::int64_t n);
/// pairs[i] of the floats whose bits are i << 16 | low and the negative of it, for all i of 16
/// bits.
void narrow_pairs(const Cuda& cuda, std::uint32_t low, std::uint32_t* pairs);

}  // namespace fst::kernels::test
