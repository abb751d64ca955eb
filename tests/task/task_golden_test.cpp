// Star graphs, letters and JSON answers against outside data; the rules are in its tasks/README.md.

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "fst/base/random.h"
#include "fst/task/star_graph.h"
#include "fst/task/task.h"
#include "fst/task/text.h"
#include "fst/task/verifiers.h"

namespace fst {
namespace {

using nlohmann::json;

std::vector<json> cases(const std::string& file) {
  const char* dir = std::getenv("FST_GOLDEN_DIR");
  const auto path = std::filesystem::path(dir ? dir : FST_GOLDEN_DEFAULT) / "tasks" / file;
  std::ifstream in(path);
  std::vector<json> lines;
  for (std::string line; std::getline(in, line);) {
    if (!line.empty()) lines.push_back(json::parse(line));
  }
  EXPECT_FALSE(lines.empty()) << path << " holds no case";
  return lines;
}

// Fails for a difference, but only reports it where reasonable checkers differ.
void expect_same(bool same, const json& entry, const std::string& what) {
  if (same) return;
  if (entry.value("disputed", false)) {
    std::printf("disputed, we differ: %s: %s\n", entry.dump().substr(0, 200).c_str(), what.c_str());
  } else {
    ADD_FAILURE() << entry.dump().substr(0, 400) << ": " << what;
  }
}

bool got_credit(const std::string& task, const json& entry, const std::string& completion) {
  return verify_by_name(task, entry.value("problem", ""), entry["reference"].get<std::string>(),
                        completion)
             .reward == 1.0f;
}

TEST(JsonAnswers, AreEqualWhereTheOutsideDataSaysSo) {
  for (const json& entry : cases("json_answer.jsonl")) {
    // No answer at all (null) is judged like an empty one.
    const std::string answer = entry["answer"].is_null() ? "" : entry["answer"].get<std::string>();
    const bool expected = entry["equal"];
    expect_same(json_equal(answer, entry["reference"].get<std::string>()) == expected, entry,
                "json_equal");
    expect_same(got_credit("json", entry, answer) == expected, entry, "fst verify --task json");
  }
}

TEST(Letters, AreExtractedAndJudgedAsInTheOutsideData) {
  for (const json& entry : cases("letter.jsonl")) {
    const std::string completion = entry["completion"];
    const std::optional<char> letter = extract_letter(completion);
    const json extracted = letter ? json(std::string(1, *letter)) : json();
    expect_same(extracted == entry["extracted"], entry, "extracted " + extracted.dump());
    expect_same(got_credit("letter", entry, completion) == entry["expected"].get<bool>(), entry,
                "fst verify --task letter");
  }
}

TEST(StarGraphs, AnswersAreJudgedAsInTheOutsideData) {
  for (const json& graph : cases("star_graph.jsonl")) {
    ASSERT_FALSE(graph["answers"].empty()) << graph["id"];
    const Problem problem{graph["id"], graph["edges"], graph["gold"], ""};
    for (const json& entry : graph["answers"]) {
      const std::string completion = entry["completion"];
      const auto box = last_boxed(after_thinking(completion));
      const json extracted = box ? json(without_white_space(*box)) : json();
      expect_same(extracted == entry["extracted"], entry, "extracted " + extracted.dump());
      const Verdict verdict = verify_star_graph(problem, {completion, true});
      expect_same(verdict.reward == entry["expected"].get<float>(), entry, verdict.feedback);
    }
  }
}

json properties(const std::vector<std::pair<std::int64_t, std::int64_t>>& edges,
                std::int64_t source) {
  std::map<std::int64_t, int> degree;
  for (const auto& [a, b] : edges) {
    ++degree[a];
    ++degree[b];
  }
  int max_other = 0, leaves = 0;
  for (const auto& [node, count] : degree) {
    if (node != source) max_other = std::max(max_other, count);
    if (count == 1) ++leaves;
  }
  return {{"nodes", degree.size()},
          {"edges", edges.size()},
          {"degree_source", degree[source]},
          {"max_other_degree", max_other},
          {"leaves", leaves}};
}

TEST(StarGraphs, OursOfTheSameSizeHaveTheSamePropertiesAsTheOutsideOnes) {
  for (const json& entry : cases("star_graph.jsonl")) {
    const DecoyArm arm = entry["decoy"] == "p" ? DecoyArm::path : DecoyArm::path_minus_one;
    Rng rng(hash_text(entry["id"].get<std::string>()));
    const StarGraph graph =
        draw_star_graph({entry["degree"], entry["path_nodes"], entry["node_range"], arm}, rng);
    const json ours = properties(graph.edges, graph.source());
    for (const auto& [name, value] : entry["properties"].items()) {
      ASSERT_TRUE(ours.contains(name)) << "a property this test does not know: " << name;
      EXPECT_EQ(ours[name], value) << entry["id"] << " " << name;
    }
    for (const auto& [name, value] : entry["formula"].items()) {
      EXPECT_EQ(ours[name], value) << entry["id"] << " formula " << name;
    }
  }
}

}  // namespace
}  // namespace fst
