#pragma once

#include <cstdint>

#include "kernels/token_law.h"

namespace fst::kernels {

/// Greatest scaled logit and the sum of exp(s - max) of a set of rows of the vocabulary.
struct LawSum {
  float max;
  float sum;  // 0: the set is empty
};

/// Upstream gradients and values of one row; zeros where a term is absent.
struct RowTerms {
  float dlogprob, dentropy, entropy, dkl, kl;
  const float* reference_logits;  // nullptr without dkl
  float reference_lse;
};

/// One row of the law. The order of all sums: kernels/token_law.h.
template <Isa isa>
struct TokenLaw {
  /// False if a scaled logit is not finite.
  static bool sum(LawSum& total, const float* logits, std::int64_t n, float beta);
  /// max + log(sum).
  static float lse(const LawSum& total);
  static float entropy(const float* logits, std::int64_t n, float beta, float lse);
  static float kl(const float* logits, const float* reference, std::int64_t n, float beta,
                  float lse, float reference_lse);
  /// dlogits[0 .. n), without the target's own term unless 0 <= target < n.
  static void backward(float* dlogits, const float* logits, std::int64_t n, float beta, float lse,
                       std::int64_t target, const RowTerms& terms);
  /// y[i] = exp(x[i] * beta - shift).
  static void exp_shifted(float* y, const float* x, std::int64_t n, float beta, float shift);
};

}  // namespace fst::kernels
