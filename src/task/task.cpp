#include "fst/task/task.h"

#include <algorithm>
#include <array>
#include <set>
#include <utility>

#include "fst/base/error.h"
#include "fst/base/nearest.h"
#include "fst/base/random.h"
#include "fst/task/text.h"
#include "fst/task/verifiers.h"
#include "fst/task/world.h"

namespace fst {

namespace {

constexpr std::array<std::string_view, 3> task_names = {"world", "star_graph", "jsonl"};
constexpr std::array<std::string_view, 5> verify_names = {"world", "star_graph", "exact", "letter",
                                                          "json"};
constexpr std::array<std::string_view, 3> later_names = {"math", "retrieval", "program"};

[[noreturn]] void refuse_name(std::string_view what, std::string_view name,
                              std::span<const std::string_view> known) {
  if (std::ranges::find(later_names, name) != later_names.end()) {
    throw InputError(std::string(what) + " " + in_quotes(name) + " is not built yet");
  }
  std::string expected;
  for (const std::string_view option : known)
    expected.append(expected.empty() ? "" : ", ").append(option);
  throw InputError(std::string(what) + " " + in_quotes(name) + ": expected one of " + expected +
                   "; nearest is " + std::string(nearest(name, known)));
}

// The same whatever the order of the edges and of their ends.
std::string identity(const StarGraph& graph) {
  StarGraph sorted = graph;
  for (auto& [a, b] : sorted.edges) {
    if (a > b) std::swap(a, b);
  }
  std::ranges::sort(sorted.edges);
  return path_text(sorted) + " " + edges_text(sorted);
}

using Taken = std::set<std::string>;  // identities of graphs a stream must not hold

/// One split of generated graphs as a function of the position.
struct GraphStream {
  StarGraphOptions options;
  std::string split;
  std::uint64_t seed;
};

StarGraph graph_at(const GraphStream& stream, const Taken& taken, std::int64_t position) {
  if (position < 0) {
    throw Error("star_graph: expected a position of at least 0, found " + std::to_string(position));
  }
  const StarGraphOptions& o = stream.options;
  Rng rng(stream.seed, Purpose::problem_stream,
          {hash_text("star_graph"), static_cast<std::uint64_t>(o.degree),
           static_cast<std::uint64_t>(o.path_nodes), static_cast<std::uint64_t>(o.node_range),
           static_cast<std::uint64_t>(o.arm), hash_text(stream.split),
           static_cast<std::uint64_t>(position)});
  constexpr int max_draws = 10'000;  // only splits that hold nearly all graphs get there
  for (int draw = 0; draw < max_draws; ++draw) {
    StarGraph graph = draw_star_graph(o, rng);
    if (!taken.contains(identity(graph))) return graph;
  }
  throw InputError(
      "star_graph: the dev and test splits hold nearly all graphs of this size; make "
      "them smaller or the graphs larger");
}

Problem graph_problem(const GraphStream& stream, const StarGraph& graph, std::int64_t position) {
  return {"star_graph/" + stream.split + "/" + std::to_string(position), star_graph_question(graph),
          path_text(graph), ""};
}

std::vector<Problem> fixed_split(const GraphStream& stream, std::int64_t size, Taken& taken) {
  std::vector<Problem> problems;
  for (std::int64_t position = 0; position < size; ++position) {
    const StarGraph graph = graph_at(stream, taken, position);
    taken.insert(identity(graph));
    problems.push_back(graph_problem(stream, graph, position));
  }
  return problems;
}

Task make_star_graph_task(const TaskOptions& options) {
  validate(options.star_graph);
  constexpr std::int64_t default_test_size = 200;  // Tiwari et al. 2026, section 4
  constexpr std::uint64_t no_seed = 0;             // dev and test are the same for every run
  Task task;
  task.seed_prompt =
      "You find paths in graphs. Look at every neighbour of the source, follow each one onwards "
      "until you see which leads to the goal, and commit to that one. End with the whole path as "
      "node numbers separated by commas in \\boxed{}.";
  Taken taken;
  task.test = fixed_split({options.star_graph, "test", no_seed},
                          options.test_size > 0 ? options.test_size : default_test_size, taken);
  task.dev = fixed_split({options.star_graph, "dev", no_seed}, options.dev_size, taken);
  const GraphStream train{options.star_graph, "train", options.seed};
  task.train = [train, taken](std::int64_t position) {
    return graph_problem(train, graph_at(train, taken, position), position);
  };
  task.verify = verify_star_graph;
  return task;
}

Problem file_problem(const std::vector<Problem>& problems, std::uint64_t seed,
                     std::int64_t position) {
  if (problems.empty()) throw InputError("task jsonl: no file of training problems was given");
  if (position < 0) {
    throw Error("task jsonl: expected a position of at least 0, found " + std::to_string(position));
  }
  const auto size = static_cast<std::int64_t>(problems.size());
  const auto epoch = static_cast<std::uint64_t>(position / size);
  const std::uint64_t key =
      stream_key(seed, Purpose::problem_stream, {hash_text("jsonl epoch"), epoch});
  return problems[static_cast<std::size_t>(shuffled(position % size, size, key))];
}

Task make_file_task(const TaskOptions& options) {
  const AnswerVerifier verifier = answer_verifier(options.verifier);
  ProblemSets sets = load_problems(options.files, verifier, options.read);
  if (sets.train.empty() && sets.dev.empty() && sets.test.empty()) {
    throw InputError("task jsonl: expected at least one problem file (train, dev or test)");
  }
  Task task;
  switch (verifier) {
    case AnswerVerifier::exact:
      task.seed_prompt = "Answer the question. Reply with the answer alone.";
      break;
    case AnswerVerifier::letter:
      task.seed_prompt =
          "Answer the question. End with the letter of the right option in <answer></answer> tags.";
      break;
    case AnswerVerifier::json:
      task.seed_prompt = "Answer the question. Reply with the answer as one JSON value.";
      break;
  }
  task.dev = std::move(sets.dev);
  task.test = std::move(sets.test);
  task.train = [problems = std::move(sets.train), seed = options.seed](std::int64_t position) {
    return file_problem(problems, seed, position);
  };
  task.verify = [verifier](const Problem& problem, const Completed& completed) {
    return verify_answer(verifier, problem, completed);
  };
  return task;
}

Task make_named_task(const TaskOptions& options) {
  if (options.name == "world") return world::make_world_task(options);
  if (options.name == "star_graph") return make_star_graph_task(options);
  if (options.name == "jsonl") return make_file_task(options);
  refuse_name("task", options.name, task_names);
}

}  // namespace

Task make_task(const TaskOptions& options) {
  if (options.dev_size < 0 || options.test_size < 0) {
    throw InputError("task: dev_size and test_size must be at least 0, found " +
                     std::to_string(options.dev_size) + " and " +
                     std::to_string(options.test_size));
  }
  Task task = make_named_task(options);
  task.name = options.name;
  if (!options.seed_prompt.empty()) task.seed_prompt = options.seed_prompt;
  return task;
}

Verdict verify_by_name(std::string_view name, std::string_view problem, std::string_view reference,
                       std::string_view completion) {
  const Problem judged{"", std::string(problem), std::string(reference), ""};
  const Completed completed{completion, true};
  if (name == "world") return world::verify(judged, completed);
  if (name == "star_graph") return verify_star_graph(judged, completed);
  if (std::ranges::find(verify_names, name) == verify_names.end()) {
    refuse_name("task", name, verify_names);
  }
  return verify_answer(answer_verifier(name), judged, completed);
}

}  // namespace fst
