#pragma once

#include <cstdint>

#include "kernels/exec.h"

/// The law of a token: softmax over the first `vocab` of a row's logits at a temperature.
/// log p[v] = (z[v] - m) * beta - log l, each operation rounded, with z the logits, m the greatest
/// of them, beta = 1 / temperature rounded to float32 and l = sum_v exp((z[v] - m) * beta). The law
/// is *defined* with this beta, and gradients use it. Subtracting m first costs no precision
/// however large the logits are; so lse[t] = {m, log l} stays in two parts.
///
/// Sums over the vocabulary: [0, vocab) is cut in the contract's 8 leaves. Inside a leaf lane i of
/// 16 takes the elements i, i+16, ... counted from the leaf's start, ascending, and the lanes are
/// joined by halving. For l a leaf first takes its own m and sums relative to that; two pairs (m,
/// l) join to (M, l1 exp((m1 - M) beta) + l2 exp((m2 - M) beta)), M the greater m, and leaves are
/// joined ((0+1)+(2+3))+((4+5)+(6+7)); an empty leaf (vocab < 8) drops out. So a rank that owns
/// whole leaves can compute its pairs alone.
///
/// logits: `rows` rows of `stride` floats. One row is one thread's work.
namespace fst::kernels {

/// lse[t], [rows, 2]. Returns the first row in which a logit is not finite (its lse is NaN), or -1.
std::int64_t token_lse(const Cpu& cpu, float* lse, const float* logits, std::int64_t rows,
                       std::int64_t stride, std::int64_t vocab, float beta);

/// logprob[t] = log p[t, target[t]], [rows]; -infinity for a target outside [0, vocab).
void token_logprob(const Cpu& cpu, float* logprob, const float* logits, const float* lse,
                   const std::int32_t* targets, std::int64_t rows, std::int64_t stride,
                   std::int64_t vocab, float beta);

/// entropy[t] = -sum_v p log p, [rows], p = exp(log p); one fma per element.
void token_entropy(const Cpu& cpu, float* entropy, const float* logits, const float* lse,
                   std::int64_t rows, std::int64_t stride, std::int64_t vocab, float beta);

/// kl[t] = sum_v p (log p - log q), [rows]; q: the reference, rows of `reference_stride`.
void token_kl(const Cpu& cpu, float* kl, const float* logits, const float* lse,
              const float* reference_logits, const float* reference_lse, std::int64_t rows,
              std::int64_t stride, std::int64_t reference_stride, std::int64_t vocab, float beta);

/// What token_backward needs beside the logits; a null pointer means "no such term".
struct TokenTerms {
  const float* dlogprob = nullptr;                                    // [rows]
  const float *dentropy = nullptr, *entropy = nullptr;                // [rows]
  const float *dkl = nullptr, *kl = nullptr;                          // [rows]
  const float *reference_logits = nullptr, *reference_lse = nullptr;  // [rows, 2], with dkl
  std::int64_t reference_stride = 0;
};

/// With lp = log p, lq = log q, g = dlogprob (0 where the target is outside the law):
///
///   c = -g; c = fma(-dentropy, lp + entropy, c); c = fma(dkl, (lp - lq) - kl, c)
///   dlogits[v] = (p c + [v = target] g) beta     for v < vocab, 0 for vocab <= v < columns
///
/// @param dlogits  [rows, columns], rows of `dlogits_stride`; may alias logits with the same stride
void token_backward(const Cpu& cpu, float* dlogits, const float* logits, const float* lse,
                    const std::int32_t* targets, const TokenTerms& terms, std::int64_t rows,
                    std::int64_t columns, std::int64_t dlogits_stride, std::int64_t stride,
                    std::int64_t vocab, float beta);

}  // namespace fst::kernels
