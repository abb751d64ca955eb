#include "fst/run/schedule.h"

#include <algorithm>

namespace fst {

MethodTraits traits_of(Method method) {
  MethodTraits traits;
  switch (method) {
    case Method::fst:
      traits.evolves_every_cycle = true;
      break;
    case Method::rl:
      traits.seed_prompt_only = true;
      break;
    case Method::gepa:
      traits.evolves_every_cycle = true;
      traits.trains = false;
      break;
    case Method::frozen:
      traits.given_population = true;
      break;
    case Method::copies:
      traits.evolves_every_cycle = true;
      traits.copies_of_lead = true;
      break;
    case Method::per_prompt:
      traits.evolves_every_cycle = true;
      traits.per_prompt_baseline = true;
      break;
    case Method::rl_gepa:
      traits.seed_prompt_only = true;
      traits.evolves_at_end = true;
      break;
    case Method::gepa_rl:
      traits.evolves_first_cycle = true;
      break;
  }
  return traits;
}

std::vector<std::string> unused_keys(const RunConfig& config,
                                     const std::vector<std::string>& given) {
  const MethodTraits traits = traits_of(config.run.method);
  const auto starts = [](const std::string& key, const char* prefix) {
    return key.rfind(prefix, 0) == 0;
  };
  std::vector<std::string> unused;
  for (const auto& key : given) {
    const bool evolution = starts(key, "evolve.") || starts(key, "reflection.") ||
                           key == "model.reflection" || key == "ranks.reflection";
    const bool slow = starts(key, "optim.") || starts(key, "kl.") || starts(key, "cispo.") ||
                      starts(key, "learner.") || key == "ranks.learner" || key == "train.loss" ||
                      key == "train.advantage" || key == "train.group_size" ||
                      key == "train.aggregation" || key == "train.std" || key == "train.entropy" ||
                      key == "rollout.max_lag";
    const bool keeps_prompts = key == "evolve.prompts" && !traits.seed_prompt_only;
    const bool population = key == "evolve.population";
    if ((population && !traits.given_population) ||
        (evolution && !population && !traits.evolves() && !keeps_prompts) ||
        (slow && !traits.trains)) {
      unused.push_back(key);
    }
  }
  return unused;
}

std::int64_t population_size(const RunConfig& config) {
  return traits_of(config.run.method).seed_prompt_only ? 1 : config.evolve.prompts;
}

std::vector<std::string> stage_variants(const RunConfig& config) {
  if (config.task.stages.empty()) return {config.task.variant};
  return config.task.stages;
}

Cycle cycle_of(const RunConfig& config, std::int64_t step) {
  const std::int64_t per_cycle = config.train.steps_per_cycle;
  const auto stages = static_cast<std::int64_t>(stage_variants(config).size());
  Cycle cycle;
  std::int64_t stage_start = 0, cycles_before = 0;
  if (stages > 1) {
    const std::int64_t length = config.task.steps_per_stage;
    cycle.stage = std::min(step / length, stages - 1);
    stage_start = cycle.stage * length;
    cycles_before = cycle.stage * ((length + per_cycle - 1) / per_cycle);
  }
  const std::int64_t within = (step - stage_start) / per_cycle;
  cycle.index = cycles_before + within;
  cycle.first_step = stage_start + within * per_cycle;
  cycle.steps = per_cycle;
  if (cycle.stage + 1 < stages) {
    cycle.steps = std::min(per_cycle, stage_start + config.task.steps_per_stage - cycle.first_step);
  }
  cycle.first_position = (cycle.first_step - stage_start) * config.train.problems_per_step;
  cycle.opens_stage = within == 0;
  const MethodTraits traits = traits_of(config.run.method);
  cycle.evolves = traits.evolves_every_cycle || (traits.evolves_first_cycle && cycle.index == 0);
  return cycle;
}

bool samples_ahead(const RunConfig& config, const Cycle& cycle, std::int64_t step) {
  return config.rollout.max_lag > 0 && step + 1 < cycle.first_step + cycle.steps;
}

bool evaluation_due(const RunConfig& config, std::int64_t step) {
  return config.eval.every > 0 && step % config.eval.every == 0;
}

}  // namespace fst
