#include <algorithm>
#include <cmath>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <set>

#include "fst/base/log.h"
#include "fst/run/recorder.h"
#include "fst/run/run.h"

namespace fst {

namespace {

/// What the outcomes of a step add up to; a function of the outcomes in request order.
struct StepSummary {
  double mean = 0, deviation = 0, frac_zero_std = 0, length = 0, clip_ratio = 0;
  std::int64_t live_groups = 0, tokens = 0, prompt_tokens = 0;
  std::vector<double> by_prompt;
};

StepSummary summarise(const RequestBatch& batch, const std::vector<Outcome>& outcomes,
                      const std::vector<double>& advantages) {
  StepSummary s;
  const auto count = static_cast<double>(outcomes.size());
  std::vector<double> low(batch.problems.size(), 1e300), high(batch.problems.size(), -1e300);
  std::vector<double> sums(batch.prompts.size(), 0.0), counts(batch.prompts.size(), 0.0);
  std::set<std::int32_t> live;
  for (std::size_t i = 0; i < outcomes.size(); ++i) {
    const Outcome& o = outcomes[i];
    const double reward = static_cast<double>(o.reward);
    const auto group = static_cast<std::size_t>(batch.requests[i].problem);
    const auto prompt = static_cast<std::size_t>(batch.requests[i].prompt);
    s.mean += reward;
    s.tokens += o.length;
    s.prompt_tokens += o.prompt_length;
    s.clip_ratio += o.finish == Finish::length ? 1.0 : 0.0;
    low[group] = std::min(low[group], reward);
    high[group] = std::max(high[group], reward);
    sums[prompt] += reward;
    counts[prompt] += 1.0;
    if (advantages[i] != 0.0) live.insert(batch.requests[i].problem);
  }
  s.mean /= count;
  for (const Outcome& o : outcomes) {
    const double d = static_cast<double>(o.reward) - s.mean;
    s.deviation += d * d;
  }
  s.deviation = std::sqrt(s.deviation / count);
  s.length = static_cast<double>(s.tokens) / count;
  s.clip_ratio /= count;
  for (std::size_t g = 0; g < low.size(); ++g) s.frac_zero_std += low[g] == high[g] ? 1.0 : 0.0;
  s.frac_zero_std /= static_cast<double>(low.size());
  s.live_groups = static_cast<std::int64_t>(live.size());
  for (std::size_t k = 0; k < sums.size(); ++k) s.by_prompt.push_back(sums[k] / counts[k]);
  return s;
}

/// The scalars of a step as metrics.jsonl has them.
nlohmann::json step_json(const RunState& state, const Cycle& cycle, const std::string& variant,
                         const StepSummary& s, double collapse, const LearnedStep& learned,
                         double seconds) {
  const StepStats& stats = learned.stats;
  return nlohmann::json{{"kind", "step"},
                        {"step", state.step + 1},
                        {"cycle", cycle.index},
                        {"stage", variant},
                        {"reward/mean", s.mean},
                        {"reward/std", s.deviation},
                        {"reward/frac_zero_std", s.frac_zero_std},
                        {"reward/by_prompt", s.by_prompt},
                        {"live_groups", s.live_groups},
                        {"collapse_share", collapse},
                        {"kl/ref", stats.kl_ref},
                        {"kl/seed", stats.kl_seed},
                        {"entropy", stats.entropy},
                        {"loss/policy", stats.policy_loss},
                        {"optim/grad_norm", stats.grad_norm},
                        {"optim/lr", stats.lr},
                        {"ratio/mean", stats.ratio_mean},
                        {"ratio/max", stats.ratio_max},
                        {"cispo/frac_capped", stats.frac_capped},
                        {"logprob/abs_diff_max", stats.logprob_abs_diff_max},
                        {"response_length/mean", s.length},
                        {"response_length/clip_ratio", s.clip_ratio},
                        {"rollouts/slow", state.rollouts_slow},
                        {"rollouts/fast", state.rollouts_fast},
                        {"rollouts/total", state.rollouts_slow + state.rollouts_fast},
                        {"time/rollout", learned.seconds_rollout},
                        {"time/learn", stats.seconds},
                        {"time/exchange", learned.seconds_exchange},
                        {"seconds", seconds}};
}

}  // namespace

void Recorder::step(const RunState& state, const Cycle& cycle, const std::string& variant,
                    const RequestBatch& batch, const std::vector<Outcome>& outcomes,
                    const LearnedStep& learned) {
  if (!speaks_) return;
  const StepStats& stats = learned.stats;
  const StepSummary s = summarise(batch, outcomes, learned.advantages);
  const double collapse = collapse_share(outcomes), seconds = watch_.lap();
  Row row(table_number("step"));
  row.set(dataset("/step/step"), state.step + 1)
      .set(dataset("/step/cycle"), cycle.index)
      .set(dataset("/step/stage"), variant)
      .set(dataset("/step/reward_mean"), s.mean)
      .set(dataset("/step/reward_std"), s.deviation)
      .set(dataset("/step/frac_zero_std"), s.frac_zero_std)
      .set(dataset("/step/live_groups"), s.live_groups)
      .set(dataset("/step/kl_ref"), stats.kl_ref)
      .set(dataset("/step/kl_seed"), stats.kl_seed)
      .set(dataset("/step/policy_loss"), stats.policy_loss)
      .set(dataset("/step/kl_loss"), stats.kl_loss)
      .set(dataset("/step/seed_loss"), stats.seed_loss)
      .set(dataset("/step/entropy"), stats.entropy)
      .set(dataset("/step/grad_norm"), stats.grad_norm)
      .set(dataset("/step/lr"), stats.lr)
      .set(dataset("/step/ratio_mean"), stats.ratio_mean)
      .set(dataset("/step/ratio_max"), stats.ratio_max)
      .set(dataset("/step/frac_capped"), stats.frac_capped)
      .set(dataset("/step/logprob_abs_diff_max"), stats.logprob_abs_diff_max)
      .set(dataset("/step/response_length_mean"), s.length)
      .set(dataset("/step/response_length_clip_ratio"), s.clip_ratio)
      .set(dataset("/step/tokens"), s.tokens)
      .set(dataset("/step/prompt_tokens"), s.prompt_tokens)
      .set(dataset("/step/collapse_share"), collapse)
      .set(dataset("/step/reward_by_prompt"), s.by_prompt)
      .set(dataset("/step/rollouts_slow"), state.rollouts_slow)
      .set(dataset("/step/rollouts_fast"), state.rollouts_fast)
      .set(dataset("/step/seconds_rollout"), learned.seconds_rollout)
      .set(dataset("/step/seconds_exchange"), learned.seconds_exchange)
      .set(dataset("/step/seconds_learn"), stats.seconds)
      .set(dataset("/step/seconds_total"), seconds);
  history_->append(row);
  metrics_->append(
      step_json(state, cycle, variant, s, collapse, learned, run_watch_.seconds()).dump());
  const auto left = static_cast<double>(config_->run.steps - state.step - 1);
  const double per_step = run_watch_.seconds() / static_cast<double>(++steps_seen_);
  char line[320];
  std::snprintf(
      line, sizeof line,
      "cycle=%lld step=%lld reward=%.3f live_groups=%lld/%zu kl_ref=%.4f grad_norm=%.3f "
      "collapse=%.2f rollouts=%lld (slow %lld, fast %lld) seconds=%.2f (rollout %.2f, learn %.2f) "
      "left=%.0fs",
      static_cast<long long>(cycle.index), static_cast<long long>(state.step + 1), s.mean,
      static_cast<long long>(s.live_groups), batch.problems.size(), stats.kl_ref, stats.grad_norm,
      collapse, static_cast<long long>(state.rollouts_slow + state.rollouts_fast),
      static_cast<long long>(state.rollouts_slow), static_cast<long long>(state.rollouts_fast),
      seconds, learned.seconds_rollout, stats.seconds, per_step * left);
  log::info(line);
}

}  // namespace fst
