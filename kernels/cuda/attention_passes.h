#pragma once

#include <algorithm>

#include "kernels/cuda/attention_work.h"

/// What the backward passes over float and over Bf16 share: D of every row and head, and the launch
/// of the pass over tiles of keys and of the one over tiles of rows.
namespace fst::kernels::gpu {

/// keep(i, dout . out) for every pair i of a row and a head: row i / heads, head i % heads. A
/// half-warp of a block of attention_threads takes a pair, and its first lane keeps.
template <class T, class Keep>
DEVICE void each_delta(ConstRows<T> dout, ConstRows<T> out, const PagedBatch& batch,
                       const Keep& keep) {
  constexpr int warps_per_block = attention_threads / 32;
  const std::int64_t total = batch.cu_seqlens[batch.sequences] * batch.heads;
  const std::int64_t warps = static_cast<std::int64_t>(gridDim.x) * warps_per_block;
  const std::int64_t warp =
      static_cast<std::int64_t>(blockIdx.x) * warps_per_block + threadIdx.x / 32;
  for (std::int64_t first = warp * 2; first < total; first += warps * 2) {
    const std::int64_t i = first + half_warp_of() % 2, row = i / batch.heads;
    const std::int64_t column = i % batch.heads * batch.dim;
    const float delta = dot(dout.data + row * dout.stride + column,
                            out.data + row * out.stride + column, i < total ? batch.dim : 0);
    if (lane_of() == 0 && i < total) keep(i, delta);
  }
}

/// Pairs of a row and a head at most: every row is a key of its sequence.
inline std::int64_t most_pairs(const PagedBatch& batch) {
  return batch.sequences * batch.max_blocks * attention_block * batch.heads;
}

/// Blocks for each_delta().
inline dim3 delta_grid(const PagedBatch& batch) {
  constexpr std::int64_t blocks = 8 * 132;  // of an H100's multiprocessors
  return dim3(static_cast<unsigned>(
      std::min(blocks, parts_of(most_pairs(batch), attention_threads / lanes))));
}

/// `keys` with column x for KV head x % kv_heads of sequence x / kv_heads, `rows` likewise for
/// heads; both with as many shares y as there can be tiles of `side` keys or rows.
template <class Arguments>
void launch_passes(const Cuda& cuda, void (*keys)(Arguments), void (*rows)(Arguments),
                   const Arguments& a, std::int64_t side, std::size_t shared) {
  const PagedBatch& batch = a.batch;
  const std::int64_t tiles = parts_of(batch.max_blocks * attention_block, side);
  allow_shared(keys, shared);
  launch(keys, attention_grid(batch.sequences * batch.kv_heads, tiles), dim3(attention_threads),
         shared, cuda.stream, a);
  allow_shared(rows, shared);
  launch(rows, attention_grid(batch.sequences * batch.heads, tiles), dim3(attention_threads),
         shared, cuda.stream, a);
}

}  // namespace fst::kernels::gpu
