#include "kernels/cpu/token_law_isa.h"
#include "kernels/cpu/vec.h"
#include "kernels/cpu/vec_math.h"

namespace fst::kernels {

namespace FST_ISA_NS {

inline constexpr int all_leaves = 8;

FST_INLINE Vec minus_infinity() {
  return set(-__builtin_inff());
}

/// Calls f(offset, mask of lanes, elements) over x[0 .. n) in vectors of 16; the lanes behind the
/// end hold zeros.
template <class F>
FST_INLINE void over(const float* x, std::int64_t n, F f) {
  std::int64_t i = 0;
  for (; i + lanes <= n; i += lanes) f(i, first(lanes), load(x + i));
  if (i < n) f(i, first(n - i), load_first(x + i, n - i));
}

FST_INLINE bool leaf_sum(LawSum& total, const float* x, std::int64_t n, float beta) {
  Vec top = minus_infinity();
  Vec check = zero();  // stays 0 while all are finite: infinity and NaN times 0 are NaN
  const auto look = [&](std::int64_t, Mask mask, Vec z) __attribute__((always_inline)) {
    top = max(top, select(mask, z, minus_infinity()));
    check = fma(z, zero(), check);
  };
  over(x, n, look);
  total = {maximum(top), 0.0f};
  if (!(sum(check) == 0.0f)) {
    total = {__builtin_nanf(""), __builtin_nanf("")};
    return false;
  }
  const Vec b = set(beta), shift = set(total.max);
  Vec sums = zero();
  const auto take = [&](std::int64_t, Mask mask, Vec z) __attribute__((always_inline)) {
    sums = sums + select(mask, exp((z - shift) * b), zero());
  };
  over(x, n, take);
  total.sum = sum(sums);
  return true;
}

FST_INLINE LawSum join(const LawSum& x, const LawSum& y, float beta) {
  if (y.sum == 0.0f) return x;
  if (x.sum == 0.0f) return y;
  const float top = x.max > y.max ? x.max : y.max;
  return {top, x.sum * exp((x.max - top) * beta) + y.sum * exp((y.max - top) * beta)};
}

/// f(leaf, its first element, its length) for the leaves of a part.
template <class F>
FST_INLINE void for_leaves(const LawPart& law, F f) {
  const std::int64_t inside = law.inside();
  for (std::int64_t i = 0; i < law.leaves; ++i) {
    const std::int64_t begin = i * law.columns / law.leaves;
    const std::int64_t whole = (i + 1) * law.columns / law.leaves;
    const std::int64_t end = whole < inside ? whole : inside;
    f(i, begin, end < begin ? std::int64_t{0} : end - begin);
  }
}

/// log p of logits.
struct LogLaw {
  Vec max, log_sum, beta;
  FST_INLINE LogLaw(const LogSumExp& lse, float b)
      : max(set(lse.max)), log_sum(set(lse.log_sum)), beta(set(b)) {}
  FST_INLINE Vec operator()(Vec z) const { return (z - max) * beta - log_sum; }
};

struct Coefficients {
  Vec dlogprob, dentropy, entropy, dkl, kl;
};
/// p c of the header for 16 elements with log-probabilities lp and, with a reference, lq.
template <bool with_kl>
FST_INLINE Vec weighted(Vec lp, Vec lq, const Coefficients& k) {
  Vec c = fma(-k.dentropy, lp + k.entropy, -k.dlogprob);
  if constexpr (with_kl) c = fma(k.dkl, (lp - lq) - k.kl, c);
  return exp(lp) * c;
}

template <bool with_kl, class D>
FST_INLINE void backward_row(D* dlogits, const float* logits, const LawPart& law,
                             const LogSumExp& lse, std::int64_t row_target, const RowTerms& terms) {
  const std::int64_t n = law.inside(), target = row_target - law.first;
  const float beta = law.beta;
  const bool has_target = target >= 0 && target < n;
  const float g = row_target >= 0 && row_target < law.vocab ? terms.dlogprob : 0.0f;
  const Coefficients k{set(g), set(terms.dentropy), set(terms.entropy), set(terms.dkl),
                       set(terms.kl)};
  const LogLaw log_p(lse, beta), log_q(terms.reference_lse, beta);
  const auto gradient = [&](Vec z, Vec reference) __attribute__((always_inline)) {
    return weighted<with_kl>(log_p(z), log_q(reference), k);
  };
  const Vec b = set(beta);
  float at_target = 0.0f;  // before the logits are overwritten
  if (has_target) {
    const Vec reference = with_kl ? set(terms.reference_logits[target]) : zero();
    at_target = lane0((gradient(set(logits[target]), reference) + set(g)) * b);
  }
  std::int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    const Vec reference = with_kl ? load(terms.reference_logits + i) : zero();
    store(dlogits + i, gradient(load(logits + i), reference) * b);
  }
  if (i < n) {
    const Vec reference = with_kl ? load_first(terms.reference_logits + i, n - i) : zero();
    store_first(dlogits + i, gradient(load_first(logits + i, n - i), reference) * b, n - i);
  }
  if (has_target) dlogits[target] = narrowed_to<D>(at_target);
  for (std::int64_t v = n; v < law.columns; ++v) dlogits[v] = narrowed_to<D>(0.0f);
}

}  // namespace FST_ISA_NS

template <Isa isa>
bool TokenLaw<isa>::leaf_sums(LawSum* sums, const float* logits, const LawPart& law) {
  using namespace FST_ISA_NS;
  bool finite = true;
  for_leaves(law, [&](std::int64_t i, std::int64_t begin, std::int64_t count) {
    finite = leaf_sum(sums[i], logits + begin, count, law.beta) && finite;
  });
  return finite;
}

template <Isa isa>
LawSum TokenLaw<isa>::join(LawSum* sums, float beta) {
  using namespace FST_ISA_NS;
  for (int step = 1; step < all_leaves; step *= 2) {
    for (int i = 0; i < all_leaves; i += 2 * step) {
      sums[i] = FST_ISA_NS::join(sums[i], sums[i + step], beta);
    }
  }
  return sums[0];
}

template <Isa isa>
bool TokenLaw<isa>::sum(LawSum& total, const float* logits, const LawPart& law) {
  LawSum sums[FST_ISA_NS::all_leaves];
  const bool finite = leaf_sums(sums, logits, law);
  total = join(sums, law.beta);
  return finite;
}

template <Isa isa>
LogSumExp TokenLaw<isa>::lse(const LawSum& total) {
  return {total.max, FST_ISA_NS::log(total.sum)};
}

template <Isa isa>
void TokenLaw<isa>::entropy_leaves(float* sums, const float* logits, const LawPart& law,
                                   const LogSumExp& lse) {
  using namespace FST_ISA_NS;
  const LogLaw log_p(lse, law.beta);
  for_leaves(law, [&](std::int64_t leaf, std::int64_t begin, std::int64_t count) {
    Vec total = zero();
    const auto take = [&](std::int64_t, Mask mask, Vec z) __attribute__((always_inline)) {
      const Vec lp = log_p(z);
      total = select(mask, fma(exp(lp), lp, total), total);
    };
    over(logits + begin, count, take);
    sums[leaf] = FST_ISA_NS::sum(total);
  });
}

template <Isa isa>
void TokenLaw<isa>::kl_leaves(float* sums, const float* logits, const float* reference,
                              const LawPart& law, const LogSumExp& lse,
                              const LogSumExp& reference_lse) {
  using namespace FST_ISA_NS;
  const LogLaw log_p(lse, law.beta), log_q(reference_lse, law.beta);
  for_leaves(law, [&](std::int64_t leaf, std::int64_t begin, std::int64_t count) {
    Vec total = zero();
    const auto take = [&](std::int64_t i, Mask mask, Vec z) __attribute__((always_inline)) {
      const float* at = reference + begin + i;
      const Vec other = count - i >= lanes ? load(at) : load_first(at, count - i);
      const Vec lp = log_p(z);
      total = select(mask, fma(exp(lp), lp - log_q(other), total), total);
    };
    over(logits + begin, count, take);
    sums[leaf] = FST_ISA_NS::sum(total);
  });
}

template <Isa isa>
template <class D>
void TokenLaw<isa>::backward(D* dlogits, const float* logits, const LawPart& law,
                             const LogSumExp& lse, std::int64_t target, const RowTerms& terms) {
  if (terms.reference_logits == nullptr) {
    FST_ISA_NS::backward_row<false>(dlogits, logits, law, lse, target, terms);
  } else {
    FST_ISA_NS::backward_row<true>(dlogits, logits, law, lse, target, terms);
  }
}

template <Isa isa>
void TokenLaw<isa>::probabilities(float* y, const float* x, std::int64_t n, float beta,
                                  const LogSumExp& lse) {
  using namespace FST_ISA_NS;
  const LogLaw log_p(lse, beta);
  std::int64_t i = 0;
  for (; i + lanes <= n; i += lanes) store(y + i, exp(log_p(load(x + i))));
  if (i < n) store_first(y + i, exp(log_p(load_first(x + i, n - i))), n - i);
}

template struct TokenLaw<Isa::FST_ISA_NS>;
template void TokenLaw<Isa::FST_ISA_NS>::backward(float*, const float*, const LawPart&,
                                                  const LogSumExp&, std::int64_t, const RowTerms&);
template void TokenLaw<Isa::FST_ISA_NS>::backward(Bf16*, const float*, const LawPart&,
                                                  const LogSumExp&, std::int64_t, const RowTerms&);

}  // namespace fst::kernels
