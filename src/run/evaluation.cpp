#include "fst/run/evaluation.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "fst/base/clock.h"
#include "fst/run/deck_file.h"
#include "fst/run/records.h"
#include "fst/run/requests.h"

namespace fst {

namespace {

constexpr double not_measured = std::numeric_limits<double>::quiet_NaN();

/// What one prompt scored.
struct PromptScore {
  std::vector<float> per_problem;
  double accuracy = 0, best = 0, collapse = 0;
};

PromptScore score_of(const EvaluationPlan& plan, const RequestBatch& batch,
                     const std::vector<Outcome>& outcomes, std::size_t prompt,
                     std::int64_t samples) {
  PromptScore score;
  std::vector<double> sum(plan.problems.size(), 0.0), best(plan.problems.size(), 0.0);
  std::vector<Outcome> mine;
  for (std::size_t i = 0; i < outcomes.size(); ++i) {
    if (static_cast<std::size_t>(batch.requests[i].prompt) != prompt) continue;
    const auto p = static_cast<std::size_t>(batch.requests[i].problem);
    const double reward = static_cast<double>(outcomes[i].reward);
    sum[p] += reward;
    best[p] = std::max(best[p], reward);
    mine.push_back(outcomes[i]);
  }
  const auto k = static_cast<double>(samples);
  for (std::size_t p = 0; p < sum.size(); ++p) {
    score.per_problem.push_back(static_cast<float>(sum[p] / k));
    score.accuracy += sum[p] / k;
    score.best += best[p];
  }
  const auto problems = static_cast<double>(std::max<std::size_t>(sum.size(), 1));
  score.accuracy /= problems;
  score.best /= problems;
  score.collapse = collapse_share(mine);
  return score;
}

/// The mean over the slots of the population; a prompt that fills several slots counts as often.
PromptScore mean_over(const std::vector<std::string>& slots,
                      const std::vector<std::string>& prompts,
                      const std::vector<PromptScore>& scores) {
  PromptScore mean;
  std::vector<double> per_problem;
  for (const auto& slot : slots) {
    const auto at = std::find(prompts.begin(), prompts.end(), slot) - prompts.begin();
    const PromptScore& score = scores[static_cast<std::size_t>(at)];
    mean.accuracy += score.accuracy;
    mean.best += score.best;
    mean.collapse += score.collapse;
    per_problem.resize(score.per_problem.size(), 0.0);
    for (std::size_t p = 0; p < per_problem.size(); ++p) {
      per_problem[p] += static_cast<double>(score.per_problem[p]);
    }
  }
  const auto count = static_cast<double>(slots.size());
  mean.accuracy /= count;
  mean.best /= count;
  mean.collapse /= count;
  for (const double value : per_problem)
    mean.per_problem.push_back(static_cast<float>(value / count));
  return mean;
}

/// The seed prompt and the distinct prompts of the population that rows are wanted for.
std::vector<std::string> distinct_prompts(const RunConfig& config, const EvaluationPlan& plan) {
  std::vector<std::string> prompts{plan.seed};
  for (const auto& prompt : plan.population) {
    const bool wanted = config.eval.population || &prompt == &plan.population.front();
    if (wanted && std::find(prompts.begin(), prompts.end(), prompt) == prompts.end()) {
      prompts.push_back(prompt);
    }
  }
  return prompts;
}

EvaluationRow row_of(const RunConfig& config, const EvaluationPlan& plan, const char* name,
                     const PromptScore& score) {
  EvaluationRow row;
  row.step = plan.step;
  row.cycle = plan.cycle;
  row.split = plan.split;
  row.prompt = name;
  row.accuracy = score.accuracy;
  row.best_at_k = score.best;
  row.per_problem = score.per_problem;
  row.collapse_share = score.collapse;
  row.samples = config.eval.samples;
  row.problems = static_cast<std::int64_t>(plan.problems.size());
  row.kl_base = row.entropy = row.gold_probability = not_measured;
  return row;
}

/// Fills in the exact KL, the entropy and the probability of the reference answers under `prompt`.
void measure(RunContext& context, RolloutRole& role, const Task& task, const EvaluationPlan& plan,
             const std::string& prompt, EvaluationRow& row, std::int64_t& rollouts) {
  const RunConfig& config = context.config;
  if (config.eval.kl) {
    RequestBatch draws =
        evaluation_requests(config, plan, {prompt}, config.eval.kl_samples, Purpose::probe_draw);
    draws.law = {.temperature = 1.0f, .vocab = context.vocab};
    role.start(draws, task);
    rollouts += static_cast<std::int64_t>(draws.requests.size());
    const Divergence divergence = role.divergence();
    row.kl_base = divergence.kl;
    row.entropy = divergence.entropy;
  }
  if (task.name == "world") row.gold_probability = role.gold_probability(plan.problems, prompt);
}

}  // namespace

std::vector<EvaluationRow> evaluate_prompts(RunContext& context, RolloutRole& role,
                                            const Task& task, const EvaluationPlan& plan,
                                            std::int64_t& rollouts) {
  const RunConfig& config = context.config;
  const std::vector<std::string> prompts = distinct_prompts(config, plan);
  Stopwatch watch;
  RequestBatch batch =
      evaluation_requests(config, plan, prompts, config.eval.samples, Purpose::evaluation_draw);
  batch.law = {.temperature = static_cast<float>(config.eval.temperature),
               .top_p = static_cast<float>(config.eval.top_p),
               .vocab = context.vocab};
  role.start(batch, task);
  const std::vector<Outcome> outcomes = role.outcomes();
  rollouts += static_cast<std::int64_t>(outcomes.size());
  std::vector<PromptScore> scores;
  for (std::size_t k = 0; k < prompts.size(); ++k) {
    scores.push_back(score_of(plan, batch, outcomes, k, config.eval.samples));
  }

  std::vector<EvaluationRow> rows{row_of(config, plan, "seed", scores.front())};
  measure(context, role, task, plan, plan.seed, rows.back(), rollouts);
  rows.back().seconds = watch.lap();
  if (plan.population.empty()) return rows;
  const std::string& lead = plan.population.front();
  const auto at = std::find(prompts.begin(), prompts.end(), lead) - prompts.begin();
  rows.push_back(row_of(config, plan, "lead", scores[static_cast<std::size_t>(at)]));
  measure(context, role, task, plan, lead, rows.back(), rollouts);
  rows.back().seconds = watch.lap();
  if (config.eval.population) {
    rows.push_back(row_of(config, plan, "population", mean_over(plan.population, prompts, scores)));
    rows.back().seconds = watch.lap();
  }
  return rows;
}

std::vector<Problem> evaluation_problems(const RunConfig& config, const Task& task) {
  std::vector<Problem> problems = config.eval.split == "dev" ? task.dev : task.test;
  if (config.eval.problems > 0 &&
      config.eval.problems < static_cast<std::int64_t>(problems.size())) {
    problems.resize(static_cast<std::size_t>(config.eval.problems));
  }
  return problems;
}

Task task_of(const World& world, const RunConfig& config, const std::string& variant) {
  return make_task(task_options(
      config, variant, [&world](const std::string& path) { return read_input(world, path); }));
}

}  // namespace fst
