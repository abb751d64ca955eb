#include "fst/task/task.h"

#include <algorithm>
#include <map>
#include <set>
#include <string>

#include <gtest/gtest.h>

#include "fst/base/error.h"
#include "fst/task/world.h"

namespace fst {
namespace {

TaskOptions world_options(const std::string& variant, std::uint64_t seed = 1) {
  TaskOptions options;
  options.variant = variant;
  options.seed = seed;
  return options;
}

class WorldVariants : public testing::TestWithParam<const char*> {};

std::string tag_of(const Problem& p) {
  return p.question.substr(0, p.question.find(' '));
}

std::set<std::string> questions(const std::vector<Problem>& problems) {
  std::set<std::string> set;
  for (const Problem& p : problems) set.insert(p.question);
  return set;
}

TEST_P(WorldVariants, HoldEveryTagOnceInEachBlockOfFour) {
  const Task task = make_task(world_options(GetParam()));
  for (std::int64_t block = 0; block < 25; ++block) {
    std::set<std::string> tags;
    for (std::int64_t slot = 0; slot < 4; ++slot) tags.insert(tag_of(task.train(4 * block + slot)));
    EXPECT_EQ(tags.size(), 4u) << "block " << block;
  }
}

TEST_P(WorldVariants, AskClearQuestionsWithTheirGoldAnswers) {
  const Task task = make_task(world_options(GetParam()));
  std::vector<Problem> problems = task.test;
  for (std::int64_t i = 0; i < 101; ++i) problems.push_back(task.train(i));
  for (const Problem& p : problems) {
    const auto question = world::parse_question(p.question);
    ASSERT_TRUE(question.has_value()) << p.question;
    const world::Rule rule = world::hidden_rule(GetParam(), question->tag);
    EXPECT_TRUE(world::is_clear(rule, question->list)) << p.question;
    EXPECT_EQ(world::classify(p.reference, p.question), rule) << p.question;
    EXPECT_EQ(task.verify(p, {p.reference, true}).reward, 1.0f);
  }
}

TEST_P(WorldVariants, KeepTheirSplitsApart) {
  TaskOptions options = world_options(GetParam());
  options.lengths = {4};
  options.dev_size = 301;  // of about 10,000 questions a tag, so that overlap would be seen
  const Task task = make_task(options);
  std::set<std::string> held = questions(task.test);
  EXPECT_EQ(held.size(), task.test.size());
  for (const Problem& p : task.dev) EXPECT_TRUE(held.insert(p.question).second) << p.question;
  for (std::int64_t i = 0; i < 5003; ++i) EXPECT_FALSE(held.contains(task.train(i).question));
}

TEST_P(WorldVariants, HaveTheSameTestProblemsForEveryRunSeed) {
  const Task task = make_task(world_options(GetParam(), 1));
  const Task other = make_task(world_options(GetParam(), 2));
  EXPECT_EQ(task.test.size(), 96u);
  EXPECT_EQ(task.test, other.test);
  EXPECT_EQ(task.dev, other.dev);
  int same = 0;
  for (std::int64_t i = 0; i < 101; ++i) same += task.train(i).question == other.train(i).question;
  EXPECT_LT(same, 5);
}

INSTANTIATE_TEST_SUITE_P(All, WorldVariants, testing::Values("A", "B", "C", "hard"));

TEST(WorldTask, GivesAProblemByPositionAlone) {
  const Task task = make_task(world_options("A"));
  const Task again = make_task(world_options("A"));
  const std::int64_t far = 1'000'000'007;
  const Problem late = task.train(far);
  std::vector<Problem> forwards;
  for (std::int64_t i = 0; i < 13; ++i) forwards.push_back(task.train(i));
  for (std::int64_t i = 12; i >= 0; --i) {
    EXPECT_EQ(again.train(i), forwards[static_cast<std::size_t>(i)]);
  }
  EXPECT_EQ(again.train(far), late);
  EXPECT_THROW(task.train(-1), Error);
}

TEST(WorldTask, DrawsTheSameProblemsOnEveryMachine) {
  // Pins the streams: a change here changes every run and the fixed test split.
  const Task task = make_task(world_options("A"));
  std::string text;
  for (std::int64_t i = 0; i < 4; ++i) text += task.train(i).question + ";";
  text += task.test[0].question + ";" + task.dev[0].question;
  EXPECT_EQ(text,
            "green g d c f h;gold k b j l d;red j a i c;blue a h g e f l;green f e l g j b;gold i "
            "d a e");
}

TEST(WorldTask, UsesAllLengthsOfTheDeckAndNoOthers) {
  TaskOptions options = world_options("A");
  options.lengths = {3, 6};
  const Task task = make_task(options);
  std::map<std::size_t, int> counts;
  for (std::int64_t i = 0; i < 100; ++i) {
    ++counts[world::parse_question(task.train(i).question)->list.size()];
  }
  EXPECT_EQ(counts.size(), 2u);
  EXPECT_GT(counts[3], 0);
  EXPECT_GT(counts[6], 0);
}

TEST(WorldTask, StartsFromTheEmptyRulebook) {
  EXPECT_EQ(make_task(world_options("A")).seed_prompt, "rules");
  EXPECT_EQ(make_task(world_options("A")).reflection_style, ReflectionStyle::world);
  TaskOptions options = world_options("A");
  options.seed_prompt = "rules\nredReverse";
  EXPECT_EQ(make_task(options).seed_prompt, options.seed_prompt);
}

std::string message_of(const TaskOptions& options) {
  try {
    make_task(options);
  } catch (const InputError& error) {
    return error.what();
  }
  return "no InputError";
}

TEST(TaskErrors, NameTheNearestTaskAndVariant) {
  TaskOptions options;
  options.name = "star_grpah";
  EXPECT_NE(message_of(options).find("nearest is star_graph"), std::string::npos);
  options.name = "world";
  options.variant = "Hard";
  EXPECT_NE(message_of(options).find("nearest is hard"), std::string::npos);
}

TEST(TaskErrors, RefuseLengthsOutsideTheGrammarAndThoseWithoutClearLists) {
  TaskOptions options;
  options.lengths = {4, 7};
  EXPECT_NE(message_of(options).find("3 to 6"), std::string::npos);
  options.lengths = {};
  EXPECT_NE(message_of(options).find("at least one"), std::string::npos);
  options.lengths = {3};
  options.variant = "hard";  // odds and ends agree on three letters
  EXPECT_NE(message_of(options).find("odds"), std::string::npos);
}

TEST(TaskErrors, RefuseNegativeSizes) {
  TaskOptions options;
  options.dev_size = -1;
  EXPECT_NE(message_of(options).find("dev_size"), std::string::npos);
}

}  // namespace
}  // namespace fst
