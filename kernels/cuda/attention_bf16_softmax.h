#pragma once

#include "kernels/cuda/attention_unit.h"
#include "kernels/cuda/math.h"

/// The softmax of scores where multiply_16x8x16 leaves them: a thread has a share of the rows lane
/// / 4 and lane / 4 + 8 of a warp's sixteen, and of each the keys 2 t and 2 t + 1 (t = lane % 4) of
/// every eight. Keys i, i + 16, ... are lane i of the row sums, so those are four lanes of a row,
/// in order.
namespace fst::kernels::gpu::forward {

/// Scores of a tile: [eight of keys][first row's two, second row's two].
using Scores = float[2 * tile_blocks][4];

/// One of the thread's rows. The sums are of the lanes 2 t, 2 t + 1, 8 + 2 t and 9 + 2 t.
struct RowState {
  float m = -infinity();
  float sum[4] = {0.0f, 0.0f, 0.0f, 0.0f};

  /// Takes a tile's greatest score in and returns how sums and outputs so far shrink: by exactly 1
  /// where nothing is greater. Where the maximum is infinite or NaN, scores minus it are NaN.
  DEVICE float grow(float tile_m) {
    const float old_m = m;
    m = greatest(old_m, tile_m);
    const float shrink = exp_falling(old_m - m);
    for (float& lane : sum) lane = lane * shrink;
    sum[0] = sum[0] + (m - m);
    return shrink;
  }
  /// The sixteen lanes, joined by halving.
  DEVICE float total() const {
    float even = sum[0] + sum[2], odd = sum[1] + sum[3];
    for (int step = 2; step > 0; step /= 2) {
      even = even + shuffle_xor(even, step);
      odd = odd + shuffle_xor(odd, step);
    }
    return even + odd;
  }
};

/// Scores times `scale`, those of the tile's first 16 `blocks` keys; behind the `visible` that a
/// row sees: - infinity, whatever the product is.
template <bool whole>
DEVICE void scale_scores(Scores& score, int blocks, const int (&visible)[2], float scale) {
  const int key = static_cast<int>(threadIdx.x % 4) * 2;
#pragma unroll
  for (int j = 0; j < 2 * tile_blocks; ++j) {
    if (!whole && j >= 2 * blocks) continue;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const bool sees = whole || 8 * j + key + i % 2 < visible[i / 2];
      score[j][i] = sees ? score[j][i] * scale : -infinity();
    }
  }
}
/// The greatest score of row `r` of the thread's two, among all of its four threads.
template <bool whole>
DEVICE float greatest_score(const Scores& score, int blocks, int r) {
  float m = -infinity();
#pragma unroll
  for (int j = 0; j < 2 * tile_blocks; ++j) {
    if (whole || j < 2 * blocks) m = greatest(m, greatest(score[j][2 * r], score[j][2 * r + 1]));
  }
  m = greatest(m, shuffle_xor(m, 1));
  return greatest(m, shuffle_xor(m, 2));
}
/// Scores of cache block b become e^(score - m), which is exactly 0 for what a row does not see.
DEVICE void soften(Scores& score, RowState (&rows)[2], int b) {
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    RowState& row = rows[i / 2 % 2];
    float& p = score[2 * b + i / 4][i % 4];
    p = exp_falling(p - row.m);
    float& lane = row.sum[i / 4 * 2 + i % 2];
    lane = lane + p;
  }
}

}  // namespace fst::kernels::gpu::forward
