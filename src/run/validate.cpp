#include <algorithm>
#include <string>
#include <vector>

#include "fst/base/nearest.h"
#include "fst/run/config.h"
#include "fst/run/plan.h"
#include "fst/run/schedule.h"

namespace fst {

namespace {

void validate_exactness(const RunConfig& c, std::vector<std::string>& mistakes) {
  if (c.engine.products == "certified" && (c.engine.dtype != "bf16" || c.engine.device == "cpu")) {
    mistakes.push_back(
        "engine.products: certified is for engine.dtype = bf16 on a GPU; elsewhere all products "
        "are "
        "our own");
  }
  if (c.engine.attention == "cudnn" && c.engine.exact) {
    mistakes.push_back(
        "engine.attention: cudnn sums in an order of its own: it needs engine.exact = off");
  }
  if (c.engine.exact) return;
  if (c.engine.dtype != "bf16") {
    mistakes.push_back("engine.exact: off is for engine.dtype = bf16; " + c.engine.dtype +
                       " has the same bits everywhere");
  }
  if (c.engine.device == "cpu") {
    mistakes.push_back("engine.exact: off is for GPUs, but engine.device = cpu");
  }
}

void validate_roles(const RunConfig& c, std::vector<std::string>& mistakes) {
  const MethodTraits traits = traits_of(c.run.method);
  const std::string method = name_of(c.run.method);
  if (c.ranks.rollout + c.ranks.reflection + c.ranks.learner > 0) {
    if (c.ranks.rollout == 0) {
      mistakes.push_back("ranks.rollout: 0 beside other roles: nobody would sample");
    }
    if (c.ranks.learner == 0 && traits.trains) {
      mistakes.push_back("ranks.learner: 0, but run.method = " + method + " trains the weights");
    }
    if (c.ranks.reflection == 0 && traits.evolves()) {
      mistakes.push_back("ranks.reflection: 0, but run.method = " + method + " evolves prompts");
    }
  }
  // Colocated, the number of ranks is not known here: any degree divides eight.
  const RankPlan plan = plan_of(c);
  const auto problems =
      plan.colocated() ? problems_of(plan, 8) : plan_problems(c, fewest_ranks(plan));
  for (const auto& problem : problems) {
    mistakes.push_back(problem);
  }
  if (c.rollout.max_lag > 0 && traits.trains && c.train.loss == "reinforce") {
    mistakes.push_back(
        "rollout.max_lag: 1 trains on rollouts of older weights, and train.loss = reinforce has no "
        "ratio to correct for it: use cispo, grpo, dapo or dr_grpo, or 0");
  }
  if (c.engine.exchange == "nccl" && c.engine.device == "cpu") {
    mistakes.push_back(
        "engine.exchange: nccl moves tensors between GPUs, but engine.device = cpu: use auto or "
        "host");
  }
  validate_exactness(c, mistakes);
}

void validate_training(const RunConfig& c, std::vector<std::string>& mistakes) {
  const MethodTraits traits = traits_of(c.run.method);
  const std::int64_t prompts = population_size(c);
  if (traits.trains && c.train.group_size % prompts != 0) {
    mistakes.push_back(
        "train.group_size: " + std::to_string(c.train.group_size) +
        " rollouts cannot be split evenly over evolve.prompts = " + std::to_string(prompts));
  }
  if (traits.trains && traits.per_prompt_baseline && c.train.group_size == prompts) {
    mistakes.push_back(
        "train.group_size: a per-prompt baseline needs at least two rollouts per prompt");
  }
  if (c.cispo.tau <= 1.0) {
    mistakes.push_back(
        "cispo.tau: the absolute cap of the ratio must be above 1 (the paper: 4); 0.2 would cap "
        "every token");
  }
  if (c.kl.place == "reward" && c.kl.estimator != "k1") {
    mistakes.push_back("kl.place: reward takes kl.estimator = k1");
  }
  if (c.kl.place == "loss" && c.kl.estimator == "k1" && c.kl.coef > 0) {
    mistakes.push_back(
        "kl.estimator: k1 in the loss has zero expected gradient; use k2 or k3, or kl.place = "
        "reward");
  }
  if (traits.evolves() && c.evolve.minibatch > c.evolve.anchors) {
    mistakes.push_back("evolve.minibatch: larger than evolve.anchors");
  }
  if (c.evolve.selector == "top_k_pareto" && c.evolve.prompts < 1) {
    mistakes.push_back("evolve.selector: needs evolve.prompts");
  }
  if (traits.given_population && c.evolve.population.empty()) {
    mistakes.push_back("evolve.population: run.method = frozen needs a file of prompts");
  }
}

void validate_task(const RunConfig& c, std::vector<std::string>& mistakes) {
  static const std::vector<std::string> variants{"A", "B", "C", "hard"};
  if (c.task.name == "world") {
    for (const auto& variant : stage_variants(c)) {
      if (std::find(variants.begin(), variants.end(), variant) == variants.end()) {
        mistakes.push_back(std::string(c.task.stages.empty() ? "task.variant" : "task.stages") +
                           ": the world has no variant " + variant +
                           " (A, B, C, hard; nearest: " + nearest(variant, variants) + ")");
      }
    }
  } else if (!c.task.stages.empty()) {
    mistakes.push_back("task.stages: only the world has variants");
  }
  if (c.task.name == "jsonl") {
    if (c.task.train.empty())
      mistakes.push_back("task.train: a JSONL task needs a file of training problems");
    if (c.task.test.empty())
      mistakes.push_back("task.test: a JSONL task needs a file of test problems");
  }
  if (!c.eval.also.empty() &&
      std::find(variants.begin(), variants.end(), c.eval.also) == variants.end()) {
    mistakes.push_back("eval.also: the world has no variant " + c.eval.also);
  }
}

}  // namespace

void validate(const RunConfig& config, std::vector<std::string>& mistakes) {
  validate_roles(config, mistakes);
  validate_training(config, mistakes);
  validate_task(config, mistakes);
}

}  // namespace fst
