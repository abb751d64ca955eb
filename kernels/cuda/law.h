#pragma once

#include "kernels/cuda/cuda.h"
#include "kernels/cuda/lanes.h"
#include "kernels/token_law.h"

/// The law of a token on the device: what token_law.cu and sampling.cu share. Orders and formulas:
/// kernels/token_law.h.
namespace fst::kernels::gpu {

inline constexpr int all_leaves = 8;

/// Greatest logit of a part of the vocabulary and the sum of exp((z - max) beta) over it.
struct LawSum {
  float max;
  float sum;  // 0: the part is empty; both NaN: a logit is not finite
};

DEVICE LawSum join(LawSum x, LawSum y, float beta) {
  if (y.sum == 0.0f) return x;
  if (x.sum == 0.0f) return y;
  const float top = greater(x.max, y.max);
  return {top, x.sum * exp((x.max - top) * beta) + y.sum * exp((y.max - top) * beta)};
}

/// log p of a logit.
struct LogLaw {
  float max, log_sum, beta;
  DEVICE float operator()(float z) const { return (z - max) * beta - log_sum; }
};
DEVICE LogLaw log_law(const float* lse, std::int64_t row, float beta) {
  return {lse[2 * row], lse[2 * row + 1], beta};
}

/// Queues: pairs [rows, law.leaves] of the law's leaves, both NaN where a logit is not finite. With
/// `counts`, row t has counts[t] columns, all inside the law.
void sum_leaves(const Cuda& cuda, LawSum* pairs, const float* logits, std::int64_t rows,
                std::int64_t stride, const LawPart& law, const std::int64_t* counts = nullptr);
/// Queues: totals [rows] of pairs [8 / leaves, rows, leaves]; a NaN stays.
void join_pairs(const Cuda& cuda, LawSum* totals, const LawSum* pairs, std::int64_t rows,
                std::int64_t leaves, float beta);

}  // namespace fst::kernels::gpu
