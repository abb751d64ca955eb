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

/// A tile is taken by 32 keys, so that what no row sees is left out: visit(j), j = 0, 4, ..., the
/// eight of keys where they begin. `whole`: all of them, else the first `count`.
template <bool whole, class Visit>
DEVICE void each_32(int count, Visit visit) {
#pragma unroll
  for (int i = 0; i < tile_keys / 32; ++i) {
    if (whole || i < count) visit(4 * i);
  }
}

/// Scores times `scale`, and - infinity behind the `visible` that a row sees, whatever the product
/// is.
template <bool whole>
DEVICE void scale_scores(Scores& score, int count, const int (&visible)[2], float scale) {
  const int key = static_cast<int>(threadIdx.x % 4) * 2;
  each_32<whole>(count, [&](int first) {
#pragma unroll
    for (int i = 0; i < 16; ++i) {
      const int j = first + i / 4, e = i % 4;
      const bool sees = whole || 8 * j + key + e % 2 < visible[e / 2];
      score[j][e] = sees ? score[j][e] * scale : -infinity();
    }
  });
}
/// The greatest score of row `r` of the thread's two, among all of its four threads.
template <bool whole>
DEVICE float greatest_score(const Scores& score, int count, int r) {
  float m = -infinity();
  each_32<whole>(count, [&](int first) {
#pragma unroll
    for (int j = first; j < first + 4; ++j) {
      m = greatest(m, greatest(score[j][2 * r], score[j][2 * r + 1]));
    }
  });
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
