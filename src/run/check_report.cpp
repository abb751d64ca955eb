#include "fst/run/check_report.h"

#include <algorithm>
#include <bit>
#include <cstdio>
#include <optional>
#include <vector>

#include "fst/base/error.h"
#include "fst/model/activations.h"
#include "fst/model/kv_cache.h"
#include "fst/run/conversation.h"
#include "fst/run/deck_file.h"
#include "fst/run/model_source.h"
#include "fst/run/records.h"
#include "fst/run/schedule.h"
#include "fst/tensor/ops.h"

namespace fst {

namespace {

constexpr std::int64_t f32_bytes = 4;

std::string bytes_text(std::int64_t bytes) {
  char text[32];
  const double mib = static_cast<double>(bytes) / (1 << 20);
  std::snprintf(text, sizeof text, mib < 10240 ? "%.1f MiB" : "%.1f GiB",
                mib < 10240 ? mib : mib / 1024);
  return text;
}

/// One rendered prompt, and how long it is.
struct ShownPrompt {
  std::string text;
  std::int64_t tokens = 0;
};

/// Everything the report speaks of that is read from files.
struct Materials {
  ModelSource policy, base, reflection;
  ShownPrompt prompt;
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

/// One line of the estimate.
struct Part {
  const char* what;
  std::int64_t bytes;
};

/// Weights as the matrix products read them, and with `embedding` the copy that inference keeps.
std::int64_t packed_bytes(const Qwen3Config& model, bool embedding) {
  std::int64_t elements = ops::packed_size(model.vocab_size, model.hidden_size);
  if (embedding) elements += model.vocab_size * model.hidden_size;
  for (const ParameterSpec& spec : parameter_specs(model)) {
    const bool layer = spec.rank == 2 && spec.name.find(".layers.") != std::string::npos;
    if (layer) elements += ops::packed_size(spec.rows, spec.cols);
  }
  return elements * f32_bytes;
}

std::int64_t gradient_bytes(const RunConfig& config, const Qwen3Config& model,
                            std::int64_t learners) {
  std::int64_t elements = model.parameter_count();
  if (model.tie_word_embeddings) elements += model.vocab_size * model.hidden_size;
  const std::int64_t leaves = (config.learner.gradient_leaves + learners - 1) / learners;
  const auto levels = static_cast<std::int64_t>(
      std::bit_width(static_cast<std::uint64_t>(leaves - 1)));  // of the rank's tree
  return elements * f32_bytes * (1 + levels);
}

void add_learner(const RunConfig& config, const Materials& m, std::int64_t learners,
                 std::vector<Part>& parts) {
  const Qwen3Config& model = m.policy.config;
  const std::int64_t length = m.prompt.tokens + config.rollout.max_new_tokens;
  const std::int64_t batch = config.learner.micro_batch;
  parts.push_back({"gradients", gradient_bytes(config, model, learners)});
  parts.push_back({"moments", 2 * model.parameter_count() * f32_bytes / learners});
  parts.push_back(
      {"activations of a micro-batch", batch * length * Activations::bytes_per_token(model)});
  parts.push_back({"keys and values of a micro-batch",
                   batch * blocks_for(length) * KvCache::bytes_per_block(model)});
  parts.push_back(
      {"logits of a chunk", 2 * config.learner.head_chunk * model.vocab_size * f32_bytes});
}

/// Parts of a rank that has the roles given.
std::vector<Part> memory_of(const RunConfig& config, const Materials& m, bool rollout,
                            bool reflection, bool learner, std::int64_t learners) {
  const MethodTraits traits = traits_of(config.run.method);
  std::vector<Part> parts;
  learner = learner && traits.trains;
  if (rollout || learner) {
    parts.push_back({"weights", m.policy.config.parameter_count() * f32_bytes});
    parts.push_back({"packed weights", packed_bytes(m.policy.config, !learner)});
  }
  const bool base = (learner && config.kl.coef > 0) || (rollout && config.eval.kl);
  if (base) parts.push_back({"base model", packed_bytes(m.base.config, true)});
  if (learner) add_learner(config, m, learners, parts);
  if (rollout) parts.push_back({"keys and values, at most", config.rollout.kv_mib << 20});
  if (reflection && traits.evolves()) {
    const bool shared = base && m.reflection.path == m.base.path;
    if (!shared) parts.push_back({"reflection model", packed_bytes(m.reflection.config, true)});
    parts.push_back({"its keys and values, at most", config.rollout.kv_mib << 20});
  }
  return parts;
}

void print_memory(std::string& text, const std::string& rank, const std::vector<Part>& parts) {
  std::int64_t total = 0;
  for (const Part& part : parts) total += part.bytes;
  text += "  " + rank + ": " + bytes_text(total) + "\n";
  for (const Part& part : parts) {
    text += std::string("    ") + part.what + ": " + bytes_text(part.bytes) + "\n";
  }
}

void report_ranks(std::string& text, const RunConfig& config) {
  const RankPlan plan = plan_of(config);
  text += "\n# ranks\n";
  if (plan.colocated()) {
    text += "  any number, colocated: every rank samples, reflects and learns\n";
    return;
  }
  const int ranks = plan.rollout.ranks + plan.reflection.ranks + plan.learner.ranks;
  const auto problems = problems_of(plan, ranks);
  if (!problems.empty()) throw InputError(problems.front());
  text += "  " + std::to_string(ranks) + " ranks: " + std::to_string(plan.rollout.ranks) +
          " rollout, " + std::to_string(plan.reflection.ranks) + " reflection, " +
          std::to_string(plan.learner.ranks) + " learner\n";
}

void report_memory(std::string& text, const RunConfig& config, const Materials& materials) {
  text += "\n# memory per rank, estimated\n";
  const RankPlan plan = plan_of(config);
  if (plan.colocated()) {
    print_memory(text, "every rank of 1", memory_of(config, materials, true, true, true, 1));
    return;
  }
  const auto learners = std::max(plan.learner.ranks, 1);
  print_memory(text, "rollout rank", memory_of(config, materials, true, false, false, learners));
  print_memory(text, "reflection rank", memory_of(config, materials, false, true, false, learners));
  print_memory(text, "learner rank", memory_of(config, materials, false, false, true, learners));
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
    text += ", " + bytes_text(3 * policy->config.parameter_count() * f32_bytes) + " each";
  }
  text += "\n";
}

}  // namespace

std::string check_report(const Deck& deck) {
  const RunConfig& config = deck.config;
  std::string text = "# resolved deck\n" + resolved_deck(config);
  const auto unused = unused_keys(config, deck.given);
  if (!unused.empty()) {
    text += "\n# ignored by run.method = " + std::string(name_of(config.run.method)) + "\n";
    for (const std::string& key : unused) text += "  " + key + "\n";
  }
  report_ranks(text, config);
  std::optional<Materials> materials;
  if (!config.model.policy.empty()) {
    const auto model = [&](const std::string& path) {
      return ModelSource::open(path.empty() ? config.model.policy : path);
    };
    materials.emplace(
        Materials{model({}), model(config.model.base), model(config.model.reflection), {}});
    materials->prompt = shown_prompt(config, materials->policy);
    report_memory(text, config, *materials);
  }
  report_steps(text, config);
  report_files(text, config, materials ? &materials->policy : nullptr);
  if (materials) {
    text += "\n# the first training prompt, " + std::to_string(materials->prompt.tokens) +
            " tokens\n" + materials->prompt.text + "\n";
  } else {
    text += "\n# model.policy is not set: memory and prompt are not known\n";
  }
  return text;
}

}  // namespace fst
