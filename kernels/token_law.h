#pragma once

#include <cstdint>

#include "kernels/bf16.h"
#include "kernels/exec.h"

/// The law of a token: softmax over the first `vocab` of a row's logits at a temperature.
/// log p[v] = (z[v] - m) * beta - log l, each operation rounded, with z the logits, m the greatest
/// of them, beta = 1 / temperature rounded to float32 and l = sum_v exp((z[v] - m) * beta). The law
/// is *defined* with this beta, and gradients use it. Subtracting m first costs no precision
/// however large the logits are; so lse[t] = {m, log l} stays in two parts.
///
/// Sums over the vocabulary: the rows of the head, `columns` of a row of logits, are cut in the
/// contract's 8 leaves; what lies beyond `vocab` drops out of its leaf. Inside a leaf lane i of 16
/// takes the elements i, i+16, ... counted from the leaf's start, ascending, and the lanes are
/// joined by halving. For l a leaf first takes its own m and sums relative to that; two pairs (m,
/// l) join to (M, l1 exp((m1 - M) beta) + l2 exp((m2 - M) beta)), M the greater m, and leaves are
/// joined ((0+1)+(2+3))+((4+5)+(6+7)); an empty leaf drops out. So a rank that owns whole leaves of
/// the head's rows computes their partial results alone (token_..._leaves), and any rank that has
/// those of all eight joins them (join_...): the bits are those of the whole row.
///
/// logits: `rows` rows of `stride` floats. One row is one thread's work.
namespace fst::kernels {

/// Which part of the law a matrix of logits holds.
struct LawPart {
  std::int64_t columns;     // of the logits
  std::int64_t vocab;       // of the whole law
  float beta;               // 1 / temperature
  std::int64_t first = 0;   // the vocabulary row of column 0
  std::int64_t leaves = 8;  // whole leaves in the columns: 8 of the whole law, 4, 2 or 1 of a part

  /// Columns below `vocab`.
  constexpr std::int64_t inside() const {
    const std::int64_t rest = vocab - first;
    return rest < 0 ? 0 : rest < columns ? rest : columns;
  }
};

/// lse[t], [rows, 2], of a whole law. Returns the first row in which a logit is not finite (its lse
/// is NaN), or -1.
template <class Exec>
std::int64_t token_lse(const Exec& exec, float* lse, const float* logits, std::int64_t rows,
                       std::int64_t stride, const LawPart& law);
/// The pairs (m, l) of the part's leaves, [rows, leaves, 2]; both NaN where a logit of the leaf is
/// not finite.
template <class Exec>
void token_lse_leaves(const Exec& exec, float* pairs, const float* logits, std::int64_t rows,
                      std::int64_t stride, const LawPart& law);
/// token_lse() from the pairs of all parts, one after the other: [8 / leaves, rows, leaves, 2].
template <class Exec>
std::int64_t join_lse(const Exec& exec, float* lse, const float* pairs, std::int64_t rows,
                      std::int64_t leaves, float beta);

/// logprob[t] = log p[t, target[t]], [rows], `targets` in the whole vocabulary; -infinity for a
/// target that is not in this part of the law.
template <class Exec>
void token_logprob(const Exec& exec, float* logprob, const float* logits, const float* lse,
                   const std::int32_t* targets, std::int64_t rows, std::int64_t stride,
                   const LawPart& law);

/// entropy[t] = -sum_v p log p, [rows], p = exp(log p); one fma per element. Whole law.
template <class Exec>
void token_entropy(const Exec& exec, float* entropy, const float* logits, const float* lse,
                   std::int64_t rows, std::int64_t stride, const LawPart& law);
/// sum_v p log p over each leaf of the part, [rows, leaves].
template <class Exec>
void token_entropy_leaves(const Exec& exec, float* sums, const float* logits, const float* lse,
                          std::int64_t rows, std::int64_t stride, const LawPart& law);

/// kl[t] = sum_v p (log p - log q), [rows]; q: the reference, rows of `reference_stride`. Whole
/// law.
template <class Exec>
void token_kl(const Exec& exec, float* kl, const float* logits, const float* lse,
              const float* reference_logits, const float* reference_lse, std::int64_t rows,
              std::int64_t stride, std::int64_t reference_stride, const LawPart& law);
/// The same over each leaf of the part, [rows, leaves].
template <class Exec>
void token_kl_leaves(const Exec& exec, float* sums, const float* logits, const float* lse,
                     const float* reference_logits, const float* reference_lse, std::int64_t rows,
                     std::int64_t stride, std::int64_t reference_stride, const LawPart& law);
/// total[t] = sign * the tree of the eight leaves' sums; `sums` [8 / leaves, rows, leaves]. sign is
/// -1 for the entropy, 1 for KL.
template <class Exec>
void join_leaves(const Exec& exec, float* total, const float* sums, std::int64_t rows,
                 std::int64_t leaves, float sign);

/// What token_backward needs beside the logits; a null pointer means "no such term".
struct TokenTerms {
  const float* dlogprob = nullptr;                                    // [rows]
  const float *dentropy = nullptr, *entropy = nullptr;                // [rows]
  const float *dkl = nullptr, *kl = nullptr;                          // [rows]
  const float *reference_logits = nullptr, *reference_lse = nullptr;  // [rows, 2], with dkl
  std::int64_t reference_stride = 0;
};

/// With lp = log p, lq = log q, g = dlogprob (0 where the target is outside the whole law):
///
///   c = -g; c = fma(-dentropy, lp + entropy, c); c = fma(dkl, (lp - lq) - kl, c)
///   dlogits[v] = (p c + [v = target] g) beta     for v below vocab, else 0
///
/// for the columns of this part, rounded once to D, float or Bf16. @param dlogits  [rows, columns],
/// rows of `dlogits_stride`; float ones may alias logits with the same stride
template <class Exec, class D>
void token_backward(const Exec& exec, D* dlogits, const float* logits, const float* lse,
                    const std::int32_t* targets, const TokenTerms& terms, std::int64_t rows,
                    std::int64_t dlogits_stride, std::int64_t stride, const LawPart& law);

}  // namespace fst::kernels
