#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "fst/task/problem.h"
#include "fst/task/problem_file.h"
#include "fst/task/star_graph.h"

namespace fst {

/// What the deck says about the task.
struct TaskOptions {
  std::string name = "world";  ///< world, star_graph or jsonl
  std::string variant = "A";   ///< world: A, B, C or hard
  std::uint64_t seed = 0;      ///< the run seed; decides the training problems and nothing else
  std::int64_t dev_size = 96;  ///< problems in the generated dev split
  std::int64_t test_size =
      0;                    ///< problems in the generated test split; 0: world 96, star_graph 200
  std::string seed_prompt;  ///< replaces the task's own seed prompt unless empty
  std::vector<std::int64_t> lengths = {4, 5, 6};  ///< world: list lengths, each 3 to 6
  StarGraphOptions star_graph;
  ProblemFiles files;              ///< jsonl
  std::string verifier = "exact";  ///< jsonl: exact, letter or json
  ReadFile read = read_text_file;  ///< how files are read
};

/// How the reflector of this task is asked and answers.
enum class ReflectionStyle : std::uint8_t {
  world,  ///< rulebook, blank line, records; the reply is the whole rulebook (no fences)
  qwen3,  ///< instruction-tuned model; the reply holds the prompt in a fenced block
};

/// A task as a value: where problems come from and how completions are judged. All functions are
/// pure and may be called from several threads.
struct Task {
  std::string name, variant, seed_prompt;
  ReflectionStyle reflection_style = ReflectionStyle::qwen3;
  /// The problem at a position >= 0 of the training stream: a function of the run seed and the
  /// position alone, at the same cost everywhere. Generated tasks never repeat by design; files
  /// are shuffled anew each epoch, and each epoch holds every problem once. Throws InputError if
  /// the deck names no training problems.
  std::function<Problem(std::int64_t position)> train;
  std::vector<Problem> dev, test;
  std::function<Verdict(const Problem&, const Completed&)> verify;
};

/// Builds the task. Throws InputError naming the mistake, what was expected and the nearest valid
/// name; file errors name file and line.
Task make_task(const TaskOptions& options);

/// Judges one completion outside any task, as `fst verify` does: `name` is world, star_graph,
/// exact, letter or json. `problem` is the question, or empty. A text counts as stopped.
/// Throws InputError for other names, naming the nearest.
Verdict verify_by_name(std::string_view name, std::string_view problem, std::string_view reference,
                       std::string_view completion);

}  // namespace fst
