#include "fst/run/continuation.h"

#include <cinttypes>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <set>
#include <vector>

#include "fst/base/error.h"
#include "fst/base/random.h"
#include "fst/run/engine.h"
#include "fst/run/records.h"
#include "fst/run/schedule.h"

namespace fst {

namespace {

constexpr const char* dtype_key = "engine.dtype";

std::string sum_of(const std::string& content) {
  char text[20];
  std::snprintf(text, sizeof text, "%016" PRIx64, hash_text(content));
  return text;
}

/// Weights and configuration have sums of their own: the identity of the weights.
void add_model(const std::string& key, const ModelFiles& files, InputSums& sums) {
  for (const auto& [name, content] : files) {
    if (name != "config.json") sums[key + ": " + name] = sum_of(content);
  }
}

[[noreturn]] void refuse(const std::string& file, const std::string& what,
                         const std::vector<std::string>& mistakes, const std::string& rule) {
  std::string message = file + ": " + what;
  for (const auto& mistake : mistakes) message += "\n  " + mistake;
  throw InputError(message + "\n" + rule);
}

}  // namespace

bool may_change_on_resume(const std::string& key) {
  static const std::set<std::string> free{
      "run.steps",           "run.save_every",    "run.keep_every",
      "run.time_limit",      "run.deadline",      "run.output",
      "model.policy",        "model.reflection",  "model.base",
      "task.train",          "task.dev",          "task.test",
      "task.seed_prompt",    "evolve.population", "reflection.layout",
      "learner.micro_batch", "rollout.max_batch", "rollout.prefill_chunk",
      "learner.head_chunk",  "rollout.kv_mib",    "rollout.tp",
      "reflection.tp",       "learner.tp",        "engine.device",
      "engine.threads",      "engine.exchange",   "engine.products",
      "engine.graphs",       "eval.lead",         "learner.recompute"};
  return free.contains(key) || key.starts_with("ranks.") || key.starts_with("pretrain.");
}

void expect_same_deck(const RunConfig& now, const RunConfig& then, const std::string& file) {
  std::vector<std::string> mistakes;
  const auto ours = keys_of(now), theirs = keys_of(then);
  for (std::size_t i = 0; i < ours.size(); ++i) {
    if (ours[i].text == theirs[i].text || may_change_on_resume(ours[i].name)) continue;
    mistakes.push_back(ours[i].name + " = " + ours[i].text + ", but the run has " + theirs[i].text);
  }
  if (mistakes.empty()) return;
  refuse(file, "this checkpoint belongs to another deck:", mistakes,
         "only run.steps, layout, devices, limits and paths may change (fst check --keys)");
}

InputSums input_sums(const World& world, const RunConfig& config, const ModelSource& policy,
                     const Device& device) {
  std::string text;
  on_first_rank(world, "input files", [&] {
    InputSums sums;
    const auto add = [&](const char* key, const std::string& path) {
      if (!path.empty()) sums[key] = sum_of(read_input(path));
    };
    if (config.task.name == "jsonl") {
      add("task.train", config.task.train);
      add("task.dev", config.task.dev);
      add("task.test", config.task.test);
    }
    add("task.seed_prompt", config.task.seed_prompt);
    add_model("model.policy", policy.files, sums);
    if (traits_of(config.run.method).evolves()) {
      if (config.reflection.layout != "auto") add("reflection.layout", config.reflection.layout);
      const std::string& path = config.model.reflection;
      add_model("model.reflection", path.empty() ? policy.files : read_model_files(path), sums);
    }
    if (arithmetic_of(config.engine.dtype) == DType::bf16) {
      sums[dtype_key] = device.arithmetic(true);
    }
    text = nlohmann::json(sums).dump();
  });
  world.all().broadcast(text, 0, "sums of the input files");
  return nlohmann::json::parse(text).get<InputSums>();
}

void expect_same_inputs(const InputSums& now, const InputSums& then, const std::string& file) {
  std::vector<std::string> mistakes;
  for (const auto& [key, sum] : now) {
    const auto before = then.find(key);
    if (before == then.end()) {
      mistakes.push_back(key + ": the run began without it");
    } else if (key == dtype_key && before->second != sum) {
      mistakes.push_back(key + ": the run has " + before->second + ", here is " + sum +
                         ", which has other bits");
    } else if (before->second != sum) {
      mistakes.push_back(key + ": its content is another one");
    }
  }
  for (const auto& [key, sum] : then) {
    if (!now.contains(key)) mistakes.push_back(key + ": the run began with one, now there is none");
  }
  if (mistakes.empty()) return;
  refuse(
      file, "this checkpoint belongs to a run on other files:", mistakes,
      "files may move, their contents may not change; a run in bf16 stays on one kind of device");
}

}  // namespace fst
