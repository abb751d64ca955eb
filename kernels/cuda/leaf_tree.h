#pragma once

#include "kernels/cuda/quad.h"

namespace fst::kernels::gpu {

/// The tree of the contract over 1, 2, 4 or 8 leaves of four neighbouring sums, `level` floats from
/// one leaf to the next: ((0+1)+(2+3))+((4+5)+(6+7)).
DEVICE float4 join_leaves(const float* from, std::int64_t level, std::int64_t leaves) {
  const auto pair = [&](std::int64_t leaf) {
    return gpu::add(read4(from + leaf * level), read4(from + (leaf + 1) * level));
  };
  float4 sum = leaves > 1 ? pair(0) : read4(from);
  if (leaves > 2) sum = gpu::add(sum, pair(2));
  if (leaves > 4) sum = gpu::add(sum, gpu::add(pair(4), pair(6)));
  return sum;
}

}  // namespace fst::kernels::gpu
