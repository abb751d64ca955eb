#pragma once

#include <string>
#include <vector>

#include "fst/run/recorder.h"
#include "fst/run/roles.h"

namespace fst {

/// What is evaluated, under which prompts.
struct EvaluationPlan {
  std::string split;  // name for the record
  std::vector<Problem> problems;
  std::string seed;                     // prompt of the row `seed`
  std::vector<std::string> population;  // Φ, lead first; empty: no rows lead and population
  std::int64_t step = 0, cycle = -1;
};

/// Rows `seed`, and where there is a population `lead` and `population`: mean@k and best@k at
/// eval.temperature and eval.top_p, exact KL to the base on samples at temperature 1 (eval.kl),
/// probability of the reference answers, share of the most frequent answer. Each distinct prompt is
/// sampled once; draws are keyed by (step, problem, prompt, sample), so no row depends on another.
/// Adds the rollouts made to `rollouts`. Collective over all ranks.
std::vector<EvaluationRow> evaluate_prompts(RunContext& context, RolloutRole& role,
                                            const Task& task, const EvaluationPlan& plan,
                                            std::int64_t& rollouts);

/// The problems of eval.split, the first eval.problems of them.
std::vector<Problem> evaluation_problems(const RunConfig& config, const Task& task);
/// Task options of a variant, as the deck says. Files are read by rank 0 and broadcast.
Task task_of(const World& world, const RunConfig& config, const std::string& variant);

}  // namespace fst
