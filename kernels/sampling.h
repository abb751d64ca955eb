#pragma once

#include <cstdint>

#include "kernels/exec.h"

namespace fst::kernels {

/// How the law is cut before a token is drawn: temperature, then top-k, top-p and min-p, each on
/// what the one before left, renormalised. s = (z - greatest z) * beta as in kernels/token_law.h.
///
/// - Rank: greater logit first, equal logits by lower id.
/// - top_k > 0: the first top_k ranks.
/// - top_p < 1: rank r stays if the ranks before it hold less than top_p of the mass; rank 0 always
///   stays. The mass is that of what top_k left (without top_k: of the whole law), the sum runs in
///   rank order in double over exp(s).
/// - min_p > 0: those with exp(s) >= min_p.
/// - temperature 0: the first rank alone.
struct SamplingRule {
  float temperature = 1.0f;
  std::int32_t top_k = 0;
  float top_p = 1.0f;
  float min_p = 0.0f;
};

/// Draws one token per row: the id v with the greatest s[v] + gumbel(v) among those kept, the lower
/// one of equals. gumbel(v) = -log(e), e = -log(1 - w), w = (x >> 1 + 1/2) 2^-31 in float32, x one
/// word of Philox with the row's key and the counter {16 floor(v / 64) + v % 16, position, 1, 0}:
/// word floor(v % 64 / 16). w is finest near 0, where the winners are: the law is exact to about
/// 1e-6 relative, and what is less probable than 2^-32 is never drawn.
///
/// @param tokens, logprob   [rows]; logprob under the law that is left, computed from the kept
///                          logits in ascending order as in token_law.h (temperature 0, and where
///                          the rule keeps all: of the whole law, at temperature 1 for the former)
/// @param logits            [rows, columns], rows of `stride`; the law is the first `vocab` columns
/// @param keys, positions   [rows]
/// A row in which a logit is not finite gets token -1 and logprob NaN.
template <class Exec>
void sample_tokens(const Exec& exec, std::int32_t* tokens, float* logprob, const float* logits,
                   const std::uint64_t* keys, const std::int32_t* positions, std::int64_t rows,
                   std::int64_t stride, std::int64_t columns, std::int64_t vocab,
                   const SamplingRule& rule);

/// The kept ids of one row, ascending, and their probabilities. ids, probability [vocab]. Returns
/// how many there are, or -1 if a logit is not finite.
template <class Exec>
std::int64_t kept_tokens(const Exec& exec, std::int32_t* ids, float* probability,
                         const float* logits, std::int64_t columns, std::int64_t vocab,
                         const SamplingRule& rule);

}  // namespace fst::kernels
