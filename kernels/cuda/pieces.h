#pragma once

#include <cstdint>

#include "kernels/bf16.h"
#include "kernels/cuda/gpu.h"

/// Eight neighbouring Bf16, 16 bytes: what asynchronous copies and ldmatrix move at a time.
namespace fst::kernels::gpu {

inline constexpr int piece_size = 8;

/// Eight elements, of which `count` exist (any count), and zeros for the others, to shared memory.
/// The wide form is asynchronous and takes all or none.
template <bool wide>
DEVICE void bring_piece(Bf16* to, const Bf16* from, int count) {
  if constexpr (wide) {
    copy_async_16(to, from, count > 0);
  } else {
    std::uint32_t pairs[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const std::uint32_t low = 2 * i < count ? from[2 * i].bits : 0u;
      const std::uint32_t high = 2 * i + 1 < count ? from[2 * i + 1].bits : 0u;
      pairs[i] = low | high << 16;
    }
    *reinterpret_cast<uint4*>(to) = {pairs[0], pairs[1], pairs[2], pairs[3]};
  }
}

}  // namespace fst::kernels::gpu
