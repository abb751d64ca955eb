#include "kernels/sampling.h"

#include <algorithm>
#include <limits>
#include <vector>

#include "kernels/cpu/dispatch.h"
#include "kernels/cpu/sampling_isa.h"
#include "kernels/cpu/token_law_isa.h"
#include "kernels/thread_pool.h"

namespace fst::kernels {

namespace {

struct Ranked {
  float logit;
  std::int32_t id;
};

bool ranks_before(const Ranked& a, const Ranked& b) {
  return a.logit > b.logit || (a.logit == b.logit && a.id < b.id);
}

/// One row on its way through the rule.
template <Isa isa>
class Truncation {
 public:
  Truncation(const float* logits, std::int64_t vocab, float beta, const LawSum& total)
      : logits_(logits), vocab_(vocab), beta_(beta), total_(total) {}

  /// The kept ids, ascending.
  std::vector<std::int32_t> kept(const SamplingRule& rule) {
    if (rule.top_k > 0 && rule.top_k < vocab_) keep_first(rule.top_k);
    if (rule.top_p < 1.0f) keep_mass(rule.top_p);
    if (rule.min_p > 0.0f) keep_likely(rule.min_p);
    std::vector<std::int32_t> ids;
    ids.reserve(ranked_.size());
    for (const Ranked& r : ranked_) ids.push_back(r.id);
    std::sort(ids.begin(), ids.end());
    return ids;
  }

 private:
  /// All ids within `nats` of the greatest, in ascending order.
  void gather(float nats) {
    ranked_.clear();
    for (std::int64_t v = 0; v < vocab_; ++v) {
      if ((logits_[v] - total_.max) * beta_ >= -nats) {
        ranked_.push_back({logits_[v], static_cast<std::int32_t>(v)});
      }
    }
  }
  // Few ids carry nearly all of the mass: look at the top first. What is kept does not depend on
  // it.
  template <class Enough>
  void gather_until(Enough enough) {
    for (const float nats : {8.0f, 16.0f, 32.0f, everything}) {
      gather(nats);
      if (enough()) return;
    }
  }

  /// exp((z - greatest z) beta) of ranked_, in its order.
  std::vector<float> weights() const {
    std::vector<float> w(ranked_.size());
    for (std::size_t i = 0; i < w.size(); ++i) w[i] = ranked_[i].logit;
    TokenLaw<isa>::probabilities(w.data(), w.data(), static_cast<std::int64_t>(w.size()), beta_,
                                 {total_.max, 0.0f});
    return w;
  }

  void keep_first(std::int32_t k) {
    const auto count = static_cast<std::size_t>(k);
    gather_until([&] { return ranked_.size() >= count; });
    std::nth_element(ranked_.begin(), ranked_.begin() + (k - 1), ranked_.end(), ranks_before);
    ranked_.resize(count);
    std::sort(ranked_.begin(), ranked_.end(), ranks_before);
    narrowed_ = true;
  }

  void keep_mass(float top_p) {
    double mass = static_cast<double>(total_.sum);
    if (narrowed_) {
      mass = 0.0;
      for (const float w : weights()) mass += static_cast<double>(w);
    }
    const double wanted = static_cast<double>(top_p) * mass;
    if (!narrowed_) {
      gather_until([&] {
        double found = 0.0;
        for (const float w : weights()) found += static_cast<double>(w);
        return found >= wanted;
      });
      std::sort(ranked_.begin(), ranked_.end(), ranks_before);
    }
    const std::vector<float> w = weights();
    double before = static_cast<double>(w[0]);
    std::size_t count = 1;
    while (count < w.size() && before < wanted) before += static_cast<double>(w[count++]);
    ranked_.resize(count);
    narrowed_ = true;
  }

  void keep_likely(float min_p) {
    if (!narrowed_) gather(min_p > 1e-3f ? 8.0f : everything);  // exp(-8) = 3.4e-4
    const std::vector<float> w = weights();
    std::size_t count = 0;
    for (std::size_t i = 0; i < w.size(); ++i) {
      if (w[i] >= min_p) ranked_[count++] = ranked_[i];
    }
    ranked_.resize(count);
  }

  static constexpr float everything = std::numeric_limits<float>::infinity();
  const float* logits_;
  std::int64_t vocab_;
  float beta_;
  LawSum total_;
  std::vector<Ranked> ranked_;
  bool narrowed_ = false;  // by top-k or top-p: ranked_ is all there is, in rank order
};

bool truncates(const SamplingRule& rule, std::int64_t vocab) {
  return (rule.top_k > 0 && rule.top_k < vocab) || rule.top_p < 1.0f || rule.min_p > 0.0f;
}

std::int32_t greedy(const float* logits, std::int64_t vocab) {
  return static_cast<std::int32_t>(std::max_element(logits, logits + vocab) - logits);
}

/// The kept ids of a row that is truncated, and the lse of their logits.
struct Kept {
  std::vector<std::int32_t> ids;
  LogSumExp lse;
};

template <Isa isa>
Kept keep(const float* logits, std::int64_t vocab, float beta, const LawSum& total,
          const SamplingRule& rule) {
  Kept kept{Truncation<isa>(logits, vocab, beta, total).kept(rule), TokenLaw<isa>::lse(total)};
  const auto count = static_cast<std::int64_t>(kept.ids.size());
  if (count == vocab) return kept;
  std::vector<float> left(kept.ids.size());
  for (std::size_t i = 0; i < left.size(); ++i) left[i] = logits[kept.ids[i]];
  LawSum sum{};
  TokenLaw<isa>::sum(sum, left.data(), {count, count, beta});
  kept.lse = TokenLaw<isa>::lse(sum);
  return kept;
}

/// False if a logit is not finite.
template <Isa isa>
bool draw(std::int32_t& token, float& logprob, const float* logits, std::int64_t columns,
          std::int64_t vocab, std::uint64_t key, std::int32_t position, const SamplingRule& rule) {
  const bool is_greedy = rule.temperature == 0.0f;
  const float beta = is_greedy ? 1.0f : 1.0f / rule.temperature;
  LawSum total{};
  if (!TokenLaw<isa>::sum(total, logits, {columns, vocab, beta})) return false;
  LogSumExp lse = TokenLaw<isa>::lse(total);
  const auto at = static_cast<std::uint32_t>(position);
  if (is_greedy) {
    token = greedy(logits, vocab);
  } else if (!truncates(rule, vocab)) {
    token = Sampling<isa>::gumbel_max(logits, vocab, total.max, beta, key, at);
  } else {
    const Kept kept = keep<isa>(logits, vocab, beta, total, rule);
    lse = kept.lse;
    std::vector<float> masked(static_cast<std::size_t>(vocab),
                              -std::numeric_limits<float>::infinity());
    for (const std::int32_t id : kept.ids) masked[static_cast<std::size_t>(id)] = logits[id];
    token = Sampling<isa>::gumbel_max(masked.data(), vocab, total.max, beta, key, at);
  }
  logprob = (logits[token] - lse.max) * beta - lse.log_sum;
  return true;
}

}  // namespace

template <>
void sample_tokens(const Cpu& cpu, std::int32_t* tokens, float* logprob, const float* logits,
                   const std::uint64_t* keys, const std::int32_t* positions, std::int64_t rows,
                   std::int64_t stride, std::int64_t columns, std::int64_t vocab,
                   const SamplingRule& rule) {
  const std::int64_t grain = vocab < 4096 ? 4096 / (vocab + 1) + 1 : 1;
  for_isa(cpu, [&]<Isa isa>() {
    parallel_for(cpu, rows, grain, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t t = begin; t < end; ++t) {
        if (draw<isa>(tokens[t], logprob[t], logits + t * stride, columns, vocab, keys[t],
                      positions[t], rule)) {
          continue;
        }
        tokens[t] = -1;
        logprob[t] = std::numeric_limits<float>::quiet_NaN();
      }
    });
  });
}

template <>
std::int64_t kept_tokens(const Cpu& cpu, std::int32_t* ids, float* probability, const float* logits,
                         std::int64_t columns, std::int64_t vocab, const SamplingRule& rule) {
  return for_isa(cpu, [&]<Isa isa>() -> std::int64_t {
    const bool is_greedy = rule.temperature == 0.0f;
    const float beta = is_greedy ? 1.0f : 1.0f / rule.temperature;
    LawSum total{};
    if (!TokenLaw<isa>::sum(total, logits, {columns, vocab, beta})) return -1;
    if (is_greedy) {
      ids[0] = greedy(logits, vocab);
      probability[0] = 1.0f;
      return 1;
    }
    Kept kept{{}, TokenLaw<isa>::lse(total)};
    if (truncates(rule, vocab)) {
      kept = keep<isa>(logits, vocab, beta, total, rule);
    } else {
      for (std::int64_t v = 0; v < vocab; ++v) kept.ids.push_back(static_cast<std::int32_t>(v));
    }
    const auto count = static_cast<std::int64_t>(kept.ids.size());
    for (std::int64_t i = 0; i < count; ++i) {
      ids[i] = kept.ids[static_cast<std::size_t>(i)];
      probability[i] = logits[ids[i]];
    }
    TokenLaw<isa>::probabilities(probability, probability, count, beta, kept.lse);
    return count;
  });
}

}  // namespace fst::kernels
