#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "fst/base/types.h"
#include "fst/comm/communicator.h"
#include "fst/learn/gradient_pass.h"
#include "fst/learn/gradient_tree.h"
#include "fst/learn/learner_grid.h"
#include "fst/learn/optimizer.h"
#include "fst/learn/policy_loss.h"

namespace fst {

/// One trajectory to learn from, with what its group decided about it.
struct LearnerSequence {
  std::int64_t group = 0;       // number of its problem within the step
  std::vector<TokenId> tokens;  // [T] prompt, then completion
  std::int32_t prompt_length = 0;
  std::vector<float> behaviour;  // [T - prompt_length] log-probabilities as sampled
  double advantage = 0.0;
  double policy_weight = 0.0;  // of each completion token in the policy term; 0: no such term
  double kl_weight = 0.0;      // of each completion token in the KL term, without coefficient
  bool on_policy = true;       // sampled by the weights that learn now
};

/// A completion under the seed prompt: full-vocabulary KL to the base on its tokens.
struct AnchorSequence {
  std::int64_t group = 0;
  std::vector<TokenId> tokens;
  std::int32_t prompt_length = 0;
  double weight = 0.0;  // of each completion token, without coefficient
};

struct LearnerOptions {
  PolicyLossOptions loss;       // policy term and KL estimator
  double kl_coefficient = 0.0;  // of the KL term under the used prompt
  double entropy_coefficient = 0.0;
  double anchor_coefficient = 0.0;  // of the KL term under the seed prompt
  ops::TokenLaw law;
  std::int64_t micro_batch = 64, head_chunk = 256, gradient_leaves = 8;
  std::int64_t most_tokens = 0;  // of a micro-batch; 0: any
  Keep keep = Keep::all;         // of activations
  bool exact = true;             // on-policy log-probabilities are the sampler's, bit for bit
  AdamWOptions optimizer;
  double lr = 1e-6;
  std::int64_t warmup = 10;
};

/// What a step reports; the same on every learner. Means are over the trained completion tokens.
struct StepStats {
  double policy_loss = 0, kl_loss = 0, seed_loss = 0;  // terms of the loss, coefficients included
  double kl_ref = 0, kl_seed = 0, entropy = 0;         // nats per token
  double ratio_mean = 1, ratio_max = 1, frac_capped = 0;
  double logprob_abs_diff_max = 0;  // sampler against learner, on-policy tokens; 0 where exact
  double grad_norm = 0, lr = 0;
  std::int64_t tokens = 0;  // trained completion tokens
  double seconds = 0;
};

/// The slow weights' side of a step: gradient of the loss over this learner's leaves, the canonical
/// sum, AdamW. `policy` and `parameters` are updated in place. Source: Tiwari et al. 2026,
/// arXiv:2605.12484, section 3; losses in learn/policy_loss.h.
class Learner {
 public:
  /// `base` may be null where neither KL term is used. Policy, parameters and base are the shards
  /// of this rank's place in its unit. Replicas beyond options.gradient_leaves have nothing to
  /// compute.
  Learner(Qwen3& policy, Parameters& parameters, Qwen3* base, const LearnerGrid& grid,
          const LearnerOptions& options);

  /// Takes at once all memory that steps need, whose micro-batches have up to options.most_tokens.
  void reserve();
  /// What the passes of a step with these options are asked for.
  static PassShape pass_shape(const LearnerOptions& options);

  /// `groups` of the whole step, dropped ones included: they decide the leaves. `sequences` and
  /// `anchors` are this unit's, the same on each of its ranks, in the order of groups and requests.
  /// Throws Error if an on-policy log-probability differs by a bit from the sampler's and
  /// options.exact. Collective over the grid.
  StepStats step(std::int64_t groups, const std::vector<LearnerSequence>& sequences,
                 const std::vector<AnchorSequence>& anchors);

  /// The unit, of `units`, that holds `group` of `groups`.
  static int owner_of(std::int64_t group, std::int64_t groups, std::int64_t leaves, int units);

  Optimizer& optimizer() { return optimizer_; }

 private:
  struct Sums;
  void add_policy_leaf(Range groups, Gradients& gradients,
                       const std::vector<LearnerSequence>& sequences, Sums& sums);
  void add_anchor_leaf(Range groups, Gradients& gradients,
                       const std::vector<AnchorSequence>& anchors, Sums& sums);
  StepStats stats_of(Sums& sums) const;

  Qwen3* policy_;
  Parameters* parameters_;
  LearnerGrid grid_;
  LearnerOptions options_;
  Device memory_;
  GradientTree tree_;
  Optimizer optimizer_;
  GradientPass pass_;
};

}  // namespace fst
