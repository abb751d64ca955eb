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
  /// The part's leaves. False if a logit is not finite.
  static bool leaf_sums(LawSum* sums, const float* logits, const LawPart& law);
  /// The tree of eight leaves, which are overwritten.
  static LawSum join(LawSum* sums, float beta);
  /// Both, of a whole law.
  static bool sum(LawSum& total, const float* logits, const LawPart& law);
  static LogSumExp lse(const LawSum& total);
  /// sum p log p and sum p (log p - log q) over each leaf of the part.
  static void entropy_leaves(float* sums, const float* logits, const LawPart& law,
                             const LogSumExp& lse);
  static void kl_leaves(float* sums, const float* logits, const float* reference,
                        const LawPart& law, const LogSumExp& lse, const LogSumExp& reference_lse);
  /// dlogits[0 .. columns). `target` in the whole vocabulary. D: float or Bf16.
  template <class D>
  static void backward(D* dlogits, const float* logits, const LawPart& law, const LogSumExp& lse,
                       std::int64_t target, const RowTerms& terms);
  /// y[i] = exp(log p) of the logits x[i]; y may be x.
  static void probabilities(float* y, const float* x, std::int64_t n, float beta,
                            const LogSumExp& lse);
};

}  // namespace fst::kernels
