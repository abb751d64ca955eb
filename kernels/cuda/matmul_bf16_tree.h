#pragma once

#include "kernels/cuda/matmul_bf16_kernels.h"

/// The tree of leaves within a block: its sums, `Sums`, are spread over 256 threads, each of which
/// has Sums::count of them, found by at().
namespace fst::kernels::gpu {

constexpr int summing_threads = 256;

template <class Sums>
DEVICE void clear(Sums& sum) {
#pragma unroll
  for (int i = 0; i < Sums::count; ++i) sum.at(i) = 0.0f;
}
/// A thread's sums to or from memory of its own: [quad][thread][4].
template <class Sums>
DEVICE void put_aside(Sums& sum, float* to) {
#pragma unroll
  for (int i = 0; i < Sums::count; i += 4) {
    write4(to + i * summing_threads, {sum.at(i), sum.at(i + 1), sum.at(i + 2), sum.at(i + 3)});
  }
}
/// sum = what was put aside + sum.
template <class Sums>
DEVICE void join(Sums& sum, const float* from) {
#pragma unroll
  for (int i = 0; i < Sums::count; i += 4) {
    const float4 first = read4(from + i * summing_threads);
#pragma unroll
    for (int e = 0; e < 4; ++e) sum.at(i + e) = gpu::part(first, e) + sum.at(i + e);
  }
}
template <class Sums>
DEVICE void join(Sums& sum, Sums& first) {
#pragma unroll
  for (int i = 0; i < Sums::count; ++i) sum.at(i) = first.at(i) + sum.at(i);
}

/// What waits in device memory: a finished half, and the matrices before.
constexpr int device_levels = 2;

/// Finished sums to the left of the chain in work: a leaf waits in registers, two in shared memory,
/// four in device memory, as do the matrices before.
template <class Sums>
struct Waiting {
  Sums leaf;
  float *quarter, *half, *before;

  DEVICE Waiting(float* shared, float* device, int tile_size)
      : quarter(shared + threadIdx.x * 4),
        half(device + threadIdx.x * 4),
        before(half + tile_size) {}
};

/// Chain number `chain` is `sum`: it joins what is finished to its left, and waits unless it is the
/// last; then `sum` is the total.
template <class Sums>
DEVICE void join_chain(Sums& sum, Waiting<Sums>& waiting, const Bf16Product& p, int chain) {
  const int leaf = chain % p.leaves;
  if ((leaf & 1) != 0) join(sum, waiting.leaf);
  if ((leaf & 3) == 3) join(sum, waiting.quarter);
  if ((leaf & 7) == 7) join(sum, waiting.half);
  if (leaf + 1 == p.leaves) {
    if (chain + 1 > p.leaves) join(sum, waiting.before);
    if (chain + 1 < p.matrices * p.leaves) put_aside(sum, waiting.before);
  } else if ((leaf & 1) == 0) {
    waiting.leaf = sum;
  } else {
    put_aside(sum, (leaf & 2) == 0 ? waiting.quarter : waiting.half);
  }
}

}  // namespace fst::kernels::gpu
