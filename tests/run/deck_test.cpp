#include <algorithm>
#include <filesystem>
#include <string>

#include <gtest/gtest.h>

#include "fst/base/error.h"
#include "fst/run/config.h"

#include "changed_keys.h"

namespace fst {
namespace {

const std::string path = "/decks/some.cfg";

Deck parse(const std::string& text, const std::vector<std::string>& overrides = {}) {
  return parse_deck(path, text, overrides);
}

/// What is said about a deck that cannot be used.
std::string complaint(const std::string& text, const std::vector<std::string>& overrides = {}) {
  try {
    parse(text, overrides);
  } catch (const InputError& error) {
    return error.what();
  }
  ADD_FAILURE() << "accepted: " << text;
  return "";
}

void expect_says(const std::string& message, const std::string& part) {
  EXPECT_NE(message.find(part), std::string::npos) << "`" << part << "` is missing in: " << message;
}

TEST(Deck, WithoutAnyLineHasTheDefaults) {
  const Deck deck = parse("");
  EXPECT_TRUE(deck.given.empty());
  EXPECT_EQ(resolved_deck(deck.config), resolved_deck(RunConfig{}));
}

TEST(Deck, ReadsSectionsCommentsAndSpaces) {
  const Deck deck = parse(
      "# a comment\r\n[run]\n  seed=7   # of every stream\r\n\n[optim]\nlr =  3e-4\n"
      "[task]\nstages = A, B ,C\nlengths=4,6\n[evolve]\nreject_known = off\n");
  EXPECT_EQ(deck.config.run.seed, 7);
  EXPECT_EQ(deck.config.optim.lr, 3e-4);
  EXPECT_EQ(deck.config.task.stages, (std::vector<std::string>{"A", "B", "C"}));
  EXPECT_EQ(deck.config.task.lengths, (std::vector<std::int64_t>{4, 6}));
  EXPECT_FALSE(deck.config.evolve.reject_known);
  EXPECT_EQ(deck.given, (std::vector<std::string>{"run.seed", "optim.lr", "task.stages",
                                                  "task.lengths", "evolve.reject_known"}));
}

TEST(Deck, ReportsAllMistakesWithFileLineAndNearestName) {
  const std::string message = complaint(
      "[run]\nmethod = frst\nsteps = -1\n[optim]\nlrr = 1e-3\n\nwarmup = ten\n"
      "[train]\nzero_variance_filter = maybe\nadvantage = grp\n[task]\nlengths = 4,7\n");
  expect_says(message, "7 mistakes in the deck:");
  expect_says(message, "/decks/some.cfg:2: run.method = frst: expected one of fst,rl,");
  expect_says(message, "(nearest: fst)");
  expect_says(message, "/decks/some.cfg:3: run.steps = -1: expected an integer from 0 up");
  expect_says(message, "/decks/some.cfg:5: unknown key optim.lrr (nearest: optim.lr)");
  expect_says(message, "/decks/some.cfg:7: optim.warmup = ten: expected an integer");
  expect_says(message, "/decks/some.cfg:9: train.zero_variance_filter = maybe: expected true or");
  expect_says(message, "/decks/some.cfg:10: train.advantage = grp: expected one of");
  expect_says(message, "(nearest: group)");
  expect_says(message, "/decks/some.cfg:12: task.lengths = 4,7: expected integers from 3 to 6");
}

TEST(Deck, ReportsLinesThatAreNoSetting) {
  const std::string message = complaint("[run]\nseed 7\n= 3\n[]\nseed = 1\nseed = 2\n");
  expect_says(message, "/decks/some.cfg:2: expected `key = value` or `[section]`, found `seed 7`");
  expect_says(message, "/decks/some.cfg:3: expected `key = value`");
  expect_says(message, "/decks/some.cfg:4: expected `key = value`");
  expect_says(complaint("[run]\nseed = 1\nseed = 2\n"),
              "/decks/some.cfg:3: run.seed is set again; first in /decks/some.cfg:2");
  expect_says(complaint(std::string("[run]\nseed = 1\0", 16)), "not a text file");
}

TEST(Deck, AnOverrideWins) {
  const Deck deck = parse("[run]\nseed = 7\nsteps = 5\n[eval]\nalso = B\n",
                          {"--run.seed=8", "--optim.lr=0.5", "--run.seed=9", "--eval.also="});
  EXPECT_EQ(deck.config.run.seed, 9);
  EXPECT_EQ(deck.config.run.steps, 5);
  EXPECT_EQ(deck.config.optim.lr, 0.5);
  EXPECT_EQ(deck.config.eval.also, "");
  EXPECT_NE(std::ranges::find(deck.given, "optim.lr"), deck.given.end());
}

TEST(Deck, MistakesInOverridesAreReportedAsSuch) {
  expect_says(complaint("", {"--run.sed=8"}),
              "command line: unknown key run.sed (nearest: run.seed)");
  expect_says(complaint("", {"--run.seed=x"}), "command line: run.seed = x: expected an integer");
  expect_says(complaint("", {"--run.seed"}), "command line: expected --section.key=value");
  expect_says(complaint("", {"run.seed=3"}), "command line: expected --section.key=value");
}

TEST(Deck, AMistakeInTheDeckKeepsItsLineWhereAnOverrideReplacesTheValue) {
  expect_says(complaint("[run]\nsteps = many\n", {"--run.steps=5"}),
              "/decks/some.cfg:2: run.steps = many");
}

TEST(Deck, RefusesOverridesThatNoDeckCouldHold) {
  expect_says(complaint("", {"--run.output=/tmp/run#3"}), "command line");
  expect_says(complaint("", {"--eval.also=A\nrun.seed = 5"}), "command line");
}

TEST(Deck, PathsAreRelativeToTheDeckAndOnTheCommandLineToTheWorkingFolder) {
  const Deck deck = parse("[model]\npolicy = ../models/tiny\nbase = /abs/base\n",
                          {"--run.output=out", "--model.reflection="});
  EXPECT_EQ(deck.config.model.policy, "/models/tiny");
  EXPECT_EQ(deck.config.model.base, "/abs/base");
  EXPECT_EQ(deck.config.model.reflection, "");
  EXPECT_EQ(deck.config.run.output, (std::filesystem::current_path() / "out").string());
  EXPECT_EQ(deck.config.reflection.layout, "auto");
  EXPECT_EQ(deck.folder, "/decks");
}

TEST(Deck, AnOverrideOfAPathLeavesTheDecksOtherPathsAlone) {
  const Deck deck =
      parse("[model]\npolicy = tiny\nbase = tiny\n", {"--model.policy=/elsewhere/model"});
  EXPECT_EQ(deck.config.model.policy, "/elsewhere/model");
  EXPECT_EQ(deck.config.model.base, "/decks/tiny");
}

TEST(Deck, RefusesCombinationsThatCannotWorkNamingTheLine) {
  const std::string message = complaint(
      "[train]\ngroup_size = 6\n[evolve]\nprompts = 4\nminibatch = 50\n[cispo]\ntau = 1\n"
      "[ranks]\nrollout = 2\n[kl]\nestimator = k1\n");
  expect_says(message, "/decks/some.cfg:2: train.group_size: 6 rollouts cannot be split evenly");
  expect_says(message, "/decks/some.cfg:5: evolve.minibatch: larger than evolve.anchors");
  expect_says(message, "/decks/some.cfg:7: cispo.tau:");
  expect_says(message, "ranks.learner: 0, but run.method = fst trains the weights");
  expect_says(message, "ranks.reflection: 0, but run.method = fst evolves prompts");
  expect_says(message, "/decks/some.cfg:11: kl.estimator: k1 in the loss");
  expect_says(complaint("[task]\nvariant = D\n"),
              "/decks/some.cfg:2: task.variant: the world has no variant D");
}

TEST(Deck, ColocatedLeavesBoundTheRanksOnlyOnceTheyAreKnown) {
  EXPECT_EQ(parse("[learner]\ngradient_leaves = 1\ntp = 8\n").config.learner.gradient_leaves, 1);
  expect_says(complaint("[learner]\ngradient_leaves = 1\n[ranks]\nrollout = 1\nreflection = 1\n"
                        "learner = 2\n"),
              "/decks/some.cfg:2: learner.gradient_leaves = 1, but 2 learner ranks");
}

TEST(ResolvedDeck, ReproducesTheConfigurationForEveryKey) {
  const std::vector<std::string> overrides = test::every_key_changed();
  const RunConfig config = parse("", overrides).config;
  const auto defaults = keys_of(RunConfig{}), set = keys_of(config);
  const RunConfig again = parse_deck("/other/folder.cfg", resolved_deck(config), {}).config;
  const auto read = keys_of(again);
  ASSERT_EQ(read.size(), set.size());
  std::size_t different = 0;
  for (std::size_t i = 0; i < set.size(); ++i) {
    EXPECT_EQ(read[i].text, set[i].text) << set[i].name;
    EXPECT_EQ("--" + set[i].name + "=" + set[i].text, overrides[i]) << "a key binds another field";
    different += set[i].text != defaults[i].text ? 1 : 0;
  }
  EXPECT_GT(different, set.size() - 12);
  EXPECT_EQ(resolved_deck(again), resolved_deck(config));
}

TEST(ResolvedDeck, KeepsEveryDigitOfARealNumber) {
  for (const char* value : {"0.1", "1e-06", "0.30000000000000004", "5e-324"}) {
    const RunConfig config = parse("", {std::string("--optim.lr=") + value}).config;
    EXPECT_EQ(parse(resolved_deck(config)).config.optim.lr, config.optim.lr) << value;
  }
  const RunConfig endless = parse("", {"--optim.clip=inf"}).config;
  EXPECT_EQ(parse(resolved_deck(endless)).config.optim.clip, endless.optim.clip);
  expect_says(complaint("", {"--optim.lr=nan"}), "optim.lr = nan: expected a number");
}

TEST(Keys, AreUniqueHelpfulAndInSections) {
  std::vector<std::string> names, sections;
  for (const KeyInfo& key : keys_of(RunConfig{})) {
    EXPECT_EQ(std::ranges::find(names, key.name), names.end()) << key.name;
    names.push_back(key.name);
    EXPECT_FALSE(key.help.empty()) << key.name;
    const std::string section = key.name.substr(0, key.name.find('.'));
    if (sections.empty() || sections.back() != section) {
      EXPECT_EQ(std::ranges::find(sections, section), sections.end()) << section << " comes twice";
      sections.push_back(section);
    }
  }
  EXPECT_GT(names.size(), 100u);
}

}  // namespace
}  // namespace fst
