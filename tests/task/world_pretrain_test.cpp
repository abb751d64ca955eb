#include "fst/task/world_pretrain.h"

#include <algorithm>
#include <map>
#include <set>
#include <sstream>
#include <string>

#include <gtest/gtest.h>

#include "fst/base/error.h"
#include "fst/task/world.h"

namespace fst::world {
namespace {

enum class Kind { solve, name, reflect };

Kind kind_of(const std::vector<ChatTurn>& turns) {
  if (turns[0].content == name_prompt) return Kind::name;
  return turns[0].content == reflect_prompt ? Kind::reflect : Kind::solve;
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

// Read back from text, so that the tests do not share the code under test.
Rulebook parse_rulebook(const std::vector<std::string>& lines) {
  Rulebook rulebook{};
  EXPECT_EQ(lines[0], "rules");
  for (std::size_t i = 1; i < lines.size() && !lines[i].empty(); ++i) {
    bool found = false;
    for (std::size_t tag = 0; tag < rulebook.size(); ++tag) {
      for (std::int64_t r = 0; r < named_rule_count; ++r) {
        const auto rule = static_cast<Rule>(r);
        if (lines[i] ==
            std::string(tag_text(static_cast<Tag>(tag))) + std::string(rule_name(rule))) {
          EXPECT_FALSE(rulebook[tag].has_value()) << "two lines for a tag";
          rulebook[tag] = rule;
          found = true;
        }
      }
    }
    EXPECT_TRUE(found) << lines[i];
  }
  return rulebook;
}

void expect_chat(const std::vector<ChatTurn>& turns) {
  ASSERT_GE(turns.size(), 3u);
  ASSERT_EQ(turns.size() % 2, 1u);
  EXPECT_EQ(turns[0].role, "system");
  for (std::size_t i = 1; i < turns.size(); ++i) {
    EXPECT_EQ(turns[i].role, i % 2 == 1 ? "user" : "assistant");
  }
}

void expect_solve(const std::vector<ChatTurn>& turns) {
  const Rulebook rulebook = parse_rulebook(lines_of(turns[0].content));
  for (std::size_t i = 1; i < turns.size(); i += 2) {
    const auto question = parse_question(turns[i].content);
    ASSERT_TRUE(question.has_value()) << turns[i].content;
    const auto rule = rulebook[static_cast<std::size_t>(question->tag)];
    if (rule) {
      EXPECT_EQ(turns[i + 1].content, gold_answer(*question, *rule));
    } else {
      EXPECT_TRUE(classify(turns[i + 1].content, turns[i].content).has_value());
    }
  }
}

void expect_name(const std::vector<ChatTurn>& turns) {
  for (std::size_t i = 1; i < turns.size(); i += 2) {
    const auto lines = lines_of(turns[i].content);
    ASSERT_EQ(lines.size(), 2u);
    const auto question = parse_question(lines[0]);
    ASSERT_TRUE(question.has_value());
    const std::string tag(tag_text(question->tag));
    const auto rule = classify(tag + lines[1].substr(std::string("want").size()), lines[0]);
    ASSERT_TRUE(rule.has_value());
    EXPECT_TRUE(is_clear(*rule, question->list));
    EXPECT_EQ(turns[i + 1].content,
              tag + " " + (is_named(*rule) ? std::string(rule_name(*rule)) : "none"));
  }
}

void expect_reflect(const std::string& user, const std::string& reply) {
  const auto lines = lines_of(user);
  Rulebook target = parse_rulebook(lines);
  std::size_t at = 0;
  while (!lines[at].empty()) ++at;
  std::int64_t records = 0;
  for (; at < lines.size(); at += 4, ++records) {
    ASSERT_TRUE(lines[at].empty());
    ASSERT_LT(at + 3, lines.size());
    const auto question = parse_question(lines[at + 1]);
    ASSERT_TRUE(question.has_value());
    if (lines[at + 3] == "right") continue;
    ASSERT_TRUE(lines[at + 3].starts_with("want "));
    const std::string want = std::string(tag_text(question->tag)) + lines[at + 3].substr(4);
    EXPECT_NE(want, lines[at + 2]) << "a right answer was called wrong";
    const auto truth = classify(want, lines[at + 1]);
    ASSERT_TRUE(truth.has_value());
    target[static_cast<std::size_t>(question->tag)] =
        is_named(*truth) ? truth : std::optional<Rule>();
  }
  EXPECT_GE(records, 1);
  EXPECT_LE(records, 3);
  EXPECT_EQ(reply, rulebook_text(target));
}

void expect_row(const std::vector<ChatTurn>& turns) {
  ASSERT_NO_FATAL_FAILURE(expect_chat(turns));
  switch (kind_of(turns)) {
    case Kind::solve:
      expect_solve(turns);
      break;
    case Kind::name:
      expect_name(turns);
      break;
    case Kind::reflect:
      ASSERT_EQ(turns.size(), 3u);
      expect_reflect(turns[1].content, turns[2].content);
      break;
  }
}

class Stages : public testing::TestWithParam<std::int64_t> {};

TEST_P(Stages, HoldRowsThatTeachTheRightReplyAndFit) {
  const PretrainOptions options;
  const PretrainMix& mix = pretrain_mix(options, GetParam());
  for (std::int64_t row = 0; row < mix.rows; ++row) {
    const PretrainRow drawn = pretrain_row(options, 3, GetParam(), row);
    expect_row(drawn.turns);
    EXPECT_LE(row_tokens(drawn, options.count), mix.row_tokens);
  }
}

TEST_P(Stages, DrawRowsAsAFunctionOfSeedStepAndRow) {
  const PretrainOptions options;
  const std::int64_t step = GetParam();
  const PretrainRow row = pretrain_row(options, 3, step, 5);
  EXPECT_EQ(row.turns, pretrain_row(options, 3, step, 5).turns);
  EXPECT_NE(row.turns, pretrain_row(options, 4, step, 5).turns);
  EXPECT_NE(row.turns, pretrain_row(options, 3, step + 2, 5).turns);
  EXPECT_NE(row.turns, pretrain_row(options, 3, step, 6).turns);
}

INSTANTIATE_TEST_SUITE_P(FirstEvenOdd, Stages, testing::Values(0, 499, 500, 501, 3898, 3899));

TEST(PretrainSchedule, HasTheStagesOfTheTable) {
  const PretrainOptions options;
  const auto shape = [&](std::int64_t step) {
    const PretrainMix& mix = pretrain_mix(options, step);
    return std::pair(mix.row_tokens, mix.rows);
  };
  EXPECT_EQ(shape(0), std::pair(std::int64_t{36}, std::int64_t{64}));
  EXPECT_EQ(shape(499), std::pair(std::int64_t{36}, std::int64_t{64}));
  EXPECT_EQ(shape(500), std::pair(std::int64_t{56}, std::int64_t{40}));
  EXPECT_EQ(shape(501), std::pair(std::int64_t{116}, std::int64_t{20}));
}

/// Shares over many rows of one stage.
struct Shares {
  std::map<Kind, double> kind;
  std::map<std::size_t, double> lines;  // rulebook sizes of solve rows
  double asked_known = 0, short_lists = 0, exchanges = 0;
};

Shares shares(std::int64_t first_step, std::int64_t rows) {
  Shares out;
  double solve_turns = 0, turns_with_rulebook = 0, solve_rows = 0;
  for (std::int64_t row = 0; row < rows; ++row) {
    const auto turns = pretrain_row({}, 3, first_step, row).turns;
    out.kind[kind_of(turns)] += 1.0 / static_cast<double>(rows);
    if (kind_of(turns) != Kind::solve) continue;
    solve_rows += 1;
    const Rulebook rulebook = parse_rulebook(lines_of(turns[0].content));
    const auto size = static_cast<std::size_t>(
        std::ranges::count_if(rulebook, [](const auto& line) { return line.has_value(); }));
    out.lines[size] += 1;
    for (std::size_t i = 1; i < turns.size(); i += 2) {
      const auto question = parse_question(turns[i].content);
      solve_turns += 1;
      out.short_lists += question->list.size() <= 4;
      if (size == 0) continue;
      turns_with_rulebook += 1;
      out.asked_known += rulebook[static_cast<std::size_t>(question->tag)].has_value();
    }
  }
  for (auto& [size, share] : out.lines) share /= solve_rows;
  out.asked_known /= turns_with_rulebook;
  out.short_lists /= solve_turns;
  out.exchanges = solve_turns / solve_rows;
  return out;
}

TEST(PretrainMixture, HasTheSharesOfStageOne) {
  const Shares s = shares(0, 2000);
  constexpr double spread = 0.045;  // five times sqrt(0.2 * 0.8 / 2000)
  EXPECT_NEAR(s.kind.at(Kind::solve), 0.8, spread);
  EXPECT_NEAR(s.kind.at(Kind::name), 0.2, spread);
  EXPECT_EQ(s.lines.size(), 1u);
  EXPECT_EQ(s.lines.at(1), 1.0);
  EXPECT_EQ(s.asked_known, 1.0);
  EXPECT_EQ(s.exchanges, 1.0);
  EXPECT_NEAR(s.short_lists, 0.85, spread);
}

TEST(PretrainMixture, HasTheSharesOfEvenSteps) {
  const Shares s = shares(500, 2000);
  constexpr double spread = 0.05;  // five times sqrt(0.28 * 0.72 / 2000)
  EXPECT_NEAR(s.kind.at(Kind::solve), 0.72, spread);
  EXPECT_NEAR(s.kind.at(Kind::name), 0.28, spread);
  EXPECT_EQ(s.lines.size(), 5u);
  for (const auto& [size, share] : s.lines) EXPECT_NEAR(share, 0.2, 0.053) << size;
  // With n of 4 tags in the rulebook: 0.8 + 0.2 n/4, mean 0.925 over n = 1..4 (more turns fit
  // beside short rulebooks, which lowers it a little).
  EXPECT_NEAR(s.asked_known, 0.92, 0.03);
  EXPECT_GT(s.exchanges, 1.5);
}

TEST(PretrainMixture, HoldsOnlyReflectionsAtOddSteps) {
  for (std::int64_t row = 0; row < 50; ++row) {
    EXPECT_EQ(kind_of(pretrain_row({}, 3, 501, row).turns), Kind::reflect);
  }
}

TEST(Reflections, DeleteLinesOfTacitRulesAndCorrectAndAddOthers) {
  int deleted = 0, added = 0, kept = 0;
  for (std::int64_t row = 0; row < 400; ++row) {
    const auto turns = pretrain_row({}, 3, 501, row).turns;
    const std::string& user = turns[1].content;
    const Rulebook before = parse_rulebook(lines_of(user.substr(0, user.find("\n\n"))));
    const Rulebook after = parse_rulebook(lines_of(turns[2].content));
    for (std::size_t tag = 0; tag < before.size(); ++tag) {
      deleted += before[tag] && !after[tag];
      added += !before[tag] && after[tag];
    }
    kept += before == after;
  }
  EXPECT_GT(deleted, 0);
  EXPECT_GT(added, 0);
  EXPECT_GT(kept, 0);
}

TEST(WorldTokens, CountsWordsAndRunsOfNewlines) {
  EXPECT_EQ(world_tokens(""), 0);
  EXPECT_EQ(world_tokens("rules"), 1);
  EXPECT_EQ(world_tokens("rules\nredReverse\ngoldTail"), 5);
  EXPECT_EQ(world_tokens("red d a c f"), 5);
  EXPECT_EQ(world_tokens("rules\n\nred d\nred d\nright"), 1 + 1 + 2 + 1 + 2 + 1 + 1);
}

TEST(PretrainRows, AskTheGivenCounterForTheirLength) {
  PretrainOptions options;
  options.count = [](std::string_view text) { return 2 * world_tokens(text); };
  for (std::int64_t row = 0; row < 20; ++row) {
    const PretrainRow drawn = pretrain_row(options, 3, 500, row);
    EXPECT_LE(row_tokens(drawn, options.count), options.even.row_tokens);
  }
}

TEST(PretrainRows, AreRefusedWhereNothingFits) {
  PretrainOptions options;
  options.first.row_tokens = 17;
  EXPECT_THROW(pretrain_row(options, 3, 0, 0), InputError);
  options.first.max_lines = 5;
  EXPECT_THROW(pretrain_row(options, 3, 0, 0), InputError);
}

TEST(SkillProbes, AskTheFiveSkillsWithTheirRightReplies) {
  const std::vector<SkillProbe> probes = skill_probes(11, 31);
  std::vector<std::string> names;
  for (const SkillProbe& probe : probes) {
    names.push_back(probe.name);
    EXPECT_EQ(probe.cases.size(), 31u);
    for (const SkillCase& item : probe.cases) {
      std::vector<ChatTurn> turns = item.messages;
      turns.push_back({"assistant", item.reply});
      expect_row(turns);
    }
  }
  EXPECT_EQ(names,
            (std::vector<std::string>{"follow_3_4", "follow_5", "follow_6", "reflect", "name"}));
}

TEST(SkillProbes, FollowOnlyTagsWithALineAtTheLengthsOfTheirNames) {
  const std::map<std::string, std::set<std::size_t>> lengths = {
      {"follow_3_4", {3, 4}}, {"follow_5", {5}}, {"follow_6", {6}}};
  for (const SkillProbe& probe : skill_probes(11)) {
    if (!lengths.contains(probe.name)) continue;
    std::set<std::size_t> seen;
    for (const SkillCase& item : probe.cases) {
      const auto question = parse_question(item.messages[1].content);
      const Rulebook rulebook = parse_rulebook(lines_of(item.messages[0].content));
      EXPECT_TRUE(rulebook[static_cast<std::size_t>(question->tag)].has_value());
      seen.insert(question->list.size());
    }
    EXPECT_EQ(seen, lengths.at(probe.name)) << probe.name;
  }
}

TEST(SkillProbes, AreAFunctionOfTheSeed) {
  EXPECT_EQ(skill_probes(11, 3)[3].cases[2].messages, skill_probes(11, 7)[3].cases[2].messages);
  EXPECT_NE(skill_probes(11, 3)[3].cases[2].messages, skill_probes(12, 3)[3].cases[2].messages);
}

}  // namespace
}  // namespace fst::world
