#include "fst/run/plan.h"

#include <algorithm>

#include "fst/base/error.h"
#include "fst/model/shard.h"
#include "fst/run/schedule.h"

namespace fst {

RankPlan plan_of(const RunConfig& config) {
  const MethodTraits traits = traits_of(config.run.method);
  const auto role = [](std::int64_t ranks, std::int64_t tp, bool used) {
    return RolePlan{static_cast<int>(ranks), used ? static_cast<int>(tp) : 1};
  };
  return {role(config.ranks.rollout, config.rollout.tp, true),
          role(config.ranks.reflection, config.reflection.tp, traits.evolves()),
          role(config.ranks.learner, config.learner.tp, traits.trains)};
}

int fewest_ranks(const RankPlan& plan) {
  if (plan.colocated()) return std::max({plan.rollout.tp, plan.reflection.tp, plan.learner.tp});
  return plan.rollout.ranks + plan.reflection.ranks + plan.learner.ranks;
}

std::vector<std::string> plan_problems(const RunConfig& config, int ranks) {
  const RankPlan plan = plan_of(config);
  std::vector<std::string> problems = problems_of(plan, ranks);
  if (!problems.empty() || !traits_of(config.run.method).trains) return problems;
  const std::int64_t learners = plan.colocated() ? ranks : plan.learner.ranks;
  const std::int64_t replicas = learners / plan.learner.tp;
  if (replicas > config.learner.gradient_leaves) {
    problems.push_back(
        "learner.gradient_leaves = " + std::to_string(config.learner.gradient_leaves) + ", but " +
        std::to_string(learners) + " learner ranks with learner.tp = " +
        std::to_string(plan.learner.tp) + " are " + std::to_string(replicas) +
        " replicas: some would have no part of the gradient; use fewer learners, a "
        "larger learner.tp or more leaves (which changes the trajectory)");
  }
  return problems;
}

PlanModels PlanModels::open(const RunConfig& config) {
  const ModelSource policy = ModelSource::open(config.model.policy);
  const auto other = [&](const std::string& path) {
    return path.empty() || path == policy.path ? policy : ModelSource::open(path);
  };
  return {policy, other(config.model.base), other(config.model.reflection)};
}

std::vector<std::string> model_problems(const RunConfig& config, const PlanModels& models) {
  const RankPlan plan = plan_of(config);
  std::vector<std::string> problems;
  const auto share = [&](const std::string& key, int degree, const ModelSource& model) {
    for (const std::string& problem : shard_problems(model.config, degree)) {
      problems.push_back(key + " = " + std::to_string(degree) + ": " + model.path + ": " + problem);
    }
  };
  share("rollout.tp", plan.rollout.tp, models.policy);
  share("learner.tp", plan.learner.tp, models.policy);
  if (models.base.path != models.policy.path) {
    share("rollout.tp", plan.rollout.tp, models.base);
    share("learner.tp", plan.learner.tp, models.base);
  }
  share("reflection.tp", plan.reflection.tp, models.reflection);
  return problems;
}

std::vector<std::string> length_problems(const RunConfig& config, const PlanModels& models,
                                         std::int64_t prompt_tokens) {
  std::vector<std::string> problems;
  // The last token drawn is not read again: it needs no position.
  const auto fit = [&](const std::string& key, std::int64_t new_tokens, const ModelSource& model,
                       std::int64_t positions, std::int64_t prompt, const std::string& behind) {
    if (prompt + new_tokens - 1 <= positions) return;
    problems.push_back(key + " = " + std::to_string(new_tokens) + behind + ": " + model.path +
                       " takes " + std::to_string(positions) + " positions");
  };
  const std::int64_t positions = models.policy.config.max_position_embeddings;
  const std::string behind =
      " behind the first prompt of " + std::to_string(prompt_tokens) + " tokens";
  fit("rollout.max_new_tokens", config.rollout.max_new_tokens, models.policy, positions,
      prompt_tokens, behind);
  fit("eval.max_new_tokens", config.eval.max_new_tokens, models.policy, positions, prompt_tokens,
      behind);
  if (traits_of(config.run.method).evolves()) {
    // No sequence is longer than the policy takes; how long the prompts will be is not known.
    const auto& reflection = models.reflection;
    fit("reflection.max_new_tokens", config.reflection.max_new_tokens, reflection,
        std::min(positions, reflection.config.max_position_embeddings), 1, " behind any prompt");
  }
  return problems;
}

void split_into_units(World& world, const Arguments& arguments, const ModelSource& model) {
  const auto tp = static_cast<int>(arguments.integer("tp", 1, 8));
  const int ranks = world.all().size();
  std::vector<std::string> problems;
  for (const std::string& problem : shard_problems(model.config, tp)) {
    problems.push_back("--tp " + std::to_string(tp) + ": " + model.path + ": " + problem);
  }
  if (ranks % tp != 0) {
    problems.push_back("--tp " + std::to_string(tp) + ": does not divide the job's " +
                       std::to_string(ranks) + (ranks == 1 ? " rank" : " ranks") +
                       "; start it with mpirun -n " + std::to_string(tp) + " or a multiple");
  }
  refuse_all(problems);
  world.split({{0, tp}, {0, 1}, {0, 1}});
}

void refuse_all(const std::vector<std::string>& problems) {
  std::string text;
  for (const std::string& problem : problems) text += (text.empty() ? "" : "\n") + problem;
  if (!text.empty()) throw InputError(text);
}

}  // namespace fst
