#pragma once

#include <cstdint>

#include "kernels/token_law.h"

namespace fst::kernels {

/// Greatest logit of a part of the vocabulary and the sum of exp((z - max) * beta) over it.
struct LawSum {
  float max;
  float sum;  // 0: the set is empty
};

/// lse of kernels/token_law.h: log p = (z - max) * beta - log_sum.
struct LogSumExp {
  float max;
  float log_sum;
};

/// Upstream gradients and values of one row; zeros where a term is absent.
struct RowTerms {
  float dlogprob, dentropy, entropy, dkl, kl;
  const float* reference_logits;  // nullptr without dkl
  LogSumExp reference_lse;
};

/// One row of the law. The order of all sums: kernels/token_law.h.
template <Isa isa>
struct TokenLaw {
  /// False if a logit is not finite.
  static bool sum(LawSum& total, const float* logits, std::int64_t n, float beta);
  static LogSumExp lse(const LawSum& total);
  static float entropy(const float* logits, std::int64_t n, float beta, const LogSumExp& lse);
  static float kl(const float* logits, const float* reference, std::int64_t n, float beta,
                  const LogSumExp& lse, const LogSumExp& reference_lse);
  /// dlogits[0 .. n), without the target's own term unless 0 <= target < n.
  static void backward(float* dlogits, const float* logits, std::int64_t n, float beta,
                       const LogSumExp& lse, std::int64_t target, const RowTerms& terms);
  /// y[i] = exp(log p) of the logits x[i]; y may be x.
  static void probabilities(float* y, const float* x, std::int64_t n, float beta,
                            const LogSumExp& lse);
};

}  // namespace fst::kernels
