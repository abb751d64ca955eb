// Which products of bf16 matrices a rank's models will do, for the plans of cuBLASLt's.

#include <algorithm>

#include "fst/model/shard.h"
#include "fst/rollout/generator.h"
#include "fst/run/engine.h"
#include "fst/run/losses.h"
#include "fst/run/plan.h"
#include "fst/run/schedule.h"
#include "fst/tensor/ops.h"

namespace fst {

namespace {

/// The products of a rank's roles, one model after another.
class JobProducts {
 public:
  JobProducts(const RunConfig& config, std::int64_t prompt_tokens)
      : config_(config),
        pass_tokens_(config.learner.micro_batch * planned_length(config, prompt_tokens)),
        chunk_(std::max(config.learner.head_chunk, ops::rows_of_block(DType::bf16))) {}

  void generate(const ModelSource& source, int degree) {
    const std::int64_t decoded = Generator::most_decoded(generator_options(config_), false);
    const std::int64_t drawn = std::min(Generator::most_logits_rows(source.config), decoded);
    add(source, degree, {decoded + config_.rollout.prefill_chunk, drawn, false});
  }
  void score(const ModelSource& source, int degree) { add(source, degree, pass(false)); }
  void learn(const ModelSource& source, int degree) { add(source, degree, pass(true)); }
  std::int64_t pass_tokens() const { return pass_tokens_; }

  std::vector<PlannedProduct> all;

 private:
  PassRows pass(bool backward) const { return {pass_tokens_, chunk_, backward}; }
  void add(const ModelSource& source, int degree, const PassRows& rows) {
    const auto products = model_products(source.config, degree, rows);
    all.insert(all.end(), products.begin(), products.end());
  }

  const RunConfig& config_;
  std::int64_t pass_tokens_, chunk_;
};

}  // namespace

std::vector<PlannedProduct> job_products(const World& world, const RunConfig& config,
                                         const PlanModels& models, std::int64_t prompt_tokens) {
  const MethodTraits traits = traits_of(config.run.method);
  const RankPlan plan = plan_of(config);
  JobProducts products(config, prompt_tokens);
  if (world.rollout().member()) {
    products.generate(models.policy, plan.rollout.tp);
    if (const auto shape = scoring_shape(config, products.pass_tokens())) {
      products.score(models.policy, plan.rollout.tp);
      if (shape->base_kl || shape->base_logprob) products.score(models.base, plan.rollout.tp);
    }
  }
  if (world.reflection().member() && traits.evolves()) {
    products.generate(models.reflection, plan.reflection.tp);
  }
  if (world.learner().member() && traits.trains) {
    products.learn(models.policy, plan.learner.tp);
    if (kl_in_loss(config) || config.kl.seed_prompt > 0.0) {
      products.score(models.base, plan.learner.tp);
    }
  }
  return std::move(products.all);
}

}  // namespace fst
