#include <cmath>
#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "fst/base/error.h"
#include "fst/base/log.h"
#include "fst/run/arguments.h"
#include "fst/run/check_report.h"
#include "fst/run/deck_file.h"
#include "fst/run/evaluation.h"
#include "fst/run/plan.h"
#include "fst/run/records.h"
#include "fst/run/run.h"
#include "fst/run/verbs.h"
#include "fst/store/checkpoint_file.h"
#include "fst/store/files.h"

namespace fst {

namespace {

/// What a checkpoint knows besides weights; empty for a folder.
RunState state_of(const World& world, const std::string& path) {
  if (!is_checkpoint(path)) return {};
  const CheckpointReader reader(world.all(), path);
  return RunState::from_bytes(reader.blob("/state"));
}

nlohmann::json to_json(const EvaluationRow& row, const char* weights) {
  const auto number = [](double value) {
    return std::isfinite(value) ? nlohmann::json(value) : nlohmann::json(nullptr);
  };
  return {{"kind", "eval"},
          {"weights", weights},
          {"step", row.step},
          {"split", row.split},
          {"prompt", row.prompt},
          {"accuracy", row.accuracy},
          {"best_at_k", row.best_at_k},
          {"kl/base", number(row.kl_base)},
          {"entropy", number(row.entropy)},
          {"collapse_share", row.collapse_share},
          {"gold_probability", number(row.gold_probability)},
          {"samples", row.samples},
          {"problems", row.problems}};
}

/// Evaluates one set of weights under all prompts, on the task and on eval.also; appends lines.
void evaluate_weights(World& world, const RunConfig& config, const JobMemory& memory,
                      const char* weights, EvaluationPlan plan, std::string& lines) {
  RunContext context(world, config, memory);
  Policy policy(context);
  RolloutRole role(context, policy);
  std::int64_t rollouts = 0;
  std::vector<std::string> variants{stage_variants(config).front()};
  if (!config.eval.also.empty()) variants.push_back(config.eval.also);
  for (const auto& variant : variants) {
    const Task task = task_of(world, config, variant);
    plan.split = config.eval.split + (variant == variants.front() ? "" : ":" + variant);
    plan.problems = evaluation_problems(config, task);
    plan.seed = task.seed_prompt;
    for (const auto& row : evaluate_prompts(context, role, task, plan, rollouts)) {
      char line[256];
      std::snprintf(line, sizeof line,
                    "weights=%s split=%s prompt=%s mean@%lld=%.4f best@%lld=%.4f kl_base=%.4f "
                    "collapse=%.2f p_gold=%.3e",
                    weights, row.split.c_str(), row.prompt.c_str(),
                    static_cast<long long>(row.samples), row.accuracy,
                    static_cast<long long>(row.samples), row.best_at_k, row.kl_base,
                    row.collapse_share, row.gold_probability);
      log::info(line);
      lines += to_json(row, weights).dump() + "\n";
    }
  }
}

}  // namespace

int eval_verb(World& world, const Words& words) {
  Usage usage;
  usage.verb = "eval";
  usage.summary =
      "Accuracy and KL to the base of model.policy (a folder or checkpoint), and its slow x fast\n"
      "decomposition.";
  usage.options.add_options()("tp", boost::program_options::value<std::int64_t>(),
                              "ranks that share one copy of the model; wins over rollout.tp");
  const auto call = DeckCall::parse(usage, words);
  if (!call) return EXIT_SUCCESS;
  const Deck deck = call->deck(world);
  RunConfig config = deck.config;
  if (config.model.policy.empty()) {
    throw InputError("model.policy: not set; give a Hugging Face folder or a checkpoint");
  }
  if (call->arguments.given("tp")) config.rollout.tp = call->arguments.integer("tp", 1, 8);
  // All ranks sample, nobody learns or reflects.
  config.ranks = {};
  config.run.method = Method::gepa;
  config.reflection.tp = config.rollout.tp;
  config.reflection.max_new_tokens = 1;
  config.model.reflection = config.model.base;
  if (config.eval.max_new_tokens > 0) config.rollout.max_new_tokens = config.eval.max_new_tokens;
  on_first_rank(world, "the plan of the job", [&] { expect_plan(config, world.all().size()); });
  world.split(plan_of(config));
  const RunState state = state_of(world, config.model.policy);
  EvaluationPlan plan;
  plan.step = state.step;
  plan.cycle = state.evolved_cycle;
  if (!config.eval.lead.empty()) {
    plan.population.push_back(read_text(config.eval.lead));
  } else {
    for (const Candidate& c : state.population) plan.population.push_back(c.text);
  }
  std::string lines;
  const JobMemory memory = open_unplanned_engine(world, config);
  evaluate_weights(world, config, memory, "policy", plan, lines);
  // The slow x fast decomposition: the same prompts on the base's weights.
  if (!config.model.base.empty() && config.model.base != config.model.policy) {
    RunConfig base = config;
    base.model.policy = config.model.base;
    evaluate_weights(world, base, memory, "base", plan, lines);
  }
  if (world.all().rank() == 0 && !config.run.output.empty()) {
    std::filesystem::create_directories(config.run.output);
    write_text(std::filesystem::path(config.run.output) / "eval.jsonl", lines);
  }
  return 0;
}

}  // namespace fst
