#pragma once

#include "kernels/cuda/math.h"
#include "kernels/cuda/quad.h"

/// The softmax state of a row and head, as in arXiv:1805.02867: what every schedule of the forward
/// pass does to it, and in which operations.
namespace fst::kernels::gpu::forward {

/// What two states are rescaled by, to be joined: their sums and their outputs alike.
struct Rescale {
  float before, now;

  DEVICE float join(float joined, float split) const { return fma(joined, before, split * now); }
  DEVICE float4 join(float4 joined, float4 split) const {
    return fma(before, joined, multiply(split, now));
  }
};

/// The maximum m of the scores so far, and the sum of e^(score - m).
struct Softmax {
  float m = -infinity(), sum = 0.0f;

  /// Takes the state of the next split in: both are rescaled to the greater maximum.
  DEVICE Rescale join(const Softmax& split) {
    const float joined_m = greater(m, split.m);
    const Rescale by{exp(m - joined_m), exp(split.m - joined_m)};
    *this = {joined_m, by.join(sum, split.sum)};
    return by;
  }
  /// What an output is to be multiplied by.
  DEVICE float normal() const { return 1.0f / sum; }
  /// log sum_j e^(score j).
  DEVICE float log_sum() const { return m + log(sum); }
};

/// Takes a tile's greatest score into m and returns how sum and output so far shrink: by exactly 1
/// where nothing is greater.
DEVICE float grow(float& m, float tile_m) {
  const float old_m = m;
  const bool grows = tile_m > old_m;
  const float shrink = grows && old_m != -infinity() ? exp(old_m - tile_m) : 1.0f;
  m = grows ? tile_m : old_m;
  return shrink;
}

}  // namespace fst::kernels::gpu::forward
