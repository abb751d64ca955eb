#include "fst/evolve/frontier.h"

#include <algorithm>
#include <limits>
#include <numeric>
#include <set>

#include "fst/base/error.h"

namespace fst {
namespace {

/// Candidates of the fronts in order of first appearance.
std::vector<int> appearance(const Fronts& fronts) {
  std::vector<int> order;
  std::set<int> seen;
  for (const auto& front : fronts) {
    for (const int candidate : front) {
      if (seen.insert(candidate).second) order.push_back(candidate);
    }
  }
  return order;
}

/// The fronts without the candidates that `drop` names.
template <class Drop>
Fronts without(const Fronts& fronts, Drop&& drop) {
  Fronts kept = fronts;
  for (auto& front : kept) std::erase_if(front, drop);
  return kept;
}

bool replaceable(const Fronts& fronts, int candidate) {
  return std::all_of(fronts.begin(), fronts.end(), [&](const std::vector<int>& front) {
    return front.size() > 1 || std::find(front.begin(), front.end(), candidate) == front.end();
  });
}

/// Rows by descending mean, ties in ascending order.
std::vector<int> by_mean(std::span<const double> means) {
  std::vector<int> rows(means.size());
  std::iota(rows.begin(), rows.end(), 0);
  std::stable_sort(rows.begin(), rows.end(), [&](int a, int b) {
    return means[static_cast<std::size_t>(a)] > means[static_cast<std::size_t>(b)];
  });
  return rows;
}

}  // namespace

double plain_sum(std::span<const double> values) {
  double sum = 0;
  for (const double value : values) sum += value;
  return sum;
}

double mean_score(std::span<const double> scores) {
  if (scores.empty()) return -std::numeric_limits<double>::infinity();
  return plain_sum(scores) / static_cast<double>(scores.size());
}

std::vector<double> mean_scores(const ScoreMatrix& scores) {
  std::vector<double> means;
  means.reserve(scores.size());
  for (const auto& row : scores) means.push_back(mean_score(row));
  return means;
}

Fronts frontier_of(const ScoreMatrix& scores) {
  const std::size_t anchors = scores.empty() ? 0 : scores.front().size();
  std::vector<double> best(anchors, -std::numeric_limits<double>::infinity());
  Fronts fronts(anchors);
  for (std::size_t row = 0; row < scores.size(); ++row) {
    if (scores[row].size() != anchors) {
      throw Error("frontier_of: candidate " + std::to_string(row) + " has " +
                  std::to_string(scores[row].size()) + " scores, expected " +
                  std::to_string(anchors));
    }
    for (std::size_t anchor = 0; anchor < anchors; ++anchor) {
      const double score = scores[row][anchor];
      if (score > best[anchor]) {
        best[anchor] = score;
        fronts[anchor].clear();
      }
      if (score == best[anchor]) fronts[anchor].push_back(static_cast<int>(row));
    }
  }
  return fronts;
}

Reduction remove_redundant(const Fronts& fronts, std::span<const double> means) {
  std::vector<int> weakest_first = appearance(fronts);
  std::stable_sort(weakest_first.begin(), weakest_first.end(), [&](int a, int b) {
    return means[static_cast<std::size_t>(a)] < means[static_cast<std::size_t>(b)];
  });
  Reduction result;
  result.fronts = fronts;
  for (auto next = weakest_first.begin(); next != weakest_first.end();) {
    const int candidate = *next;
    if (!replaceable(result.fronts, candidate)) {
      ++next;
      continue;
    }
    result.fronts = without(result.fronts, [&](int member) { return member == candidate; });
    result.removal_order.push_back(candidate);
    weakest_first.erase(next);
    next = weakest_first.begin();
  }
  result.survivors = weakest_first;
  std::sort(result.survivors.begin(), result.survivors.end());
  return result;
}

std::vector<int> sampling_list(const Fronts& fronts) {
  std::vector<int> list;
  for (const int candidate : appearance(fronts)) {
    for (const auto& front : fronts) {
      if (std::find(front.begin(), front.end(), candidate) != front.end()) {
        list.push_back(candidate);
      }
    }
  }
  return list;
}

std::vector<int> top_k_sampling_list(const Fronts& fronts, std::span<const double> means, int k) {
  std::vector<int> allowed = by_mean(means);
  allowed.resize(std::min(allowed.size(), static_cast<std::size_t>(std::max(k, 0))));
  Fronts restricted = without(fronts, [&](int member) {
    return std::find(allowed.begin(), allowed.end(), member) == allowed.end();
  });
  std::erase_if(restricted, [](const std::vector<int>& front) { return front.empty(); });
  if (restricted.empty()) return {best_candidate(means)};
  return sampling_list(remove_redundant(restricted, means).fronts);
}

int best_candidate(std::span<const double> means) {
  if (means.empty()) throw Error("best_candidate: the pool is empty");
  return static_cast<int>(std::max_element(means.begin(), means.end()) - means.begin());
}

std::vector<int> ranking(const ScoreMatrix& scores) {
  const std::vector<double> means = mean_scores(scores);
  const Reduction reduction = remove_redundant(frontier_of(scores), means);
  std::vector<int> front_count(scores.size(), 0);
  for (const auto& front : reduction.fronts) {
    for (const int candidate : front) ++front_count[static_cast<std::size_t>(candidate)];
  }
  // Survivors have a count of at least 1, all others of 0: one comparison ranks both parts.
  std::vector<int> ranked = by_mean(means);
  std::stable_sort(ranked.begin(), ranked.end(), [&](int a, int b) {
    return front_count[static_cast<std::size_t>(a)] > front_count[static_cast<std::size_t>(b)];
  });
  return ranked;
}

std::vector<int> choose_population(std::span<const int> ranked, std::span<const std::string> texts,
                                   std::span<const double> means, int k, LeadRule lead) {
  if (ranked.empty() || k < 1) throw Error("choose_population: no candidate or no place");
  const auto text = [&](int row) -> const std::string& {
    return texts[static_cast<std::size_t>(row)];
  };
  const auto mean = [&](int row) { return means[static_cast<std::size_t>(row)]; };
  const auto better = [&](int a, int b) { return mean(a) != mean(b) ? mean(a) > mean(b) : a < b; };

  std::vector<int> chosen;
  std::set<std::string_view> seen;
  for (const int row : ranked) {
    if (chosen.size() < static_cast<std::size_t>(k) && seen.insert(text(row)).second) {
      chosen.push_back(row);
    }
  }
  if (lead == LeadRule::always_kept) {
    const int best = *std::min_element(ranked.begin(), ranked.end(), better);
    const auto twin = std::find_if(chosen.begin(), chosen.end(),
                                   [&](int row) { return text(row) == text(best); });
    (twin != chosen.end() ? *twin : chosen.back()) = best;
  }
  const std::size_t distinct = chosen.size();
  while (chosen.size() < static_cast<std::size_t>(k)) {
    chosen.push_back(chosen[chosen.size() - distinct]);
  }
  const auto first = std::min_element(chosen.begin(), chosen.end(), better);
  std::rotate(chosen.begin(), first, first + 1);
  return chosen;
}

}  // namespace fst
