#include "fst/tensor/ops.h"

#include "check.h"
#include "kernels/decoding.h"
#include "kernels/sampling.h"
#include "kernels/token_law.h"

namespace fst::ops {

namespace {

/// What the kernels want to know of a law and of the columns at hand: `vocab` > 0 of it, all of it
/// in the logits if they are no part.
kernels::LawPart law_of(const char* what, const Tensor& logits, const TokenLaw& law,
                        const VocabPart& part = {}) {
  expect_matrix(what, logits);
  const std::int64_t columns = logits.dim(1);
  if (law.vocab <= 0 || law.vocab > columns * part.ranks) {
    wrong_shape(what,
                "a law of 1 to " + std::to_string(columns * part.ranks) + " tokens, asked for " +
                    std::to_string(law.vocab),
                logits);
  }
  if (!(law.temperature > 0.0f)) {
    throw Error(std::string(what) + ": expected a temperature above 0, found " +
                std::to_string(law.temperature));
  }
  return {columns, law.vocab, 1.0f / law.temperature, part.first, 8 / part.ranks};
}

/// Logits of at least `vocab` > 0 columns.
void expect_logits(const char* what, const Tensor& logits, std::int64_t vocab) {
  law_of(what, logits, {1.0f, vocab});
}

/// The two parts per row that token_lse() leaves.
void expect_lse(const char* what, const Tensor& lse, std::int64_t rows) {
  expect_matrix(what, lse, rows, 2);
  expect_contiguous(what, lse);
}

const float* data_of(const Tensor& x) {
  return x.empty() ? nullptr : x.data<float>();
}

kernels::SamplingRule rule_of(const char* what, const SamplingLaw& law) {
  const bool valid = law.temperature >= 0.0f && law.top_k >= 0 && law.top_p >= 0.0f &&
                     law.top_p <= 1.0f && law.min_p >= 0.0f && law.min_p <= 1.0f;
  if (!valid) {
    throw Error(std::string(what) + ": expected temperature >= 0, top_k >= 0, top_p and min_p in " +
                "[0, 1], found " + std::to_string(law.temperature) + ", " +
                std::to_string(law.top_k) + ", " + std::to_string(law.top_p) + ", " +
                std::to_string(law.min_p));
  }
  return {law.temperature, law.top_k, law.top_p, law.min_p};
}

/// What the ranks of a unit have, one rank after the other: [ranks, ...].
void expect_ranks(const char* what, const Tensor& parts) {
  if (parts.dim(0) < 1 || 8 % parts.dim(0) != 0) {
    wrong_shape(what, "the parts of 1, 2, 4 or 8 ranks", parts);
  }
}

}  // namespace

std::int64_t token_lse(Tensor& lse, const Tensor& logits, const TokenLaw& law) {
  const kernels::LawPart whole = law_of("token_lse: logits", logits, law);
  expect_lse("token_lse: lse", lse, logits.dim(0));
  return logits.device().run([&](const auto& exec) {
    return kernels::token_lse(exec, lse.data<float>(), logits.data<float>(), logits.dim(0),
                              logits.row_stride(), whole);
  });
}

void token_lse_leaves(Tensor& pairs, const Tensor& logits, const TokenLaw& law,
                      const VocabPart& part) {
  const kernels::LawPart mine = law_of("token_lse_leaves: logits", logits, law, part);
  expect_elements("token_lse_leaves: pairs", pairs, logits.dim(0) * mine.leaves * 2);
  logits.device().run([&](const auto& exec) {
    return kernels::token_lse_leaves(exec, pairs.data<float>(), logits.data<float>(), logits.dim(0),
                                     logits.row_stride(), mine);
  });
}

std::int64_t join_lse(Tensor& lse, const Tensor& pairs, const TokenLaw& law) {
  const std::int64_t rows = lse.dim(0);
  expect_lse("join_lse: lse", lse, rows);
  expect_elements("join_lse: pairs", pairs, 2 * 8 * rows);
  expect_ranks("join_lse: pairs", pairs);
  return lse.device().run([&](const auto& exec) {
    return kernels::join_lse(exec, lse.data<float>(), pairs.data<float>(), rows, 8 / pairs.dim(0),
                             1.0f / law.temperature);
  });
}

void token_logprob(Tensor& logprob, const Tensor& logits, const Tensor& lse, const Tensor& targets,
                   const TokenLaw& law, const VocabPart& part) {
  const std::int64_t rows = logits.dim(0);
  const kernels::LawPart mine = law_of("token_logprob: logits", logits, law, part);
  expect_elements("token_logprob: logprob", logprob, rows);
  expect_lse("token_logprob: lse", lse, rows);
  expect_elements("token_logprob: targets", targets, rows);
  logits.device().run([&](const auto& exec) {
    return kernels::token_logprob(exec, logprob.data<float>(), logits.data<float>(),
                                  lse.data<float>(), targets.data<std::int32_t>(), rows,
                                  logits.row_stride(), mine);
  });
}

void token_entropy(Tensor& entropy, const Tensor& logits, const Tensor& lse, const TokenLaw& law) {
  const std::int64_t rows = logits.dim(0);
  const kernels::LawPart whole = law_of("token_entropy: logits", logits, law);
  expect_elements("token_entropy: entropy", entropy, rows);
  expect_lse("token_entropy: lse", lse, rows);
  logits.device().run([&](const auto& exec) {
    return kernels::token_entropy(exec, entropy.data<float>(), logits.data<float>(),
                                  lse.data<float>(), rows, logits.row_stride(), whole);
  });
}

void token_entropy_leaves(Tensor& sums, const Tensor& logits, const Tensor& lse,
                          const TokenLaw& law, const VocabPart& part) {
  const std::int64_t rows = logits.dim(0);
  const kernels::LawPart mine = law_of("token_entropy_leaves: logits", logits, law, part);
  expect_elements("token_entropy_leaves: sums", sums, rows * mine.leaves);
  expect_lse("token_entropy_leaves: lse", lse, rows);
  logits.device().run([&](const auto& exec) {
    return kernels::token_entropy_leaves(exec, sums.data<float>(), logits.data<float>(),
                                         lse.data<float>(), rows, logits.row_stride(), mine);
  });
}

void join_entropy(Tensor& entropy, const Tensor& sums) {
  expect_elements("join_entropy: sums", sums, 8 * entropy.size());
  expect_ranks("join_entropy: sums", sums);
  entropy.device().run([&](const auto& exec) {
    return kernels::join_leaves(exec, entropy.data<float>(), sums.data<float>(), entropy.size(),
                                8 / sums.dim(0), -1.0f);
  });
}

namespace {

void expect_reference(const Tensor& logits, const Tensor& lse, const Tensor& reference_logits,
                      const Tensor& reference_lse) {
  expect_matrix("token_kl: reference_logits", reference_logits, logits.dim(0), logits.dim(1));
  expect_lse("token_kl: lse", lse, logits.dim(0));
  expect_lse("token_kl: reference_lse", reference_lse, logits.dim(0));
}

}  // namespace

void token_kl(Tensor& kl, const Tensor& logits, const Tensor& lse, const Tensor& reference_logits,
              const Tensor& reference_lse, const TokenLaw& law) {
  const kernels::LawPart whole = law_of("token_kl: logits", logits, law);
  expect_reference(logits, lse, reference_logits, reference_lse);
  expect_elements("token_kl: kl", kl, logits.dim(0));
  logits.device().run([&](const auto& exec) {
    return kernels::token_kl(exec, kl.data<float>(), logits.data<float>(), lse.data<float>(),
                             reference_logits.data<float>(), reference_lse.data<float>(),
                             logits.dim(0), logits.row_stride(), reference_logits.row_stride(),
                             whole);
  });
}

void token_kl_leaves(Tensor& sums, const Tensor& logits, const Tensor& lse,
                     const Tensor& reference_logits, const Tensor& reference_lse,
                     const TokenLaw& law, const VocabPart& part) {
  const kernels::LawPart mine = law_of("token_kl_leaves: logits", logits, law, part);
  expect_reference(logits, lse, reference_logits, reference_lse);
  expect_elements("token_kl_leaves: sums", sums, logits.dim(0) * mine.leaves);
  logits.device().run([&](const auto& exec) {
    return kernels::token_kl_leaves(exec, sums.data<float>(), logits.data<float>(),
                                    lse.data<float>(), reference_logits.data<float>(),
                                    reference_lse.data<float>(), logits.dim(0), logits.row_stride(),
                                    reference_logits.row_stride(), mine);
  });
}

void join_kl(Tensor& kl, const Tensor& sums) {
  expect_elements("join_kl: sums", sums, 8 * kl.size());
  expect_ranks("join_kl: sums", sums);
  kl.device().run([&](const auto& exec) {
    return kernels::join_leaves(exec, kl.data<float>(), sums.data<float>(), kl.size(),
                                8 / sums.dim(0), 1.0f);
  });
}

void token_backward(Tensor& dlogits, const Tensor& logits, const Tensor& lse, const Tensor& targets,
                    const TokenGradient& gradient, const TokenLaw& law, const VocabPart& part) {
  const std::int64_t rows = logits.dim(0);
  const kernels::LawPart mine = law_of("token_backward: logits", logits, law, part);
  expect_matrix("token_backward: dlogits", dlogits, rows, logits.dim(1));
  expect_lse("token_backward: lse", lse, rows);
  expect_elements("token_backward: targets", targets, rows);
  if (dlogits.raw() == logits.raw() && dlogits.row_stride() != logits.row_stride()) {
    wrong_shape("token_backward: dlogits", "the stride of the logits that it overwrites", dlogits);
  }
  if (!gradient.dlogprob.empty()) {
    expect_elements("token_backward: dlogprob", gradient.dlogprob, rows);
  }
  if (!gradient.dentropy.empty()) {
    expect_elements("token_backward: dentropy", gradient.dentropy, rows);
    expect_elements("token_backward: entropy", gradient.entropy, rows);
  }
  if (!gradient.dkl.empty()) {
    expect_elements("token_backward: dkl", gradient.dkl, rows);
    expect_elements("token_backward: kl", gradient.kl, rows);
    expect_lse("token_backward: reference_lse", gradient.reference_lse, rows);
    expect_matrix("token_backward: reference_logits", gradient.reference_logits, rows,
                  logits.dim(1));
  }
  kernels::TokenTerms terms;
  terms.dlogprob = data_of(gradient.dlogprob);
  terms.dentropy = data_of(gradient.dentropy);
  terms.entropy = data_of(gradient.entropy);
  terms.dkl = data_of(gradient.dkl);
  terms.kl = data_of(gradient.kl);
  terms.reference_logits = data_of(gradient.reference_logits);
  terms.reference_lse = data_of(gradient.reference_lse);
  terms.reference_stride = gradient.reference_logits.row_stride();
  run_typed("token_backward: dlogits", dlogits, [&](const auto& exec, auto type) {
    using D = decltype(type);
    kernels::token_backward(exec, dlogits.data<D>(), logits.data<float>(), lse.data<float>(),
                            targets.data<std::int32_t>(), terms, rows, dlogits.row_stride(),
                            logits.row_stride(), mine);
  });
}

void sample_tokens(Tensor& tokens, Tensor& logprob, const Tensor& logits, const Tensor& keys,
                   const Tensor& positions, const SamplingLaw& law) {
  const std::int64_t rows = logits.dim(0);
  expect_logits("sample_tokens: logits", logits, law.vocab);
  expect_elements("sample_tokens: tokens", tokens, rows);
  expect_elements("sample_tokens: logprob", logprob, rows);
  expect_elements("sample_tokens: keys", keys, rows);
  expect_elements("sample_tokens: positions", positions, rows);
  logits.device().run([&](const auto& exec) {
    return kernels::sample_tokens(exec, tokens.data<std::int32_t>(), logprob.data<float>(),
                                  logits.data<float>(),
                                  reinterpret_cast<const std::uint64_t*>(keys.data<std::int64_t>()),
                                  positions.data<std::int32_t>(), rows, logits.row_stride(),
                                  logits.dim(1), law.vocab, rule_of("sample_tokens", law));
  });
}

std::int64_t kept_tokens(Tensor& ids, Tensor& probability, const Tensor& logits_row,
                         const SamplingLaw& law) {
  const Tensor row = logits_row.view({1, logits_row.size()});
  expect_logits("kept_tokens: logits", row, law.vocab);
  if (ids.size() < law.vocab) wrong_shape("kept_tokens: ids", "room for the vocabulary", ids);
  if (probability.size() < law.vocab) {
    wrong_shape("kept_tokens: probability", "room for the vocabulary", probability);
  }
  const std::int64_t kept = row.device().run([&](const auto& exec) {
    return kernels::kept_tokens(exec, ids.data<std::int32_t>(), probability.data<float>(),
                                row.data<float>(), row.dim(1), law.vocab,
                                rule_of("kept_tokens", law));
  });
  if (kept < 0) throw Error("kept_tokens: a logit is not finite");
  return kept;
}

void take_drawn(Tensor& tokens, const Tensor& drawn) {
  expect_contiguous("take_drawn: tokens", tokens);
  expect_contiguous("take_drawn: drawn", drawn);
  tokens.device().run([&](const auto& exec) {
    kernels::take_drawn(exec, tokens.data<std::int32_t>(), drawn.data<std::int32_t>(),
                        tokens.size());
  });
}

static_assert(static_cast<int>(Ending::none) == static_cast<int>(kernels::Ending::none) &&
              static_cast<int>(Ending::stop) == static_cast<int>(kernels::Ending::stop) &&
              static_cast<int>(Ending::length) == static_cast<int>(kernels::Ending::length) &&
              static_cast<int>(Ending::broken) == static_cast<int>(kernels::Ending::broken));

void test_endings(Tensor& endings, const Tensor& drawn, const Tensor& stops, const Tensor& places,
                  const Tensor& limits) {
  const std::int64_t draws = drawn.size();
  expect_elements("test_endings: endings", endings, draws);
  expect_elements("test_endings: places", places, draws);
  expect_elements("test_endings: limits", limits, draws);
  expect_contiguous("test_endings: stops", stops);
  drawn.device().run([&](const auto& exec) {
    kernels::test_endings(exec, endings.data<std::int32_t>(), drawn.data<std::int32_t>(),
                          reinterpret_cast<const std::uint32_t*>(stops.data<std::int32_t>()),
                          places.data<std::int32_t>(), limits.data<std::int32_t>(), draws);
  });
}

}  // namespace fst::ops
