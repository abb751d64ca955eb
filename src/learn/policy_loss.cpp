#include "fst/learn/policy_loss.h"

#include <algorithm>

#include "fst/base/portable_math.h"

namespace fst {

namespace {

// exp(20) = 4.9e8: beyond, a ratio says only that the two laws have nothing in common.
constexpr double exponent_limit = 20.0;
constexpr double k3_value_limit = 10.0;  // as verl clamps its low_var_kl

double limited(double x, double limit) {
  return std::clamp(x, -limit, limit);
}

}  // namespace

PolicyToken policy_token(const PolicyLossOptions& options, double logprob, double behaviour,
                         double advantage) {
  const double exponent = logprob - behaviour;
  PolicyToken token;
  token.ratio = portable_exp(limited(exponent, exponent_limit));
  if (options.loss == PolicyLoss::ppo) {
    token.weight = token.ratio;
    const double clipped = std::clamp(token.ratio, 1.0 - options.low, 1.0 + options.high);
    token.capped = clipped * advantage < token.ratio * advantage;
    token.term = -(token.capped ? clipped : token.ratio) * advantage;
    const bool moves = !token.capped && limited(exponent, exponent_limit) == exponent;
    token.dlogprob = moves ? -token.ratio * advantage : 0.0;
    return token;
  }
  if (options.loss == PolicyLoss::cispo) {
    token.weight = std::min(std::max(token.ratio, options.cispo_low), options.tau);
    token.capped = token.weight != token.ratio;
  }
  token.term = -token.weight * advantage * logprob;
  token.dlogprob = -token.weight * advantage;
  return token;
}

KlToken kl_token(KlEstimator estimator, double logprob, double base_logprob) {
  const double d = logprob - base_logprob;
  switch (estimator) {
    case KlEstimator::k1:
      return {d, 1.0};
    case KlEstimator::k2:
      return {d * d / 2.0, d};
    case KlEstimator::k3:
      return {portable_exp(-d) - 1.0 + d, 1.0 - portable_exp(-d)};
    case KlEstimator::k3_plus:
      return {portable_exp(-d) - 1.0 + d, d};
    case KlEstimator::k3_clamped:
      break;
  }
  const double c = limited(d, exponent_limit);
  const double value = portable_exp(-c) - 1.0 + c;
  const bool moves = c == d && value <= k3_value_limit;
  return {limited(value, k3_value_limit), moves ? 1.0 - portable_exp(-d) : 0.0};
}

TokenLoss token_loss(const PolicyLossOptions& options, const TokenWeights& weights, double logprob,
                     double behaviour, double base_logprob) {
  TokenLoss loss;
  loss.policy = policy_token(options, logprob, behaviour, weights.advantage);
  loss.dlogprob = weights.policy * loss.policy.dlogprob;
  if (!(weights.kl_coefficient > 0.0)) return loss;
  loss.kl = kl_token(options.kl, logprob, base_logprob);
  const double factor = options.kl_weighted ? std::min(loss.policy.ratio, options.tau) : 1.0;
  loss.kl_share = weights.kl * factor * loss.kl.value;
  loss.dlogprob += weights.kl_coefficient * weights.kl * factor * loss.kl.dlogprob;
  return loss;
}

}  // namespace fst
