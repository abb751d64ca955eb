#pragma once

#include "kernels/cuda/lanes.h"

/// Sums over a leaf of the vocabulary, a block for each: sixteen long chains, one per lane. Warp 0
/// adds, the others bring and make the terms of the chunk after the present one.
namespace fst::kernels::gpu {

inline constexpr int leaf_threads = 128;
inline constexpr int makers = leaf_threads - 32;
inline constexpr int terms_each = 12;
inline constexpr int chunk = makers * terms_each;  // whole rounds of the lanes
inline constexpr int segments = leaf_threads / lanes;
static_assert(chunk % lanes == 0);

/// A term of a sum is a b, added by one fma.
struct Term {
  float a, b;
};
struct LeafShared {
  float a[2][chunk], b[2][chunk];
  float tops[segments][lanes], checks[segments][lanes];
  float top;
  bool finite;
};

/// The sum of the terms make(fetch(i)), i < n, by lanes; known to warp 0. Executed by the block.
template <class Fetch, class Make>
DEVICE float sum_terms(LeafShared& shared, std::int64_t n, Fetch fetch, Make make) {
  const int maker = static_cast<int>(threadIdx.x) - 32;
  decltype(fetch(n)) inputs[terms_each] = {};
  const auto bring = [&](std::int64_t begin) {
#pragma unroll
    for (int part = 0; part < terms_each; ++part) {
      const std::int64_t i = begin + maker + part * makers;
      if (i < n) inputs[part] = fetch(i);
    }
  };
  const auto keep = [&](int buffer) {
#pragma unroll
    for (int part = 0; part < terms_each; ++part) {
      const Term term = make(inputs[part]);
      shared.a[buffer][maker + part * makers] = term.a;
      shared.b[buffer][maker + part * makers] = term.b;
    }
  };
  if (maker >= 0) {
    bring(0);
    keep(0);
    bring(chunk);
  }
  sync_block();
  float total = 0.0f;
  int buffer = 0;
  for (std::int64_t begin = 0; begin < n; begin += chunk, buffer ^= 1) {
    if (maker < 0) {
      const int size = n - begin < chunk ? static_cast<int>(n - begin) : chunk;
#pragma unroll 8
      for (int i = lane_of(); i < size; i += lanes) {
        total = fma(shared.a[buffer][i], shared.b[buffer][i], total);
      }
    } else if (begin + chunk < n) {
      keep(buffer ^ 1);
      bring(begin + 2 * chunk);
    }
    sync_block();
  }
  return maker < 0 ? sum(total) : 0.0f;
}

/// The greatest of a leaf's logits, and whether all are finite; known to the block. A half-warp
/// looks at neighbouring elements, so that joining them in order is looking at all in order: which
/// of two zeros is the greater depends on that.
DEVICE void look_at_leaf(LeafShared& shared, const float* x, std::int64_t n) {
  const std::int64_t rounds = (n + lanes - 1) / lanes, share = (rounds + segments - 1) / segments;
  const std::int64_t begin = half_warp_of() * share * lanes, rest = n - begin;
  const std::int64_t end = begin + (rest < share * lanes ? rest : share * lanes);
  float top = -infinity();
  float check = 0.0f;  // stays 0 while all are finite: infinity and NaN times 0 are NaN
#pragma unroll 16
  for (std::int64_t i = begin + lane_of(); i < end; i += lanes) {
    top = greater(top, x[i]);
    check = fma(x[i], 0.0f, check);
  }
  shared.tops[half_warp_of()][lane_of()] = top;
  shared.checks[half_warp_of()][lane_of()] = check;
  sync_block();
  if (threadIdx.x < 32) {
    top = shared.tops[0][lane_of()];
    check = shared.checks[0][lane_of()];
    for (int i = 1; i < segments; ++i) {
      top = greater(top, shared.tops[i][lane_of()]);
      check = check + shared.checks[i][lane_of()];
    }
    top = maximum(top);
    check = sum(check);
    if (threadIdx.x == 0) {
      shared.top = top;
      shared.finite = check == 0.0f;
    }
  }
  sync_block();
}

}  // namespace fst::kernels::gpu
