#include "fst/run/deck_file.h"

#include "fst/run/records.h"

namespace fst {

namespace {

/// Keys of a deck have a dot, options of a verb have none.
bool is_override(const std::string& word) {
  return word.starts_with("--") && word.substr(0, word.find('=')).find('.') != std::string::npos;
}

}  // namespace

std::optional<DeckCall> DeckCall::parse(Usage usage, const std::vector<std::string>& words) {
  usage.operand = "DECK";
  usage.details +=
      (usage.details.empty() ? "" : "\n") +
      std::string("--section.key=value wins over the deck; fst check --keys lists all keys.");
  DeckCall call;
  std::vector<std::string> own;
  for (const std::string& word : words) (is_override(word) ? call.overrides : own).push_back(word);
  auto arguments = Arguments::parse(usage, own);
  if (!arguments) return std::nullopt;
  call.arguments = std::move(*arguments);
  return call;
}

Deck DeckCall::deck(const World& world) const {
  const std::string& path = arguments.operand();
  return parse_deck(path, read_input(world, path), overrides);
}

TaskOptions task_options(const RunConfig& config, const std::string& variant, ReadFile read) {
  const auto& task = config.task;
  TaskOptions options;
  options.name = task.name;
  options.variant = variant;
  options.seed = static_cast<std::uint64_t>(config.run.seed);
  options.dev_size = task.dev_problems;
  if (task.name == "star_graph") options.test_size = task.test_problems;
  options.lengths = task.lengths;
  options.star_graph.degree = task.graph_degree;
  options.star_graph.path_nodes = task.graph_path;
  options.star_graph.node_range = task.graph_nodes;
  options.star_graph.arm = task.graph_arm == "path" ? DecoyArm::path : DecoyArm::path_minus_one;
  options.files = {task.train, task.dev, task.test};
  options.verifier = task.verifier;
  if (!task.seed_prompt.empty()) options.seed_prompt = read(task.seed_prompt);
  options.read = std::move(read);
  return options;
}

}  // namespace fst
