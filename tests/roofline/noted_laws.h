#pragma once

#include "kernels/decoding.h"
#include "kernels/sampling.h"
#include "kernels/token_law.h"
#include "roofline/noted.h"

/// Operations on rows of logits; see noted.h. An exponential counts as the 16 operations of its
/// polynomial (kernels/cuda/math.h).
namespace fst::kernels {

namespace noted {
inline constexpr std::int64_t exponential = 16;
inline std::int64_t logits(std::int64_t rows, const LawPart& law) {
  return rows * law.inside();
}
}  // namespace noted

inline std::int64_t token_lse(const Cuda& cuda, float* lse, const float* logits, std::int64_t rows,
                              std::int64_t stride, const LawPart& law) {
  using namespace roofline;
  const std::int64_t n = noted::logits(rows, law);
  const Noted noted("token_lse", "f32", {{"rows", rows}, {"columns", law.columns}},
                    {n * word, 2 * rows * word, n * (noted::exponential + 3)});
  return token_lse<Cuda>(cuda, lse, logits, rows, stride, law);
}

inline void token_lse_leaves(const Cuda& cuda, float* pairs, const float* logits, std::int64_t rows,
                             std::int64_t stride, const LawPart& law) {
  using namespace roofline;
  const std::int64_t n = noted::logits(rows, law);
  const Noted noted("token_lse_leaves", "f32", {{"rows", rows}, {"columns", law.columns}},
                    {n * word, 2 * rows * law.leaves * word, n * (noted::exponential + 3)});
  token_lse_leaves<Cuda>(cuda, pairs, logits, rows, stride, law);
}

inline std::int64_t join_lse(const Cuda& cuda, float* lse, const float* pairs, std::int64_t rows,
                             std::int64_t leaves, float beta) {
  using namespace roofline;
  const Noted noted("join_lse", "f32", {{"rows", rows}}, {16 * rows * word, 2 * rows * word, 0});
  return join_lse<Cuda>(cuda, lse, pairs, rows, leaves, beta);
}

inline void token_logprob(const Cuda& cuda, float* logprob, const float* logits, const float* lse,
                          const std::int32_t* targets, std::int64_t rows, std::int64_t stride,
                          const LawPart& law) {
  using namespace roofline;
  const Noted noted("token_logprob", "f32", {{"rows", rows}, {"columns", law.columns}},
                    {4 * rows * word, rows * word, 3 * rows});
  token_logprob<Cuda>(cuda, logprob, logits, lse, targets, rows, stride, law);
}

inline void token_entropy(const Cuda& cuda, float* entropy, const float* logits, const float* lse,
                          std::int64_t rows, std::int64_t stride, const LawPart& law) {
  using namespace roofline;
  const std::int64_t n = noted::logits(rows, law);
  const Noted noted("token_entropy", "f32", {{"rows", rows}, {"columns", law.columns}},
                    {(n + 2 * rows) * word, rows * word, n * (noted::exponential + 5)});
  token_entropy<Cuda>(cuda, entropy, logits, lse, rows, stride, law);
}

inline void token_entropy_leaves(const Cuda& cuda, float* sums, const float* logits,
                                 const float* lse, std::int64_t rows, std::int64_t stride,
                                 const LawPart& law) {
  using namespace roofline;
  const std::int64_t n = noted::logits(rows, law);
  const Noted noted(
      "token_entropy_leaves", "f32", {{"rows", rows}, {"columns", law.columns}},
      {(n + 2 * rows) * word, rows * law.leaves * word, n * (noted::exponential + 5)});
  token_entropy_leaves<Cuda>(cuda, sums, logits, lse, rows, stride, law);
}

inline void token_kl(const Cuda& cuda, float* kl, const float* logits, const float* lse,
                     const float* reference_logits, const float* reference_lse, std::int64_t rows,
                     std::int64_t stride, std::int64_t reference_stride, const LawPart& law) {
  using namespace roofline;
  const std::int64_t n = noted::logits(rows, law);
  const Noted noted("token_kl", "f32", {{"rows", rows}, {"columns", law.columns}},
                    {(2 * n + 4 * rows) * word, rows * word, n * (noted::exponential + 9)});
  token_kl<Cuda>(cuda, kl, logits, lse, reference_logits, reference_lse, rows, stride,
                 reference_stride, law);
}

inline void token_kl_leaves(const Cuda& cuda, float* sums, const float* logits, const float* lse,
                            const float* reference_logits, const float* reference_lse,
                            std::int64_t rows, std::int64_t stride, std::int64_t reference_stride,
                            const LawPart& law) {
  using namespace roofline;
  const std::int64_t n = noted::logits(rows, law);
  const Noted noted(
      "token_kl_leaves", "f32", {{"rows", rows}, {"columns", law.columns}},
      {(2 * n + 4 * rows) * word, rows * law.leaves * word, n * (noted::exponential + 9)});
  token_kl_leaves<Cuda>(cuda, sums, logits, lse, reference_logits, reference_lse, rows, stride,
                        reference_stride, law);
}

inline void join_leaves(const Cuda& cuda, float* total, const float* sums, std::int64_t rows,
                        std::int64_t leaves, float sign) {
  using namespace roofline;
  const Noted noted("join_leaves", "f32", {{"rows", rows}},
                    {8 * rows * word, rows * word, 8 * rows});
  join_leaves<Cuda>(cuda, total, sums, rows, leaves, sign);
}

template <class D>
void token_backward(const Cuda& cuda, D* dlogits, const float* logits, const float* lse,
                    const std::int32_t* targets, const TokenTerms& terms, std::int64_t rows,
                    std::int64_t dlogits_stride, std::int64_t stride, const LawPart& law) {
  using namespace roofline;
  const bool kl = terms.dkl != nullptr;
  const std::int64_t n = noted::logits(rows, law);
  const std::int64_t vectors =
      3 + (terms.dlogprob != nullptr) + 2 * (terms.dentropy != nullptr) + (kl ? 4 : 0);
  const Noted noted("token_backward", type_name<D>(),
                    {{"rows", rows}, {"columns", law.columns}, {"kl", kl}},
                    {((kl ? 2 : 1) * n + vectors * rows) * word, rows * law.columns * size<D>,
                     n * (noted::exponential + 10)});
  token_backward<Cuda, D>(cuda, dlogits, logits, lse, targets, terms, rows, dlogits_stride, stride,
                          law);
}

inline void sample_tokens(const Cuda& cuda, std::int32_t* tokens, float* logprob,
                          const float* logits, const std::uint64_t* keys,
                          const std::int32_t* positions, std::int64_t rows, std::int64_t stride,
                          std::int64_t columns, std::int64_t vocab, const SamplingRule& rule) {
  using namespace roofline;
  const std::int64_t n = rows * vocab;
  const Noted noted("sample_tokens", "f32", {{"rows", rows}, {"columns", columns}},
                    {(n + 3 * rows) * word, 2 * rows * word, n * 4 * noted::exponential});
  sample_tokens<Cuda>(cuda, tokens, logprob, logits, keys, positions, rows, stride, columns, vocab,
                      rule);
}

inline std::int64_t kept_tokens(const Cuda& cuda, std::int32_t* ids, float* probability,
                                const float* logits, std::int64_t columns, std::int64_t vocab,
                                const SamplingRule& rule) {
  using namespace roofline;
  const Noted noted("kept_tokens", "f32", {{"columns", columns}},
                    {vocab * word, 2 * vocab * word, vocab * 4 * noted::exponential});
  return kept_tokens<Cuda>(cuda, ids, probability, logits, columns, vocab, rule);
}

/// Read at the least: the tokens, and for each draw its place, its limit and a word of the stops.
inline void take_drawn(const Cuda& cuda, std::int32_t* tokens, const std::int32_t* drawn,
                       std::int64_t rows) {
  using namespace roofline;
  const Noted noted("take_drawn", "i32", {{"rows", rows}}, {rows * word, 0, 0});
  take_drawn<Cuda>(cuda, tokens, drawn, rows);
}

inline void test_endings(const Cuda& cuda, std::int32_t* endings, const std::int32_t* drawn,
                         const std::uint32_t* stops, const std::int32_t* places,
                         const std::int32_t* limits, std::int64_t draws) {
  using namespace roofline;
  const Noted noted("test_endings", "i32", {{"rows", draws}}, {4 * draws * word, draws * word, 0});
  test_endings<Cuda>(cuda, endings, drawn, stops, places, limits, draws);
}

}  // namespace fst::kernels
