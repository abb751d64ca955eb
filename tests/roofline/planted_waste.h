#pragma once

#include "kernels/cuda/cuda.h"

namespace fst::roofline {

/// out[i] = in[i] + 1, i < n, a multiple of 1024, in four ways.
enum class Waste {
  none,
  other_half,  // reads the rest of each 32-byte sector of a matrix twice as wide
  twice,       // writes a copy and reads it again
  by_blocks,   // each block of 256 reads everything and writes its part
};
void add_one(const kernels::Cuda& cuda, Waste waste, float* out, float* copy, const float* in,
             std::int64_t n);

}  // namespace fst::roofline
