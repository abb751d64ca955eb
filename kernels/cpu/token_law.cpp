#include "kernels/token_law.h"

#include <atomic>
#include <limits>

#include "kernels/cpu/dispatch.h"
#include "kernels/cpu/token_law_isa.h"
#include "kernels/thread_pool.h"

namespace fst::kernels {

namespace {

// Logits per thread below which waking another thread costs more than it saves.
constexpr std::int64_t grain = 16384;

std::int64_t grain_rows(std::int64_t vocab) {
  return vocab < grain ? grain / (vocab + 1) + 1 : 1;
}

/// f.operator()<isa>(row) for every row, on all threads.
template <class F>
void for_rows(const Cpu& cpu, std::int64_t rows, std::int64_t vocab, const F& f) {
  for_isa(cpu, [&]<Isa isa>() {
    parallel_for(cpu, rows, grain_rows(vocab), [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t t = begin; t < end; ++t) f.template operator()<isa>(t);
    });
  });
}

LogSumExp lse_of(const float* lse, std::int64_t t) {
  return {lse[2 * t], lse[2 * t + 1]};
}

float value_or_zero(const float* values, std::int64_t t) {
  return values == nullptr ? 0.0f : values[t];
}

}  // namespace

std::int64_t token_lse(const Cpu& cpu, float* lse, const float* logits, std::int64_t rows,
                       std::int64_t stride, std::int64_t vocab, float beta) {
  std::atomic<std::int64_t> first_bad{rows};
  for_rows(cpu, rows, vocab, [&]<Isa isa>(std::int64_t t) {
    LawSum total{};
    if (TokenLaw<isa>::sum(total, logits + t * stride, vocab, beta)) {
      const LogSumExp found = TokenLaw<isa>::lse(total);
      lse[2 * t] = found.max;
      lse[2 * t + 1] = found.log_sum;
      return;
    }
    lse[2 * t] = lse[2 * t + 1] = std::numeric_limits<float>::quiet_NaN();
    std::int64_t seen = first_bad.load();
    while (t < seen && !first_bad.compare_exchange_weak(seen, t)) {
    }
  });
  return first_bad.load() == rows ? -1 : first_bad.load();
}

void token_logprob(const Cpu& /*cpu*/, float* logprob, const float* logits, const float* lse,
                   const std::int32_t* targets, std::int64_t rows, std::int64_t stride,
                   std::int64_t vocab, float beta) {
  for (std::int64_t t = 0; t < rows; ++t) {
    const std::int64_t target = targets[t];
    const bool inside = target >= 0 && target < vocab;
    logprob[t] = inside ? (logits[t * stride + target] - lse[2 * t]) * beta - lse[2 * t + 1]
                        : -std::numeric_limits<float>::infinity();
  }
}

void token_entropy(const Cpu& cpu, float* entropy, const float* logits, const float* lse,
                   std::int64_t rows, std::int64_t stride, std::int64_t vocab, float beta) {
  for_rows(cpu, rows, vocab, [&]<Isa isa>(std::int64_t t) {
    entropy[t] = TokenLaw<isa>::entropy(logits + t * stride, vocab, beta, lse_of(lse, t));
  });
}

void token_kl(const Cpu& cpu, float* kl, const float* logits, const float* lse,
              const float* reference_logits, const float* reference_lse, std::int64_t rows,
              std::int64_t stride, std::int64_t reference_stride, std::int64_t vocab, float beta) {
  for_rows(cpu, rows, vocab, [&]<Isa isa>(std::int64_t t) {
    kl[t] = TokenLaw<isa>::kl(logits + t * stride, reference_logits + t * reference_stride, vocab,
                              beta, lse_of(lse, t), lse_of(reference_lse, t));
  });
}

void token_backward(const Cpu& cpu, float* dlogits, const float* logits, const float* lse,
                    const std::int32_t* targets, const TokenTerms& terms, std::int64_t rows,
                    std::int64_t columns, std::int64_t dlogits_stride, std::int64_t stride,
                    std::int64_t vocab, float beta) {
  for_rows(cpu, rows, vocab, [&]<Isa isa>(std::int64_t t) {
    RowTerms row{};
    row.dlogprob = value_or_zero(terms.dlogprob, t);
    if (terms.dentropy != nullptr) {
      row.dentropy = terms.dentropy[t];
      row.entropy = terms.entropy[t];
    }
    if (terms.dkl != nullptr) {
      row.dkl = terms.dkl[t];
      row.kl = terms.kl[t];
      row.reference_logits = terms.reference_logits + t * terms.reference_stride;
      row.reference_lse = lse_of(terms.reference_lse, t);
    }
    float* out = dlogits + t * dlogits_stride;
    TokenLaw<isa>::backward(out, logits + t * stride, vocab, beta, lse_of(lse, t), targets[t], row);
    for (std::int64_t v = vocab; v < columns; ++v) out[v] = 0.0f;
  });
}

}  // namespace fst::kernels
