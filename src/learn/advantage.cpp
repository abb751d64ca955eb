#include "fst/learn/advantage.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "fst/base/error.h"

namespace fst {

namespace {

struct Statistics {
  double mean = 0, deviation = 0;
};

Statistics statistics_of(std::span<const double> values, Deviation kind) {
  const auto count = static_cast<double>(values.size());
  Statistics s;
  for (const double x : values) s.mean += x;
  s.mean /= count;
  double squares = 0.0;
  for (const double x : values) squares += (x - s.mean) * (x - s.mean);
  const double divisor = kind == Deviation::population ? count : count - 1.0;
  if (divisor > 0.0) s.deviation = std::sqrt(squares / divisor);
  return s;
}

void expect_match(std::size_t group, const char* what, std::size_t found, std::size_t rewards) {
  if (found == rewards) return;
  throw Error("advantages: group " + std::to_string(group) + " has " + std::to_string(rewards) +
              " rewards and " + std::to_string(found) + " " + what);
}

/// Equal to the last bit, before any penalty.
bool all_equal(const std::vector<double>& rewards) {
  return std::all_of(rewards.begin(), rewards.end(), [&](double r) { return r == rewards[0]; });
}

std::vector<double> penalised(const RewardGroup& group) {
  std::vector<double> rewards = group.rewards;
  for (std::size_t i = 0; i < group.kl_in_reward.size(); ++i) rewards[i] -= group.kl_in_reward[i];
  return rewards;
}

/// Centred and scaled among the rollouts of the same prompt.
std::vector<double> within_prompts(const std::vector<double>& rewards,
                                   const std::vector<std::int32_t>& slots,
                                   const AdvantageOptions& options) {
  std::vector<double> advantage(rewards.size(), 0.0);
  for (std::size_t i = 0; i < rewards.size(); ++i) {
    std::vector<double> same;
    for (std::size_t j = 0; j < rewards.size(); ++j) {
      if (slots[j] == slots[i]) same.push_back(rewards[j]);
    }
    const Statistics s = statistics_of(same, options.deviation);
    advantage[i] = (rewards[i] - s.mean) / (s.deviation + options.epsilon);
  }
  return advantage;
}

/// Divides the centred rewards of the surviving groups by their common deviation.
void scale_by_batch(std::vector<GroupAdvantages>& groups, const AdvantageOptions& options) {
  std::vector<double> centred;
  for (const GroupAdvantages& g : groups) {
    if (g.kept) centred.insert(centred.end(), g.advantage.begin(), g.advantage.end());
  }
  if (centred.empty()) return;
  const double deviation = statistics_of(centred, options.deviation).deviation;
  for (GroupAdvantages& g : groups) {
    g.deviation = deviation;
    for (double& a : g.advantage) a /= deviation + options.epsilon;
  }
}

}  // namespace

std::vector<GroupAdvantages> group_advantages(std::span<const RewardGroup> groups,
                                              const AdvantageOptions& options) {
  std::vector<GroupAdvantages> results(groups.size());
  for (std::size_t p = 0; p < groups.size(); ++p) {
    const RewardGroup& group = groups[p];
    const std::size_t count = group.rewards.size();
    if (!group.kl_in_reward.empty()) {
      expect_match(p, "penalties", group.kl_in_reward.size(), count);
    }
    if (options.mode == AdvantageMode::per_prompt) {
      expect_match(p, "slots", group.slots.size(), count);
    }
    GroupAdvantages& result = results[p];
    result.advantage.assign(count, 0.0);
    result.kept = count > 0 && !(options.zero_variance_filter && all_equal(group.rewards));
    if (count == 0) continue;
    const std::vector<double> rewards = penalised(group);
    const Statistics s = statistics_of(rewards, options.deviation);
    result.mean = s.mean;
    result.deviation = s.deviation;
    if (!result.kept) continue;
    if (options.mode == AdvantageMode::per_prompt) {
      result.advantage = within_prompts(rewards, group.slots, options);
      continue;
    }
    const double scale = options.mode == AdvantageMode::group ? s.deviation + options.epsilon : 1.0;
    for (std::size_t i = 0; i < count; ++i) result.advantage[i] = (rewards[i] - s.mean) / scale;
  }
  if (options.mode == AdvantageMode::batch) scale_by_batch(results, options);
  return results;
}

std::vector<std::vector<double>> token_weights(Aggregation aggregation,
                                               std::span<const std::vector<std::int64_t>> lengths,
                                               const std::vector<bool>& kept,
                                               double length_constant) {
  if (kept.size() != lengths.size()) {
    throw Error("token weights: " + std::to_string(lengths.size()) + " groups and " +
                std::to_string(kept.size()) + " verdicts on keeping them");
  }
  const auto tokens_of = [](const std::vector<std::int64_t>& group) {
    std::int64_t tokens = 0;
    for (const std::int64_t n : group) tokens += n;
    return tokens;
  };
  std::int64_t survivors = 0, all_tokens = 0;
  for (std::size_t p = 0; p < lengths.size(); ++p) {
    if (!kept[p]) continue;
    ++survivors;
    all_tokens += tokens_of(lengths[p]);
  }
  std::vector<std::vector<double>> weights(lengths.size());
  for (std::size_t p = 0; p < lengths.size(); ++p) {
    const auto rollouts = static_cast<double>(lengths[p].size());
    const auto problems = static_cast<double>(survivors);
    for (const std::int64_t n : lengths[p]) {
      double divisor = 0.0;
      switch (aggregation) {
        case Aggregation::prompt:
          divisor = problems * static_cast<double>(tokens_of(lengths[p]));
          break;
        case Aggregation::token:
          divisor = static_cast<double>(all_tokens);
          break;
        case Aggregation::sequence:
          divisor = problems * rollouts * static_cast<double>(n);
          break;
        case Aggregation::constant:
          divisor = problems * rollouts * length_constant;
          break;
      }
      // An empty completion has no token that the weight could apply to.
      weights[p].push_back(kept[p] && divisor > 0.0 ? 1.0 / divisor : 0.0);
    }
  }
  return weights;
}

}  // namespace fst
