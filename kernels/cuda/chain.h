#pragma once

#include "kernels/cuda/gpu.h"

/// Weight gradients of norms: out[c] = fma(a(t, c), b(t, c), out[c]) for the rows t in order, one
/// chain per column. Only columns are independent, so few threads add while all threads fetch:
/// a block owns 16 columns, its 256 threads bring tiles of 128 rows to shared memory, and the
/// tile after the present one is under way while 16 of them run through the present one.
namespace fst::kernels::gpu {

inline constexpr int chain_columns = 16;
inline constexpr int chain_threads = 256;
inline constexpr int chain_rows = 128;

struct ChainShared {
  float a[chain_rows][chain_columns];
  float b[chain_rows][chain_columns];
};

struct Factors {
  float a, b;
};

/// Columns of block blockIdx.x. `fetch(t, c)` reads the inputs of one link of the chain,
/// `factors(inputs)` makes a and b of them: two steps, so that nothing waits for the reads before
/// it must. Executed by the whole block.
template <class Fetch, class Make>
DEVICE void add_chains(float* out, std::int64_t rows, std::int64_t columns, Fetch fetch,
                       Make factors) {
  constexpr int step = chain_threads / chain_columns;
  constexpr int parts = chain_rows / step;
  ChainShared& shared = shared_memory<ChainShared>();
  const int lane = static_cast<int>(threadIdx.x) % chain_columns;
  const int first = static_cast<int>(threadIdx.x) / chain_columns;
  const std::int64_t column = static_cast<std::int64_t>(blockIdx.x) * chain_columns + lane;
  const bool inside = column < columns;
  decltype(fetch(rows, column)) inputs[parts] = {};
  const auto bring = [&](std::int64_t begin) {
#pragma unroll
    for (int part = 0; part < parts; ++part) {
      const std::int64_t t = begin + first + part * step;
      if (inside && t < rows) inputs[part] = fetch(t, column);
    }
  };
  float total = first == 0 && inside ? out[column] : 0.0f;
  bring(0);
  for (std::int64_t begin = 0; begin < rows; begin += chain_rows) {
    sync_block();  // the tile has been used
#pragma unroll
    for (int part = 0; part < parts; ++part) {
      const Factors f = factors(inputs[part]);
      shared.a[first + part * step][lane] = f.a;
      shared.b[first + part * step][lane] = f.b;
    }
    sync_block();
    bring(begin + chain_rows);
    if (first != 0) continue;
    const std::int64_t rest = rows - begin;
    const int size = rest < chain_rows ? static_cast<int>(rest) : chain_rows;
#pragma unroll 8
    for (int t = 0; t < size; ++t) total = fma(shared.a[t][lane], shared.b[t][lane], total);
  }
  if (first == 0 && inside) out[column] = total;
}

}  // namespace fst::kernels::gpu
