#include <algorithm>
#include <map>
#include <set>

#include <gtest/gtest.h>

#include "fst/evolve/frontier.h"

#include "golden_cases.h"

namespace fst {
namespace {

using Json = nlohmann::json;
using Counts = std::vector<std::pair<int, int>>;

/// [candidate, count] in order of first appearance.
Counts counts_of(const std::vector<int>& list) {
  Counts counts;
  for (const int entry : list) {
    const auto known = std::find_if(counts.begin(), counts.end(),
                                    [&](const auto& count) { return count.first == entry; });
    if (known == counts.end()) {
      counts.emplace_back(entry, 1);
    } else {
      ++known->second;
    }
  }
  return counts;
}

std::vector<std::string> distinct_texts(std::size_t count) {
  std::vector<std::string> texts;
  for (std::size_t i = 0; i < count; ++i) texts.push_back(std::to_string(i));
  return texts;
}

/// The order in which the reference walks a set that was filled in the order of `members`: CPython
/// puts small integers into a table of 8 places by value modulo 8, the next free place of its probe
/// sequence, and goes over to 32 places with the fifth member.
std::vector<int> reference_order(std::vector<int> members) {
  const std::size_t places = members.size() > 4 ? 32 : 8;
  std::vector<int> table(places, -1);
  for (const int member : members) {
    std::size_t place = static_cast<std::size_t>(member) % places;
    while (table[place] >= 0) place = (place * 5 + 1) % places;
    table[place] = member;
  }
  std::erase(table, -1);
  return table;
}

/// The fronts of a top-k selection as the reference walks them.
Fronts reference_fronts(const Fronts& fronts, const std::vector<double>& means, int k) {
  Fronts walked;
  for (const auto& front : fronts) {
    std::vector<int> members = reference_order(front);
    std::erase_if(members, [&](int member) {
      const double mean = means[static_cast<std::size_t>(member)];
      const auto better =
          std::count_if(means.begin(), means.end(), [&](double other) { return other > mean; });
      const auto earlier = std::count(means.begin(), means.begin() + member, mean);
      return better + earlier >= k;
    });
    walked.push_back(reference_order(members));
  }
  return walked;
}

std::map<std::string, int> named_counts(const std::vector<int>& list) {
  std::map<std::string, int> counts;
  for (const int entry : list) ++counts[std::to_string(entry)];
  return counts;
}

/// This row is the reference's, not ours: from the ninth candidate on it may hold only in the order
/// in which the reference walks its sets. Then that order must give it exactly.
void check_top_k(const Json& rows, const Fronts& fronts, const std::vector<double>& means) {
  for (const Json& row : rows) {
    const int k = row.at("k").get<int>();
    std::vector<int> list = top_k_sampling_list(fronts, means, k);
    if (row.at("sampling_counts").is_null()) {
      EXPECT_EQ(list, std::vector<int>{row.at("fallback").get<int>()}) << row;
      continue;
    }
    const auto recorded = row.at("sampling_counts").get<std::map<std::string, int>>();
    if (means.size() > 8 && named_counts(list) != recorded) {
      list = top_k_sampling_list(reference_fronts(fronts, means, k), means, k);
    }
    EXPECT_EQ(named_counts(list), recorded) << row;
  }
}

void check_case(const Json& expected) {
  const auto scores = expected.at("scores").get<ScoreMatrix>();
  const std::vector<double> means = mean_scores(scores);
  EXPECT_EQ(means, expected.at("means").get<std::vector<double>>());
  const Fronts fronts = frontier_of(scores);
  EXPECT_EQ(fronts, expected.at("frontier").get<Fronts>());
  const auto best = expected.at("best").get<std::vector<double>>();
  for (std::size_t anchor = 0; anchor < fronts.size(); ++anchor) {
    for (const int member : fronts[anchor]) {
      EXPECT_EQ(scores[static_cast<std::size_t>(member)][anchor], best.at(anchor));
    }
  }

  const Reduction reduction = remove_redundant(fronts, means);
  EXPECT_EQ(reduction.removal_order, expected.at("removal_order").get<std::vector<int>>());
  EXPECT_EQ(reduction.survivors, expected.at("kept").get<std::vector<int>>());
  EXPECT_EQ(reduction.fronts, expected.at("reduced").get<Fronts>());
  const std::vector<int> list = sampling_list(reduction.fronts);
  EXPECT_EQ(list, expected.at("sampling_list").get<std::vector<int>>());
  EXPECT_EQ(counts_of(list), expected.at("weights").get<Counts>());
  for (const auto& [candidate, count] : counts_of(list)) {
    EXPECT_EQ(static_cast<double>(count) / static_cast<double>(list.size()),
              expected.at("probability").at(std::to_string(candidate)).get<double>());
  }
  EXPECT_EQ(best_candidate(means), expected.at("best_candidate").get<int>());
  EXPECT_EQ(best_candidate(means), expected.at("current_best").get<int>());

  const auto texts = distinct_texts(scores.size());
  for (const auto& [k, population] : expected.at("topk").items()) {
    EXPECT_EQ(
        choose_population(ranking(scores), texts, means, std::stoi(k), LeadRule::among_chosen),
        population.get<std::vector<int>>())
        << "K = " << k;
  }
  check_top_k(expected.at("top_k_pareto"), fronts, means);
}

TEST(FrontierGolden, EveryScoreMatrixGivesTheReferencesFrontsAndPopulations) {
  for (const Json& expected : test::golden_cases("gepa/frontier.json")) {
    SCOPED_TRACE(expected.at("id").get<std::string>());
    check_case(expected);
  }
}

TEST(FrontierGolden, WhereTheReferencesSetOrderStrikesOutOthersOursIsTheAscendingOne) {
  for (const Json& expected : test::golden_cases("gepa/frontier.json")) {
    if (!expected.at("order_sensitive").get<bool>()) continue;
    SCOPED_TRACE(expected.at("id").get<std::string>());
    const auto scores = expected.at("scores").get<ScoreMatrix>();
    const auto kept = remove_redundant(frontier_of(scores), mean_scores(scores)).survivors;
    EXPECT_EQ(kept, expected.at("kept").get<std::vector<int>>());
    EXPECT_NE(kept, expected.at("kept_reference").get<std::vector<int>>());
  }
}

}  // namespace
}  // namespace fst
