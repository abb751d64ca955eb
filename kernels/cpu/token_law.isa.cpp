#include "kernels/cpu/token_law_isa.h"
#include "kernels/cpu/vec.h"
#include "kernels/cpu/vec_math.h"

namespace fst::kernels {

namespace FST_ISA_NS {

inline constexpr int leaves = 8;

FST_INLINE Vec minus_infinity() {
  return set(-__builtin_inff());
}

/// Calls f(offset, mask of lanes, loaded logits times beta) over [0, n) in vectors of 16; the lanes
/// behind the end hold zeros.
template <class F>
FST_INLINE void over(const float* x, std::int64_t n, float beta, F f) {
  const Vec b = set(beta);
  std::int64_t i = 0;
  for (; i + lanes <= n; i += lanes) f(i, first(lanes), load(x + i) * b);
  if (i < n) f(i, first(n - i), load_first(x + i, n - i) * b);
}

FST_INLINE bool leaf_sum(LawSum& total, const float* x, std::int64_t n, float beta) {
  Vec top = minus_infinity();
  Vec check = zero();  // stays 0 while all are finite: infinity and NaN times 0 are NaN
  over(
      x, n, beta, [&](std::int64_t, Mask mask, Vec s) __attribute__((always_inline)) {
        top = max(top, select(mask, s, minus_infinity()));
        check = fma(s, zero(), check);
      });
  total.max = maximum(top);
  total.sum = 0.0f;
  if (!(sum(check) == 0.0f)) return false;
  const Vec shift = set(total.max);
  Vec sums = zero();
  over(
      x, n, beta, [&](std::int64_t, Mask mask, Vec s) __attribute__((always_inline)) {
        sums = sums + select(mask, exp(s - shift), zero());
      });
  total.sum = sum(sums);
  return true;
}

FST_INLINE LawSum join(const LawSum& a, const LawSum& b) {
  if (b.sum == 0.0f) return a;
  if (a.sum == 0.0f) return b;
  const float top = a.max > b.max ? a.max : b.max;
  return {top, a.sum * exp(a.max - top) + b.sum * exp(b.max - top)};
}

/// f(leaf's first element, its length) for the 8 leaves, results joined by the tree with +.
template <class F>
FST_INLINE float tree_of_leaves(std::int64_t n, F f) {
  float part[leaves];
  for (int i = 0; i < leaves; ++i) {
    const std::int64_t begin = i * n / leaves;
    part[i] = f(begin, (i + 1) * n / leaves - begin);
  }
  return ((part[0] + part[1]) + (part[2] + part[3])) + ((part[4] + part[5]) + (part[6] + part[7]));
}

/// p c of the header for 16 elements with log-probabilities lp and, with a reference, lq.
struct Coefficients {
  Vec dlogprob, dentropy, entropy, dkl, kl;
};
template <bool with_kl>
FST_INLINE Vec weighted(Vec lp, Vec lq, const Coefficients& k) {
  Vec c = fma(-k.dentropy, lp + k.entropy, -k.dlogprob);
  if constexpr (with_kl) c = fma(k.dkl, (lp - lq) - k.kl, c);
  return exp(lp) * c;
}

template <bool with_kl>
FST_INLINE void backward_row(float* dlogits, const float* logits, std::int64_t n, float beta,
                             float lse, std::int64_t target, const RowTerms& terms) {
  const bool has_target = target >= 0 && target < n;
  const float g = has_target ? terms.dlogprob : 0.0f;
  const Coefficients k{set(g), set(terms.dentropy), set(terms.entropy), set(terms.dkl),
                       set(terms.kl)};
  const Vec b = set(beta), l = set(lse), reference_lse = set(terms.reference_lse);
  const auto gradient = [&](Vec z, Vec reference) __attribute__((always_inline)) {
    return weighted<with_kl>(z * b - l, reference * b - reference_lse, k);
  };
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
  if (has_target) dlogits[target] = at_target;
}

}  // namespace FST_ISA_NS

template <Isa isa>
bool TokenLaw<isa>::sum(LawSum& total, const float* logits, std::int64_t n, float beta) {
  using namespace FST_ISA_NS;
  LawSum part[leaves];
  bool finite = true;
  for (int i = 0; i < leaves; ++i) {
    const std::int64_t begin = i * n / leaves;
    finite = leaf_sum(part[i], logits + begin, (i + 1) * n / leaves - begin, beta) && finite;
  }
  total = join(join(join(part[0], part[1]), join(part[2], part[3])),
               join(join(part[4], part[5]), join(part[6], part[7])));
  return finite;
}

template <Isa isa>
float TokenLaw<isa>::lse(const LawSum& total) {
  return total.max + FST_ISA_NS::log(total.sum);
}

template <Isa isa>
float TokenLaw<isa>::entropy(const float* logits, std::int64_t n, float beta, float lse) {
  using namespace FST_ISA_NS;
  const Vec shift = set(lse);
  return -tree_of_leaves(n, [&](std::int64_t begin, std::int64_t count) {
    Vec total = zero();
    over(
        logits + begin, count,
        beta, [&](std::int64_t, Mask mask, Vec s) __attribute__((always_inline)) {
          const Vec lp = s - shift;
          total = select(mask, fma(exp(lp), lp, total), total);
        });
    return FST_ISA_NS::sum(total);
  });
}

template <Isa isa>
float TokenLaw<isa>::kl(const float* logits, const float* reference, std::int64_t n, float beta,
                        float lse, float reference_lse) {
  using namespace FST_ISA_NS;
  const Vec b = set(beta), shift = set(lse), reference_shift = set(reference_lse);
  return tree_of_leaves(n, [&](std::int64_t begin, std::int64_t count) {
    Vec total = zero();
    over(
        logits + begin, count,
        beta, [&](std::int64_t i, Mask mask, Vec s) __attribute__((always_inline)) {
          const float* at = reference + begin + i;
          const Vec z = count - i >= lanes ? load(at) : load_first(at, count - i);
          const Vec lp = s - shift;
          const Vec lq = z * b - reference_shift;
          total = select(mask, fma(exp(lp), lp - lq, total), total);
        });
    return FST_ISA_NS::sum(total);
  });
}

template <Isa isa>
void TokenLaw<isa>::backward(float* dlogits, const float* logits, std::int64_t n, float beta,
                             float lse, std::int64_t target, const RowTerms& terms) {
  if (terms.reference_logits == nullptr) {
    FST_ISA_NS::backward_row<false>(dlogits, logits, n, beta, lse, target, terms);
  } else {
    FST_ISA_NS::backward_row<true>(dlogits, logits, n, beta, lse, target, terms);
  }
}

template <Isa isa>
void TokenLaw<isa>::exp_shifted(float* y, const float* x, std::int64_t n, float beta, float shift) {
  using namespace FST_ISA_NS;
  const Vec minus = set(shift);
  over(
      x, n, beta, [&](std::int64_t i, Mask, Vec s) __attribute__((always_inline)) {
        const Vec e = exp(s - minus);
        if (n - i >= lanes) {
          store(y + i, e);
        } else {
          store_first(y + i, e, n - i);
        }
      });
}

template struct TokenLaw<Isa::FST_ISA_NS>;

}  // namespace fst::kernels
