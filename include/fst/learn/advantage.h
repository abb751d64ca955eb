#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace fst {

/// What rewards are centred on and scaled by. Source: Tiwari et al. 2026, arXiv:2605.12484, eq. 3;
/// mean_only: Dr.GRPO; batch: ScaleRL, arXiv:2510.13786.
enum class AdvantageMode : std::uint8_t {
  group,       // (r - group mean) / (group std + epsilon), whichever prompt a rollout had
  mean_only,   // r - group mean
  per_prompt,  // mean and std over the rollouts of one prompt within the group
  batch,       // r - group mean, divided by the std of all surviving centred rewards + epsilon
};
enum class Deviation : std::uint8_t { population, unbiased };  // divisor G or G - 1

struct AdvantageOptions {
  AdvantageMode mode = AdvantageMode::group;
  Deviation deviation = Deviation::population;
  double epsilon = 1e-6;
  /// Groups whose raw rewards are all equal are dropped: advantage 0, not kept.
  bool zero_variance_filter = true;
};

/// The rollouts of one problem.
struct RewardGroup {
  std::vector<double> rewards;       // raw, from the verifier
  std::vector<std::int32_t> slots;   // prompt slot of each; for per_prompt
  std::vector<double> kl_in_reward;  // subtracted before centring, or empty; the filter ignores it
};

struct GroupAdvantages {
  std::vector<double> advantage;
  double mean = 0, deviation = 0;  // of the group; batch: of all surviving centred rewards
  bool kept = true;
};

/// One result per group. Sums run in the order given, in double; a single reward deviates by 0.
/// Throws Error where slots (per_prompt) or kl_in_reward do not match the rewards.
std::vector<GroupAdvantages> group_advantages(std::span<const RewardGroup> groups,
                                              const AdvantageOptions& options);

/// How token losses are averaged. N_p: completion tokens of problem p; P': surviving problems.
/// prompt: 1/(P' N_p); token: 1/sum N_p; sequence: 1/(P' G n_i); constant: 1/(P' G constant).
enum class Aggregation : std::uint8_t { prompt, token, sequence, constant };

/// Weight of each completion token of each sequence; 0 in groups that are not kept. `lengths` has
/// the completion lengths of each group's sequences.
std::vector<std::vector<double>> token_weights(Aggregation aggregation,
                                               std::span<const std::vector<std::int64_t>> lengths,
                                               const std::vector<bool>& kept,
                                               double length_constant);

}  // namespace fst
