#include "fst/task/star_graph.h"

#include <algorithm>
#include <cctype>
#include <cstddef>
#include <map>
#include <optional>

#include "fst/base/error.h"
#include "fst/task/text.h"

namespace fst {

namespace {

// Labels are drawn from a table of this many entries at most.
constexpr std::int64_t max_nodes = 1'000'000;

std::int64_t arm_nodes(const StarGraphOptions& options) {
  return options.path_nodes - (options.arm == DecoyArm::path_minus_one ? 1 : 0);
}

std::int64_t node_count(const StarGraphOptions& options) {
  return options.path_nodes + (options.degree - 1) * arm_nodes(options);
}

std::int64_t label_range(const StarGraphOptions& options) {
  return options.node_range == 0 ? options.degree * options.path_nodes : options.node_range;
}

// The first `count` labels of a shuffle of [0, range): Fisher-Yates that stores only what moved.
std::vector<std::int64_t> draw_labels(std::int64_t range, std::int64_t count, Rng& rng) {
  std::map<std::int64_t, std::int64_t> moved;
  const auto at = [&moved](std::int64_t i) {
    const auto found = moved.find(i);
    return found == moved.end() ? i : found->second;
  };
  std::vector<std::int64_t> labels;
  for (std::int64_t i = 0; i < count; ++i) {
    const auto j = i + static_cast<std::int64_t>(rng.below(static_cast<std::uint64_t>(range - i)));
    labels.push_back(at(j));
    moved[j] = at(i);
  }
  return labels;
}

void shuffle_edges(std::vector<std::pair<std::int64_t, std::int64_t>>& edges, Rng& rng) {
  for (std::size_t i = edges.size(); i > 1; --i) std::swap(edges[i - 1], edges[rng.below(i)]);
  for (auto& [a, b] : edges) {
    if (rng.below(2) == 1) std::swap(a, b);
  }
}

std::string joined(const std::vector<std::int64_t>& nodes) {
  std::string text;
  for (const std::int64_t node : nodes) {
    if (!text.empty()) text += ",";
    text += std::to_string(node);
  }
  return text;
}

std::vector<std::string_view> split_nodes(std::string_view text) {
  std::vector<std::string_view> nodes;
  for (;;) {
    const std::size_t comma = text.find(',');
    nodes.push_back(text.substr(0, comma));
    if (comma == std::string_view::npos) return nodes;
    text.remove_prefix(comma + 1);
  }
}

bool is_digit(char c) {
  return std::isdigit(static_cast<unsigned char>(c)) != 0;
}

// True if `pair` stands in `text` as a whole, not inside longer numbers or lists.
bool holds_pair(std::string_view text, const std::string& pair) {
  const auto joins = [](char c) { return is_digit(c) || c == ','; };
  for (std::size_t at = text.find(pair); at != std::string_view::npos;
       at = text.find(pair, at + 1)) {
    const std::size_t end = at + pair.size();
    if ((at == 0 || !joins(text[at - 1])) && (end == text.size() || !joins(text[end]))) return true;
  }
  return false;
}

bool is_edge(std::string_view question, std::string_view a, std::string_view b) {
  return holds_pair(question, std::string(a) + "," + std::string(b)) ||
         holds_pair(question, std::string(b) + "," + std::string(a));
}

// Where a wrong answer leaves the gold path. Both texts are free of white space.
std::string first_fault(std::string_view question, std::string_view answer, std::string_view gold) {
  const std::vector<std::string_view> given = split_nodes(answer), path = split_nodes(gold);
  std::size_t i = 0;
  while (i < given.size() && i < path.size() && given[i] == path[i]) ++i;
  if (i == given.size()) {
    return "The path stops at " + in_quotes(given.back()) + "; the next node is " +
           std::string(path[i]) + ".";
  }
  if (i == path.size()) {
    return "The path goes on after the goal with " + in_quotes(given[i]) + "; it should end there.";
  }
  if (i == 0) {
    return "The path starts at " + in_quotes(given[0]) + "; it should start at the source " +
           std::string(path[0]) + ".";
  }
  const std::string before(path[i - 1]);
  std::string fault = "Node " + std::to_string(i + 1) + " of the path is " + in_quotes(given[i]) +
                      "; after " + before + " it should be " + std::string(path[i]) + ".";
  if (question.empty()) return fault;
  return fault + (is_edge(question, before, given[i])
                      ? " That neighbour does not lead to the goal."
                      : " There is no such edge at " + before + ".");
}

}  // namespace

void validate(const StarGraphOptions& options) {
  std::string faults;
  if (options.degree < 1 || options.degree > max_nodes) {
    faults += " degree must be 1 to " + std::to_string(max_nodes) + ", found " +
              std::to_string(options.degree) + ";";
  }
  if (options.path_nodes < 2 || options.path_nodes > max_nodes) {
    faults += " path_nodes must be 2 to " + std::to_string(max_nodes) + ", found " +
              std::to_string(options.path_nodes) + ";";
  }
  if (faults.empty() && node_count(options) > max_nodes) {
    faults += " degree and path_nodes make " + std::to_string(node_count(options)) +
              " nodes, at most " + std::to_string(max_nodes) + " are supported;";
  }
  if (faults.empty() && label_range(options) < node_count(options)) {
    faults += " node_range must be 0 or at least " + std::to_string(node_count(options)) +
              " (the nodes of the graph), found " + std::to_string(options.node_range) + ";";
  }
  if (!faults.empty()) {
    faults.pop_back();
    throw InputError("star_graph:" + faults);
  }
}

StarGraph draw_star_graph(const StarGraphOptions& options, Rng& rng) {
  validate(options);
  const std::vector<std::int64_t> labels =
      draw_labels(label_range(options), node_count(options), rng);
  StarGraph graph;
  graph.path.assign(labels.begin(), labels.begin() + options.path_nodes);
  for (std::size_t i = 1; i < graph.path.size(); ++i) {
    graph.edges.emplace_back(graph.path[i - 1], graph.path[i]);
  }
  const auto arm = static_cast<std::size_t>(arm_nodes(options));
  for (std::size_t first = graph.path.size(); first < labels.size(); first += arm) {
    std::int64_t previous = graph.source();
    for (std::size_t i = first; i < first + arm; ++i) {
      graph.edges.emplace_back(previous, labels[i]);
      previous = labels[i];
    }
  }
  shuffle_edges(graph.edges, rng);
  return graph;
}

std::string edges_text(const StarGraph& graph) {
  std::string text;
  for (const auto& [a, b] : graph.edges) {
    if (!text.empty()) text += " ";
    text += std::to_string(a) + "," + std::to_string(b);
  }
  return text;
}

std::string path_text(const StarGraph& graph) {
  return joined(graph.path);
}

std::string star_graph_question(const StarGraph& graph) {
  return "Here are the edges of an undirected graph. Each pair a,b joins the nodes a and b, both "
         "ways.\n" +
         edges_text(graph) + "\nFind the path from node " + std::to_string(graph.source()) +
         " to node " + std::to_string(graph.goal()) +
         ". Think first; then give all nodes of the path in order, both ends included, separated "
         "by commas, in \\boxed{}.";
}

Verdict verify_star_graph(const Problem& problem, const Completed& completed) {
  const std::string gold = without_white_space(problem.reference);
  if (gold.empty()) return {0.0f, VerdictStatus::error, "the reference holds no path"};
  const std::optional<std::string_view> box = last_boxed(after_thinking(completed.text));
  if (!box) {
    return {0.0f, VerdictStatus::unparsable,
            "No complete \\boxed{} was found after the reasoning; the path belongs in it."};
  }
  const std::string answer = without_white_space(*box);
  if (answer == gold) return {1.0f, VerdictStatus::ok, "The path is right."};
  return {0.0f, VerdictStatus::ok, first_fault(problem.question, answer, gold)};
}

}  // namespace fst
