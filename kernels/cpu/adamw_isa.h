#pragma once

#include <cstdint>

#include "kernels/adamw.h"

namespace fst::kernels {

/// Most elements of a block of sum_of_squares.
inline constexpr std::int64_t square_block = 1024;

template <Isa isa>
struct AdamW {
  static void step(float* parameter, float* m, float* v, const float* gradient, std::int64_t n,
                   const AdamWScalars& scalars);
  /// The exact sum of n <= square_block squares is high + low; false if two doubles do not hold it.
  static bool squares(double& high, double& low, const float* x, std::int64_t n);
};

}  // namespace fst::kernels
