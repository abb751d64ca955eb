#pragma once

#include <cstdint>

namespace fst {

/// Policy losses, all to be minimised. Source: fst_spec 5.2; CISPO: arXiv:2506.13585, eq. 4, with
/// one absolute cap as in arXiv:2605.12484, eq. 4.
enum class PolicyLoss : std::uint8_t {
  cispo,      // -min(ratio, tau) A logprob, the weight held constant; never zeroes a token
  reinforce,  // -A logprob
  ppo,        // -min(ratio A, clip(ratio, 1 - low, 1 + high) A): GRPO, DAPO, Dr.GRPO
};
/// Estimators of KL(policy || base) from d = logprob - base_logprob. k1 = d, k2 = d^2 / 2,
/// k3 = exp(-d) - 1 + d; k3_clamped: exponent within +-20, value within +-10 (no gradient outside);
/// k3_plus: the value of k3, the gradient of k2.
enum class KlEstimator : std::uint8_t { k1, k2, k3, k3_clamped, k3_plus };

struct PolicyLossOptions {
  PolicyLoss loss = PolicyLoss::cispo;
  double tau = 4.0;              // cispo: cap of the ratio, absolute
  double cispo_low = 0.0;        // cispo: lower bound of the weight; 0: none
  double low = 0.2, high = 0.2;  // ppo
  KlEstimator kl = KlEstimator::k3;
  bool kl_weighted = false;  // multiply a token's KL by min(ratio, tau), held constant
};

/// One token of the policy term, without its weight.
struct PolicyToken {
  double ratio = 1;     // exp(logprob - behaviour), exponent limited to +-20, no gradient outside
  double weight = 1;    // cispo: the ratio within its bounds; ppo: the ratio; reinforce: 1
  double term = 0;      // to be minimised
  double dlogprob = 0;  // d term / d logprob
  bool capped = false;  // the cap or the clip was active
};
PolicyToken policy_token(const PolicyLossOptions& options, double logprob, double behaviour,
                         double advantage);

/// One token of the KL term, without weight and coefficient.
struct KlToken {
  double value = 0;
  double dlogprob = 0;
};
KlToken kl_token(KlEstimator estimator, double logprob, double base_logprob);

/// What a sequence's group decided about each of its completion tokens.
struct TokenWeights {
  double advantage = 0;
  double policy = 0;          // weight in the policy term (learn/advantage.h)
  double kl = 0;              // weight in the KL term
  double kl_coefficient = 0;  // not above 0: no KL term, base_logprob is not read
};
/// One token of policy + kl_coefficient * kl, weights included where said.
struct TokenLoss {
  PolicyToken policy;   // without its weight
  KlToken kl;           // without weight, factor and coefficient
  double kl_share = 0;  // weight * factor * kl.value; factor: 1, or min(ratio, tau) if kl_weighted
  double dlogprob = 0;  // of the whole loss
};
TokenLoss token_loss(const PolicyLossOptions& options, const TokenWeights& weights, double logprob,
                     double behaviour, double base_logprob);

}  // namespace fst
