#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <vector>

namespace fst {

/// Anchor scores of a pool: [candidate][anchor], all rows of one length. Candidates are named by
/// their row, counted from 0 in the order they entered the pool.
using ScoreMatrix = std::vector<std::vector<double>>;

/// One list of candidates per anchor, each ascending.
using Fronts = std::vector<std::vector<int>>;

/// Sum from left to right in double. Ties are decided on exact doubles, so the order matters.
double plain_sum(std::span<const double> values);
/// plain_sum / size; minus infinity for an empty row.
double mean_score(std::span<const double> scores);
/// mean_score of every row.
std::vector<double> mean_scores(const ScoreMatrix& scores);

/// Per anchor the candidates that attain the best score on it. An anchor on which everyone scores 0
/// keeps everyone. Source: Agrawal et al. 2025 (GEPA).
Fronts frontier_of(const ScoreMatrix& scores);

/// What is left when redundant candidates are struck out of the fronts.
struct Reduction {
  std::vector<int> removal_order;
  std::vector<int> survivors;  ///< ascending
  Fronts fronts;               ///< restricted to the survivors; none becomes empty
};

/// Strikes out, one at a time, the candidate with the lowest mean (ties: the one that appears
/// first) all of whose fronts also hold another candidate not struck out, until there is none. This
/// is redundancy elimination, not Pareto dominance: of equal twins the last survives. Candidates
/// appear in the order of the fronts, ascending within one.
Reduction remove_redundant(const Fronts& fronts, std::span<const double> means);

/// Each candidate as often as it stands in `fronts`, in order of first appearance. A parent is one
/// entry of this list, drawn uniformly.
std::vector<int> sampling_list(const Fronts& fronts);

/// The sampling list when only the `k` best means (ties: earlier) may stand in a front; the best
/// candidate alone when no front is left.
std::vector<int> top_k_sampling_list(const Fronts& fronts, std::span<const double> means, int k);

/// Highest mean, ties: the earliest. `means` is not empty.
int best_candidate(std::span<const double> means);

/// Survivors of remove_redundant by (front count descending, mean descending, row), then the rest
/// of the pool by (mean descending, row).
std::vector<int> ranking(const ScoreMatrix& scores);

enum class LeadRule {
  among_chosen,  ///< the best mean among the chosen leads; the pool's best may be left out
  always_kept,   ///< the pool's best mean takes the last place if it was not chosen
};

/// The population of `k` prompts: the first `k` different texts of `ranked`, repeated cyclically if
/// there are fewer, with the best mean among them (ties: lowest row) moved to slot 0. `texts` and
/// `means` are indexed by the entries of `ranked`.
std::vector<int> choose_population(std::span<const int> ranked, std::span<const std::string> texts,
                                   std::span<const double> means, int k, LeadRule lead);

}  // namespace fst
