#pragma once

#include <cstdint>

#include "kernels/sampling.h"

namespace fst::kernels {

template <Isa isa>
struct Sampling {
  /// The id with the greatest (logits[v] - max) * beta + gumbel(v), the lower one of equals;
  /// -infinity leaves an id out. n > 0, and some logit is finite.
  static std::int32_t gumbel_max(const float* logits, std::int64_t n, float max, float beta,
                                 std::uint64_t key, std::uint32_t position);
};

}  // namespace fst::kernels
