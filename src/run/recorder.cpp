#include "fst/run/recorder.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <ctime>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "fst/base/error.h"
#include "fst/base/log.h"
#include "fst/run/run.h"
#include "fst/run/version.h"

namespace fst {

namespace {

std::string utc_now() {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  gmtime_r(&now, &parts);
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts);
  return text;
}

template <class... Args>
std::string format(const char* pattern, Args... args) {
  char text[512];
  std::snprintf(text, sizeof text, pattern, args...);
  return text;
}

double mean_of(const std::vector<double>& values) {
  double sum = 0;
  for (const double v : values) sum += v;
  return values.empty() ? 0.0 : sum / static_cast<double>(values.size());
}

const char* name_of_origin(Origin origin) {
  switch (origin) {
    case Origin::seed:
      return "seed";
    case Origin::carried:
      return "carried";
    case Origin::mutation:
      return "mutation";
  }
  return "unknown";
}

/// JSON has no NaN.
nlohmann::json number(double value) {
  return std::isfinite(value) ? nlohmann::json(value) : nlohmann::json(nullptr);
}

}  // namespace

double collapse_share(const std::vector<Outcome>& outcomes) {
  std::map<std::int64_t, std::int64_t> counts;
  std::int64_t most = 0;
  for (const Outcome& o : outcomes) {
    if (o.answer >= 0) most = std::max(most, ++counts[o.answer]);
  }
  return outcomes.empty() ? 0.0 : static_cast<double>(most) / static_cast<double>(outcomes.size());
}

Recorder::Recorder(const World& world, const RunConfig& config)
    : speaks_(world.all().rank() == 0), config_(&config), world_(&world) {}

void Recorder::open(const RowCounts* rows, std::int64_t lines) {
  if (!speaks_) return;
  const std::filesystem::path folder = config_->run.output;
  const FileIdentity identity{git_commit(), version(), resolved_deck(*config_)};
  if (rows == nullptr) {
    keep_attempts(folder, identity);
  } else {
    history_.emplace(folder, identity);
    history_->cut_back(*rows);
  }
  metrics_.emplace(folder / "metrics.jsonl");
  metrics_->cut_back(lines);
}

/// A history without rows but for the attempts that came to nothing, if it can still be read.
void Recorder::keep_attempts(const std::filesystem::path& folder, const FileIdentity& identity) {
  const bool old = std::filesystem::exists(History::file_in(folder)) ||
                   std::filesystem::exists(History::journal_in(folder));
  try {
    history_.emplace(folder, identity);
    if (old) history_->cut_back({});
  } catch (const Error& error) {
    log::warn(std::string(error.what()) + "; a new history is begun");
    history_.reset();
    History::remove(folder);
    history_.emplace(folder, identity);
  }
}

void Recorder::attempt(std::int64_t resumed_step, const Device& device) {
  if (!speaks_) return;
  const auto counts = history_->row_counts();
  const auto number_of = counts.at("attempt") + 1;
  Row row(table_number("attempt"));
  row.set(dataset("/attempt/number"), number_of)
      .set(dataset("/attempt/started"), utc_now())
      .set(dataset("/attempt/host"), world_->host())
      .set(dataset("/attempt/ranks"), world_->all().size())
      .set(dataset("/attempt/layout"), world_->layout())
      .set(dataset("/attempt/threads"), device.threads())
      .set(dataset("/attempt/isa"), device.on_host() ? kernels::name_of(device.exec().isa) : "cuda")
      .set(dataset("/attempt/resumed_from_step"), resumed_step)
      .set(dataset("/attempt/version"), version_line());
  history_->append(row);
  const std::string from =
      resumed_step < 0 ? "from the start" : "from step " + std::to_string(resumed_step);
  log::info("attempt " + std::to_string(number_of) + " " + from + ", target step " +
            std::to_string(config_->run.steps) + "; " + world_->layout() + "; " +
            device.description() + "; host " + world_->host());
}

/// One row per proposal of the round just ended.
void Recorder::proposals(const Evolution& evolution, const std::vector<std::string>& evidence) {
  const auto proposals = evolution.round_proposals();
  for (std::size_t i = 0; i < proposals.size(); ++i) {
    const Proposal& p = proposals[i];
    Row row(table_number("proposal"));
    row.set(dataset("/proposal/cycle"), evolution.state().phase.cycle)
        .set(dataset("/proposal/round"), p.round)
        .set(dataset("/proposal/task"), config_->task.name)
        .set(dataset("/proposal/parent"), p.parent)
        .set(dataset("/proposal/child"), p.child)
        .set(dataset("/proposal/child_text"), p.text)
        .set(dataset("/proposal/reply"), p.reply)
        .set(dataset("/proposal/outcome"), static_cast<int>(p.outcome))
        .set(dataset("/proposal/minibatch"),
             std::vector<std::int64_t>(p.minibatch.begin(), p.minibatch.end()))
        .set(dataset("/proposal/scores_before"),
             std::vector<float>(p.parent_scores.begin(), p.parent_scores.end()))
        .set(dataset("/proposal/scores_after"),
             std::vector<float>(p.child_scores.begin(), p.child_scores.end()))
        .set(dataset("/proposal/evidence"), i < evidence.size() ? evidence[i] : std::string())
        .set(dataset("/proposal/scored_by"), p.policy);
    history_->append(row);
  }
}

void Recorder::round(const Evolution& evolution, const std::vector<std::string>& evidence) {
  if (!speaks_) return;
  proposals(evolution, evidence);
  const EvolutionState& state = evolution.state();
  std::vector<std::int64_t> parents;
  std::vector<std::int32_t> outcomes;
  std::int64_t accepted = 0;
  for (const Proposal& p : evolution.round_proposals()) {
    parents.push_back(p.parent);
    outcomes.push_back(static_cast<std::int32_t>(p.outcome));
    accepted += p.outcome == ProposalOutcome::accepted ? 1 : 0;
  }
  const ScoreMatrix scores = score_matrix(state.pool);
  const auto means = mean_scores(scores);
  const auto survivors = remove_redundant(frontier_of(scores), means).survivors;
  std::vector<double> frontier_means;
  for (const int s : survivors) frontier_means.push_back(means[static_cast<std::size_t>(s)]);
  const double best = means.empty() ? std::nan("") : *std::max_element(means.begin(), means.end());
  const double seconds = watch_.lap();
  Row row(table_number("round"));
  row.set(dataset("/round/cycle"), state.phase.cycle)
      .set(dataset("/round/round"), state.round - 1)
      .set(dataset("/round/step"), state.phase.policy)
      .set(dataset("/round/parents"), parents)
      .set(dataset("/round/outcomes"), outcomes)
      .set(dataset("/round/metric_calls"), state.metric_calls)
      .set(dataset("/round/accepted"), accepted)
      .set(dataset("/round/frontier_size"), survivors.size())
      .set(dataset("/round/population_size"), state.pool.size())
      .set(dataset("/round/best_anchor_mean"), best)
      .set(dataset("/round/mean_anchor_mean"), mean_of(frontier_means))
      .set(dataset("/round/seconds"), seconds);
  history_->append(row);
  metrics_->append(nlohmann::json{
      {"kind", "round"},
      {"step", state.phase.policy},
      {"cycle", state.phase.cycle},
      {"round", state.round - 1},
      {"accepted", accepted},
      {"metric_calls", state.metric_calls},
      {"frontier_size", survivors.size()},
      {"best_anchor_mean", number(best)},
      {"seconds",
       seconds}}.dump());
  log::info(
      format("cycle=%lld round=%lld accepted=%lld metric_calls=%lld frontier=%zu best=%.3f "
             "seconds=%.2f",
             static_cast<long long>(state.phase.cycle), static_cast<long long>(state.round - 1),
             static_cast<long long>(accepted), static_cast<long long>(state.metric_calls),
             survivors.size(), best, seconds));
}

void Recorder::population(const Evolution& evolution, const RunState& state) {
  if (!speaks_) return;
  const auto slot_of = [&](CandidateId id) {
    for (std::size_t k = 0; k < state.population.size(); ++k) {
      if (state.population[k].id == id) return static_cast<int>(k);
    }
    return -1;
  };
  const auto add = [&](const Candidate& c) {
    const double mean = c.anchor_scores.empty() ? c.carried_mean : mean_score(c.anchor_scores);
    const int slot = slot_of(c.id);
    Row row(table_number("candidate"));
    row.set(dataset("/candidate/id"), c.id)
        .set(dataset("/candidate/cycle"), evolution.state().phase.cycle)
        .set(dataset("/candidate/round"), c.round)
        .set(dataset("/candidate/origin"), name_of_origin(c.origin))
        .set(dataset("/candidate/parents"), c.parents)
        .set(dataset("/candidate/text"), c.text)
        .set(dataset("/candidate/anchor_scores"),
             std::vector<float>(c.anchor_scores.begin(), c.anchor_scores.end()))
        .set(dataset("/candidate/anchor_mean"), mean)
        .set(dataset("/candidate/scored_by"), c.scored_by)
        .set(dataset("/candidate/discovery_calls"), c.discovery_calls)
        .set(dataset("/candidate/in_population"), slot >= 0 ? 1 : 0)
        .set(dataset("/candidate/slot"), slot);
    history_->append(row);
  };
  for (const Candidate& c : evolution.state().pool) add(c);
  for (const Candidate& c : evolution.state().unscored) add(c);
  for (std::size_t k = 0; k < state.population.size(); ++k) {
    const Candidate& c = state.population[k];
    Row row(table_number("population"));
    row.set(dataset("/population/step"), state.step)
        .set(dataset("/population/cycle"), evolution.state().phase.cycle)
        .set(dataset("/population/slot"), k)
        .set(dataset("/population/candidate"), c.id)
        .set(dataset("/population/anchor_mean"),
             c.anchor_scores.empty() ? c.carried_mean : mean_score(c.anchor_scores));
    history_->append(row);
  }
  std::string lead = state.population.empty() ? "" : state.population.front().text.substr(0, 160);
  std::replace(lead.begin(), lead.end(), '\n', ' ');
  log::info("cycle=" + std::to_string(evolution.state().phase.cycle) + " lead prompt: " + lead);
}

void Recorder::rollouts(std::int64_t step, const Cycle& cycle, const char* phase,
                        const RequestBatch& batch, const std::vector<CandidateId>& candidates,
                        const std::vector<Trajectory>& trajectories) {
  if (!speaks_) return;
  for (const Trajectory& t : trajectories) {
    const Request& request = batch.requests[static_cast<std::size_t>(t.request)];
    const std::span<const TokenId> tokens(t.tokens);
    const auto split = static_cast<std::size_t>(t.prompt_length);
    Row row(table_number("rollout"));
    row.set(dataset("/rollout/step"), step)
        .set(dataset("/rollout/policy"), t.policy)
        .set(dataset("/rollout/cycle"), cycle.index)
        .set(dataset("/rollout/phase"), phase)
        .set(dataset("/rollout/problem"),
             batch.problems[static_cast<std::size_t>(request.problem)].id)
        .set(dataset("/rollout/candidate"), candidates[static_cast<std::size_t>(request.prompt)])
        .set(dataset("/rollout/sample"), request.sample)
        .set(dataset("/rollout/prompt_tokens"), tokens.first(split))
        .set(dataset("/rollout/tokens"), tokens.subspan(split))
        .set(dataset("/rollout/logprobs"), t.logprobs)
        .set(dataset("/rollout/reward"), t.verdict.reward)
        .set(dataset("/rollout/finish"), static_cast<int>(t.finish))
        .set(dataset("/rollout/status"), static_cast<int>(t.verdict.status));
    history_->append(row);
  }
}

void Recorder::evaluation(const EvaluationRow& e) {
  if (!speaks_) return;
  Row row(table_number("evaluation"));
  row.set(dataset("/evaluation/step"), e.step)
      .set(dataset("/evaluation/cycle"), e.cycle)
      .set(dataset("/evaluation/split"), e.split)
      .set(dataset("/evaluation/prompt"), e.prompt)
      .set(dataset("/evaluation/accuracy"), e.accuracy)
      .set(dataset("/evaluation/best_at_k"), e.best_at_k)
      .set(dataset("/evaluation/kl_base"), e.kl_base)
      .set(dataset("/evaluation/entropy"), e.entropy)
      .set(dataset("/evaluation/samples"), e.samples)
      .set(dataset("/evaluation/problems"), e.problems)
      .set(dataset("/evaluation/rollouts_slow"), e.rollouts_slow)
      .set(dataset("/evaluation/rollouts_fast"), e.rollouts_fast)
      .set(dataset("/evaluation/collapse_share"), e.collapse_share)
      .set(dataset("/evaluation/per_problem"), e.per_problem)
      .set(dataset("/evaluation/gold_probability"), e.gold_probability)
      .set(dataset("/evaluation/seconds"), e.seconds);
  history_->append(row);
  metrics_->append(nlohmann::json{{"kind", "eval"},
                                  {"step", e.step},
                                  {"cycle", e.cycle},
                                  {"split", e.split},
                                  {"prompt", e.prompt},
                                  {"accuracy", e.accuracy},
                                  {"best_at_k", e.best_at_k},
                                  {"kl/base", number(e.kl_base)},
                                  {"entropy", number(e.entropy)},
                                  {"collapse_share", e.collapse_share},
                                  {"gold_probability", number(e.gold_probability)},
                                  {"rollouts/slow", e.rollouts_slow},
                                  {"rollouts/fast", e.rollouts_fast},
                                  {"rollouts/total", e.rollouts_slow + e.rollouts_fast},
                                  {"seconds", run_watch_.seconds()}}
                       .dump());
  const std::string kl = std::isfinite(e.kl_base) ? format(" kl_base=%.4f", e.kl_base) : "";
  log::info(
      format("eval step=%lld split=%s prompt=%s accuracy=%.3f best@%lld=%.3f%s collapse=%.2f "
             "rollouts=%lld (slow %lld, fast %lld)",
             static_cast<long long>(e.step), e.split.c_str(), e.prompt.c_str(), e.accuracy,
             static_cast<long long>(e.samples), e.best_at_k, kl.c_str(), e.collapse_share,
             static_cast<long long>(e.rollouts_slow + e.rollouts_fast),
             static_cast<long long>(e.rollouts_slow), static_cast<long long>(e.rollouts_fast)));
}

void Recorder::seal() {
  if (!speaks_) return;
  history_->seal();
  metrics_->sync();  // a checkpoint that outlives a power failure knows these lines
}

RowCounts Recorder::row_counts() const {
  if (!speaks_) return {};
  auto counts = history_->row_counts();
  counts.erase("attempt");  // attempts are outside the trajectory
  return counts;
}

std::int64_t Recorder::lines() const {
  return speaks_ ? metrics_->lines() : 0;
}

}  // namespace fst
