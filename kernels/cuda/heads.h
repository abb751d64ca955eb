#pragma once

#include "kernels/cuda/cuda.h"
#include "kernels/cuda/lanes.h"
#include "kernels/rope.h"

/// Norm and rotation of a head, which a half-warp takes.
namespace fst::kernels::gpu {

inline constexpr int head_threads = 128;
inline constexpr int heads_per_block = head_threads / lanes;

struct Pair {
  float one, two;
};

DEVICE Pair rotate(Pair p, float cosine, float sine) {
  return {fma(p.one, cosine, -(p.two * sine)), fma(p.two, cosine, p.one * sine)};
}

/// Elements i of both halves of a head.
template <class T>
DEVICE Pair pair_of(const T* head, std::int64_t i, std::int64_t half) {
  return {widened(head[i]), widened(head[half + i])};
}
template <class T>
DEVICE void store_pair(T* head, Pair p, std::int64_t i, std::int64_t half) {
  head[i] = narrowed_to<T>(p.one);
  head[half + i] = narrowed_to<T>(p.two);
}

/// 1 / sqrt(mean of squares + eps) of a head of `dim` elements, of which `n` are summed: all of
/// them, or none by a half-warp that joins in the exchanges alone.
template <class T>
DEVICE float head_rstd(const T* head, std::int64_t n, std::int64_t dim, float eps) {
  return 1.0f / root(dot(head, head, n) / static_cast<float>(dim) + eps);
}

/// Elements i of both halves, times r and the weight where there is one, rotated by the angles that
/// begin at `table` of the shape's.
template <class T>
DEVICE Pair turned(const T* head, float r, const float* weight, const HeadRows& shape,
                   std::int64_t table, std::int64_t i) {
  const std::int64_t half = shape.dim / 2;
  Pair p = pair_of(head, i, half);
  if (weight != nullptr) {
    const Pair w = pair_of(weight, i, half);
    p = {(p.one * r) * w.one, (p.two * r) * w.two};
  }
  return rotate(p, shape.cosine[table + i], shape.sine[table + i]);
}

/// Blocks for so many heads.
inline unsigned head_blocks(std::int64_t heads) {
  return static_cast<unsigned>((heads + heads_per_block - 1) / heads_per_block);
}

}  // namespace fst::kernels::gpu
