#pragma once

#include <cstdint>

#include "kernels/exec.h"

/// The law of a token: softmax over the first `vocab` of a row's logits at a temperature.
///
/// Scaled logits: s[v] = logits[v] * beta, one rounding, beta = 1 / temperature rounded to float32
/// (temperature 1: exactly the logits). The law is *defined* with this beta, and gradients use it.
///
/// Sums over the vocabulary: [0, vocab) is cut in the contract's 8 leaves. Inside a leaf lane i of
/// 16 takes the elements i, i+16, ... counted from the leaf's start, ascending, and the lanes are
/// joined by halving. For the log-sum-exp a leaf first takes its own maximum m and sums exp(s - m);
/// two pairs (m, l) join to (M, l1 exp(m1 - M) + l2 exp(m2 - M)), M the greater m, and leaves are
/// joined ((0+1)+(2+3))+((4+5)+(6+7)); an empty leaf (vocab < 8) drops out. lse = m + log(l).
/// So a rank that owns whole leaves can compute its pairs alone.
///
/// logits: `rows` rows of `stride` floats. One row is one thread's work.
namespace fst::kernels {

/// lse[t], [rows]. Returns the first row in which a scaled logit is not finite (its lse is NaN), or
/// -1.
std::int64_t token_lse(const Cpu& cpu, float* lse, const float* logits, std::int64_t rows,
                       std::int64_t stride, std::int64_t vocab, float beta);

/// logprob[t] = s[t, target[t]] - lse[t]; -infinity for a target outside [0, vocab).
void token_logprob(const Cpu& cpu, float* logprob, const float* logits, const float* lse,
                   const std::int32_t* targets, std::int64_t rows, std::int64_t stride,
                   std::int64_t vocab, float beta);

/// entropy[t] = -sum_v p (s - lse), p = exp(s - lse); one fma per element.
void token_entropy(const Cpu& cpu, float* entropy, const float* logits, const float* lse,
                   std::int64_t rows, std::int64_t stride, std::int64_t vocab, float beta);

/// kl[t] = sum_v p ((s - lse) - (s' - lse')), primed: the reference, rows of `reference_stride`.
void token_kl(const Cpu& cpu, float* kl, const float* logits, const float* lse,
              const float* reference_logits, const float* reference_lse, std::int64_t rows,
              std::int64_t stride, std::int64_t reference_stride, std::int64_t vocab, float beta);

/// What token_backward needs beside the logits; a null pointer means "no such term".
struct TokenTerms {
  const float* dlogprob = nullptr;                                    // [rows]
  const float *dentropy = nullptr, *entropy = nullptr;                // [rows]
  const float *dkl = nullptr, *kl = nullptr;                          // [rows]
  const float *reference_logits = nullptr, *reference_lse = nullptr;  // with dkl
  std::int64_t reference_stride = 0;
};

/// With lp = s - lse, p = exp(lp), g = dlogprob (0 where the target is outside the law):
///
///   c = -g; c = fma(-dentropy, lp + entropy, c); c = fma(dkl, (lp - lp') - kl, c)
///   dlogits[v] = (p c + [v = target] g) beta     for v < vocab, 0 for vocab <= v < columns
///
/// @param dlogits  [rows, columns], rows of `dlogits_stride`; may alias logits with the same stride
void token_backward(const Cpu& cpu, float* dlogits, const float* logits, const float* lse,
                    const std::int32_t* targets, const TokenTerms& terms, std::int64_t rows,
                    std::int64_t columns, std::int64_t dlogits_stride, std::int64_t stride,
                    std::int64_t vocab, float beta);

}  // namespace fst::kernels
