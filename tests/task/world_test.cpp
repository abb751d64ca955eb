#include "fst/task/world.h"

#include <algorithm>
#include <map>
#include <set>
#include <string>

#include <gtest/gtest.h>

#include "fst/base/error.h"

namespace fst::world {
namespace {

std::vector<Rule> all_rules() {
  std::vector<Rule> rules;
  for (std::int64_t i = 0; i < rule_count; ++i) rules.push_back(static_cast<Rule>(i));
  return rules;
}

// The rules table of the world's definition: rule, result on "dacfb".
const std::vector<std::pair<std::string, List>> table = {
    {"reverse", "bfcad"}, {"sort", "abcdf"},  {"left", "acfbd"}, {"tail", "acfb"},
    {"next", "ebdgc"},    {"right", "bdacf"}, {"back", "clbea"}, {"fall", "fdcba"},
    {"trim", "dacf"},     {"odds", "dcb"},    {"inner", "acf"},  {"ends", "db"}};

TEST(WorldRules, GiveTheResultsOfTheTable) {
  ASSERT_EQ(table.size(), all_rules().size());
  for (std::size_t i = 0; i < table.size(); ++i) {
    const auto rule = static_cast<Rule>(i);
    EXPECT_EQ(rule_text(rule), table[i].first);
    EXPECT_EQ(apply(rule, "dacfb"), table[i].second) << table[i].first;
  }
}

TEST(WorldRules, WrapAroundTheTwelveLetters) {
  EXPECT_EQ(apply(Rule::next, "lka"), "alb");
  EXPECT_EQ(apply(Rule::back, "abl"), "lak");
}

TEST(WorldRules, TakeListsOfOneLetterAndRefuseNone) {
  for (const Rule rule : all_rules()) {
    EXPECT_NO_THROW(apply(rule, "a"));
    EXPECT_THROW(apply(rule, ""), Error);
  }
}

TEST(WorldRules, HaveNamesUnlessTacit) {
  EXPECT_EQ(rule_name(Rule::reverse), "Reverse");
  EXPECT_EQ(rule_name(Rule::odds), "Odds");
  EXPECT_EQ(rule_name(Rule::inner), "");
  EXPECT_FALSE(is_named(Rule::ends));
  EXPECT_EQ(std::ranges::count_if(all_rules(), is_named), named_rule_count);
}

TEST(WorldGuesses, FollowTheClassWeights) {
  Rng rng(5);
  std::map<Rule, int> counts;
  const int draws = 20'000;
  for (int i = 0; i < draws; ++i) ++counts[draw_guess(rng)];
  const std::map<Rule, double> expected = {
      {Rule::reverse, 0.142}, {Rule::sort, 0.142},  {Rule::left, 0.142},
      {Rule::tail, 0.142},    {Rule::next, 0.142},  {Rule::right, 0.03},
      {Rule::back, 0.03},     {Rule::inner, 0.115}, {Rule::ends, 0.115}};
  constexpr double spread = 0.0124;           // five times sqrt(0.142 * 0.858 / 20000)
  EXPECT_EQ(counts.size(), expected.size());  // secret rules never
  for (const auto& [rule, p] : expected) {
    EXPECT_NEAR(counts[rule] / static_cast<double>(draws), p, spread) << rule_text(rule);
  }
}

TEST(ClearLists, HaveOneRuleForTheirResult) {
  EXPECT_TRUE(is_clear(Rule::reverse, "dacf"));
  EXPECT_FALSE(is_clear(Rule::reverse, "abcd"));  // fall gives the same
  EXPECT_FALSE(is_clear(Rule::odds, "bca"));      // so do the ends of three letters
  EXPECT_FALSE(is_clear(Rule::sort, "dabc"));     // so does left
}

TEST(ClearLists, AreDrawnWithDistinctLettersOfTheLengthsAskedFor) {
  Rng rng(7);
  std::set<std::size_t> lengths;
  for (const Rule rule : all_rules()) {
    for (int i = 0; i < 25; ++i) {
      const List list = draw_clear_list(rng, rule, {4, 6});
      EXPECT_TRUE(is_clear(rule, list)) << rule_text(rule) << " " << list;
      EXPECT_EQ(std::set<char>(list.begin(), list.end()).size(), list.size());
      lengths.insert(list.size());
    }
  }
  EXPECT_EQ(lengths, (std::set<std::size_t>{4, 6}));
}

TEST(ClearLists, AreRefusedWhereThereAreNone) {
  Rng rng(7);
  EXPECT_THROW(draw_clear_list(rng, Rule::odds, {3}), InputError);
  EXPECT_NO_THROW(draw_clear_list(rng, Rule::odds, {3, 4}));
}

TEST(WorldText, WritesQuestionsRulebooksAndReflectionsAsInTheDefinition) {
  EXPECT_EQ(list_text("red", "dacf"), "red d a c f");
  Rulebook rulebook{};
  EXPECT_EQ(rulebook_text(rulebook), "rules");
  rulebook[3] = Rule::tail;
  rulebook[0] = Rule::reverse;
  EXPECT_EQ(rulebook_text(rulebook), "rules\nredReverse\ngoldTail");
  rulebook[3].reset();
  EXPECT_EQ(reflect_text(rulebook_text(rulebook), {{"red d a c f", "red f c a d", "right"},
                                                   {"blue b l a c", "blue l a c", "want a b c l"}}),
            "rules\nredReverse\n\nred d a c f\nred f c a d\nright\n\nblue b l a c\nblue l a c\n"
            "want a b c l");
}

TEST(WorldText, PutsASpaceForANewlineInAnAnswer) {
  EXPECT_EQ(reflect_text("rules", {{"red a b c", "red\n\nb", "want c b a"}}),
            "rules\n\nred a b c\nred  b\nwant c b a");
}

TEST(WorldText, CannotNameATacitRule) {
  Rulebook rulebook{};
  rulebook[1] = Rule::ends;
  EXPECT_THROW(rulebook_text(rulebook), Error);
}

TEST(WorldText, ReadsBackQuestionsAndRefusesEverythingElse) {
  const std::optional<Question> question = parse_question("green a l c");
  ASSERT_TRUE(question.has_value());
  EXPECT_EQ(question->tag, Tag::green);
  EXPECT_EQ(question->list, "alc");
  for (const char* text : {"", "green", "green ", "green a ", "greena b", "green a  b", "green m",
                           "green A", "pink a b", " green a", "green a b\n", "green ab"}) {
    EXPECT_FALSE(parse_question(text).has_value()) << text;
  }
}

TEST(Variants, ChangeEveryRuleFromAToBToC) {
  for (const Tag tag : {Tag::red, Tag::blue, Tag::green, Tag::gold}) {
    const std::set<Rule> rules = {hidden_rule("A", tag), hidden_rule("B", tag),
                                  hidden_rule("C", tag)};
    EXPECT_EQ(rules.size(), 3u) << tag_text(tag);
  }
}

TEST(Variants, HoldTheRulesOfTheDefinition) {
  const std::map<std::string, std::vector<std::string>> expected = {
      {"A", {"reverse", "right", "sort", "inner"}},
      {"B", {"next", "left", "ends", "back"}},
      {"C", {"back", "sort", "tail", "right"}},
      {"hard", {"fall", "odds", "trim", "fall"}}};
  for (const auto& [variant, rules] : expected) {
    for (std::size_t tag = 0; tag < rules.size(); ++tag) {
      EXPECT_EQ(rule_text(hidden_rule(variant, static_cast<Tag>(tag))), rules[tag]) << variant;
    }
  }
}

TEST(Classify, FindsTheRuleThatAnAnswerFollows) {
  for (const Rule rule : all_rules()) {
    const Question question{Tag::blue, "dacfb"};
    EXPECT_EQ(classify(gold_answer(question, rule), "blue d a c f b"), rule) << rule_text(rule);
  }
}

TEST(Classify, FindsNoneForOtherTagsOtherLettersAndOtherText) {
  EXPECT_EQ(classify("red b f c a d", "blue d a c f b"), std::nullopt);
  EXPECT_EQ(classify("blue b f c a a", "blue d a c f b"), std::nullopt);
  EXPECT_EQ(classify("blue", "blue d a c f b"), std::nullopt);
  EXPECT_EQ(classify("", "blue d a c f b"), std::nullopt);
  EXPECT_EQ(classify("blue b f c a d", "what?"), std::nullopt);
}

TEST(WorldVerifier, WantsEveryByteAndAStop) {
  const Problem problem{"p", "red d a c", "red c a d", ""};
  EXPECT_EQ(verify(problem, {"red c a d", true}).reward, 1.0f);
  EXPECT_EQ(verify(problem, {"red c a d", true}).feedback, "right");
  for (const Completed& wrong :
       {Completed{"red c a d", false}, Completed{"red c a d ", true}, Completed{" red c a d", true},
        Completed{"red c a d\n", true}, Completed{"red c a", true}, Completed{"", true}}) {
    const Verdict verdict = verify(problem, wrong);
    EXPECT_EQ(verdict.reward, 0.0f) << wrong.text;
    EXPECT_EQ(verdict.feedback, "want c a d");
    EXPECT_EQ(verdict.status, VerdictStatus::ok);
  }
}

TEST(WorldVerifier, SaysWhenTheReferenceIsBroken) {
  EXPECT_EQ(verify({"p", "red d a c", "42", ""}, {"red c a d", true}).status, VerdictStatus::error);
}

}  // namespace
}  // namespace fst::world
