#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/attention.h"
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/lanes.h"
#include "kernels/cuda/quad.h"

/// What the kernels of attention share. The host knows sequences and table widths, not lengths:
/// block (x, y) of a grid takes the units y, y + gridDim.y, ... of the sequence and head that x
/// names, as many as the device finds there are.
namespace fst::kernels::gpu {

inline constexpr int attention_threads = 256;
inline constexpr int cache_block = static_cast<int>(attention_block);
inline constexpr std::int64_t largest_head = attention_cuda_head;

/// Heads that no kernel is compiled for; the floors above refuse such a model before.
inline void check_head(const PagedBatch& batch) {
  if (batch.dim > largest_head) {
    throw CudaError("attention, heads above 128", cudaErrorInvalidValue);
  }
}

/// The grid for `columns` sequence-head pairs with at most `units` units each: some 16 blocks for
/// each multiprocessor of an H100, so that the hardware can even out what they cost.
inline dim3 attention_grid(std::int64_t columns, std::int64_t units) {
  constexpr std::int64_t blocks = 16 * 132;
  const std::int64_t shares = std::clamp<std::int64_t>(parts_of(blocks, columns), 1, 65535);
  return dim3(static_cast<unsigned>(columns),
              static_cast<unsigned>(std::max<std::int64_t>(1, std::min(shares, units))));
}

/// One sequence of the batch.
struct Sequence {
  std::int64_t first_row;
  int rows, context;
  const std::int32_t* table;
};
DEVICE Sequence sequence_of(const PagedBatch& batch, std::int64_t s) {
  const std::int32_t first = batch.cu_seqlens[s];
  return {first, batch.cu_seqlens[s + 1] - first, batch.context[s],
          batch.block_table + s * batch.max_blocks};
}

/// K transposed [dim, 16] of a cache block and KV head; V [16, dim] follows.
template <class T>
DEVICE const T* keys_of(const T* cache, const PagedBatch& batch, std::int64_t block,
                        std::int64_t kv_head) {
  return cache + (block * batch.kv_heads + kv_head) * 2 * attention_block * batch.dim;
}

}  // namespace fst::kernels::gpu
