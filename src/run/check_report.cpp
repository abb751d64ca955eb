#include "fst/run/check_report.h"

#include <algorithm>
#include <optional>
#include <vector>

#include "fst/base/error.h"
#include "fst/run/conversation.h"
#include "fst/run/deck_file.h"
#include "fst/run/engine.h"
#include "fst/run/model_source.h"
#include "fst/run/plan.h"
#include "fst/run/records.h"
#include "fst/run/schedule.h"
#include "fst/tensor/library_attention.h"

namespace fst {

namespace {

/// One rendered prompt, and how long it is.
struct ShownPrompt {
  std::string text;
  std::int64_t tokens = 0;
};

ShownPrompt shown_prompt(const RunConfig& config, const ModelSource& policy) {
  const auto read = [](const std::string& path) { return read_input(path); };
  const Task task = make_task(task_options(config, stage_variants(config).front(), read));
  const Problem problem = traits_of(config.run.method).trains ? task.train(0)
                          : task.dev.empty()                  ? task.test.at(0)
                                                              : task.dev.front();
  ShownPrompt shown;
  shown.text =
      problem_prompt(policy.chat(), task.seed_prompt, problem, thinking_of(config.chat.thinking));
  const Tokenizer tokenizer = policy.tokenizer();
  law_vocabulary(policy, tokenizer);  // refuses a tokenizer that is too large
  shown.tokens = static_cast<std::int64_t>(tokenizer.encode(shown.text).size());
  return shown;
}

void print_role(std::string& text, const char* name, const RolePlan& role, int ranks) {
  const int units = ranks / role.tp;
  text +=
      "  " + std::string(name) + ": " + std::to_string(units) + (units == 1 ? " unit" : " units");
  if (role.tp > 1) text += " of " + std::to_string(role.tp) + " ranks";
  text += "\n";
}

void report_ranks(std::string& text, const RunConfig& config, int ranks) {
  const RankPlan plan = plan_of(config);
  refuse_all(plan_problems(config, ranks));
  const MethodTraits traits = traits_of(config.run.method);
  text += "\n# ranks\n";
  if (plan.colocated()) {
    text += "  any number" +
            (fewest_ranks(plan) > 1 ? " that " + std::to_string(fewest_ranks(plan)) + " divides"
                                    : std::string()) +
            ", colocated: every rank samples, reflects and learns\n  of " + std::to_string(ranks) +
            (ranks == 1 ? " rank:\n" : " ranks:\n");
  } else {
    text += "  " + std::to_string(ranks) + " ranks: " + std::to_string(plan.rollout.ranks) +
            " rollout, " + std::to_string(plan.reflection.ranks) + " reflection, " +
            std::to_string(plan.learner.ranks) + " learner\n";
  }
  const auto of_role = [&](const RolePlan& role) { return plan.colocated() ? ranks : role.ranks; };
  print_role(text, "rollout", plan.rollout, of_role(plan.rollout));
  if (traits.evolves()) {
    const int reflection = of_role(plan.reflection);
    print_role(text, "reflection", plan.reflection, reflection);
    const std::int64_t idle = reflection / plan.reflection.tp - config.evolve.proposals;
    if (!plan.colocated() && idle > 0) {
      text += "  note: " + std::to_string(idle) + " of them without work: evolve.proposals = " +
              std::to_string(config.evolve.proposals) + "\n";
    }
  }
  if (traits.trains) print_role(text, "learner", plan.learner, of_role(plan.learner));
  text += "  tensors between ranks: " + exchange_report(config, ranks) + "\n";
  text += "  products of matrices: " + products_report(config) + "\n";
  if (config.engine.attention == "cudnn") {
    text += "  attention of the learner: by cuDNN; here: " + cudnn_support() + "\n";
  }
}

void report_memory(std::string& text, const RunConfig& config,
                   const std::vector<RankMemory>& memory) {
  const bool turns = memory.front().turns;
  text += turns ? "\n# memory per rank, taken at the start; phases take turns with the same bytes\n"
                : "\n# memory per rank, estimated\n";
  for (const RankMemory& rank : memory) {
    text += "  " + rank.rank + ": " + bytes_text(rank.total()) + "\n";
    const PhaseBytes phases = rank.by_phase();
    for (std::size_t i = 0; i < phase_count; ++i) {
      const auto phase = static_cast<MemoryPhase>(i);
      if (phases[phase] == 0 || (!turns && phase == MemoryPhase::loading)) continue;
      text += "    " + std::string(name_of(phase)) + ": " + bytes_text(phases[phase]) + "\n";
      for (const MemoryPart& part : rank.parts) {
        if (part.phase != phase || part.bytes == 0) continue;
        text += "      " + part.what + ": " + bytes_text(part.bytes) + "\n";
      }
    }
    if (rank.beside.cuda > 0) {
      text += "    beside it, estimated: " + bytes_text(rank.beside.cuda) + " by CUDA";
      if (rank.beside.nccl > 0) text += ", " + bytes_text(rank.beside.nccl) + " by NCCL";
      text += "\n";
    }
    const std::int64_t room = (phases.turns() - phases[MemoryPhase::rollout]) >> 20;
    if (turns && phases[MemoryPhase::rollout] > 0 && room > 0) {
      text += "    rollout.kv_mib = " + std::to_string(config.rollout.kv_mib + room) +
              " would take no more: rollouts have bytes that another phase needs\n";
    }
  }
  text += "  allowed: " + bytes_text(memory_limit(config)) +
          (config.engine.memory_mib > 0 ? "" : ", what " + memory_owner(config) + " has") + "\n";
}

void report_steps(std::string& text, const RunConfig& config) {
  const MethodTraits traits = traits_of(config.run.method);
  const std::int64_t steps = config.run.steps;
  const std::int64_t cycles = steps == 0 ? 0 : cycle_of(config, steps - 1).index + 1;
  const std::int64_t rollouts = config.train.problems_per_step * config.train.group_size;
  text += "\n# steps\n  " + std::to_string(steps) + " steps in " + std::to_string(cycles) +
          " cycles of " + std::to_string(config.train.steps_per_cycle) + "\n";
  if (traits.trains) {
    text += "  " + std::to_string(config.train.problems_per_step) + " problems of " +
            std::to_string(config.train.group_size) + " rollouts a step, " +
            std::to_string(rollouts * steps) + " rollouts in all\n";
  }
  if (traits.evolves()) {
    text += "  fast phases of " + std::to_string(config.evolve.max_metric_calls) +
            " metric calls, " + std::to_string(config.evolve.prompts) + " prompts kept\n";
  }
  if (config.eval.every > 0) {
    text += "  " + std::to_string(steps / config.eval.every + 1) + " evaluations\n";
  }
}

void report_files(std::string& text, const RunConfig& config, const ModelSource* policy) {
  text += "\n# files\n";
  if (config.run.output.empty()) {
    text += "  run.output is not set\n";
    return;
  }
  text += "  " + config.run.output +
          "/{lock, config.resolved.cfg, history.h5, metrics.jsonl, checkpoint-<step>.h5}\n"
          "  a checkpoint every " +
          std::to_string(config.run.save_every) + " steps and after each fast phase";
  if (policy != nullptr) {
    text += ", " + bytes_text(3 * policy->config.parameter_count() * size_of(DType::f32)) + " each";
  }
  text += "\n";
}

}  // namespace

std::string check_report(const Deck& deck, std::optional<int> ranks) {
  const RunConfig& config = deck.config;
  const int assumed = ranks.value_or(fewest_ranks(plan_of(config)));
  std::string text = "# resolved deck\n" + resolved_deck(config);
  const auto unused = unused_keys(config, deck.given);
  if (!unused.empty()) {
    text += "\n# ignored by run.method = " + std::string(name_of(config.run.method)) + "\n";
    for (const std::string& key : unused) text += "  " + key + "\n";
  }
  report_ranks(text, config, assumed);
  std::optional<PlanModels> models;
  ShownPrompt prompt;
  if (!config.model.policy.empty()) {
    models = PlanModels::open(config);
    prompt = shown_prompt(config, models->policy);
    refuse_all(model_problems(config, *models));
    refuse_all(length_problems(config, *models, prompt.tokens));
    const auto memory = memory_plan(config, *models, assumed, prompt.tokens);
    report_memory(text, config, memory);
    refuse_all(memory_problems(config, memory));
  }
  report_steps(text, config);
  report_files(text, config, models ? &models->policy : nullptr);
  if (models) {
    text += "\n# the first training prompt, " + std::to_string(prompt.tokens) + " tokens\n" +
            prompt.text + "\n";
  } else {
    text += "\n# model.policy is not set: memory and prompt are not known\n";
  }
  return text;
}

std::int64_t first_prompt_tokens(const RunConfig& config) {
  return shown_prompt(config, ModelSource::open(config.model.policy)).tokens;
}

void expect_plan(const RunConfig& config, int ranks) {
  refuse_all(plan_problems(config, ranks));
  const PlanModels models = PlanModels::open(config);
  refuse_all(model_problems(config, models));
  const std::int64_t tokens = first_prompt_tokens(config);
  refuse_all(length_problems(config, models, tokens));
  refuse_all(memory_problems(config, memory_plan(config, models, ranks, tokens)));
}

}  // namespace fst
