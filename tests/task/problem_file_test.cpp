#include "fst/task/problem_file.h"

#include <filesystem>
#include <fstream>
#include <map>
#include <set>
#include <string>

#include <gtest/gtest.h>

#include "fst/base/error.h"
#include "fst/task/task.h"

namespace fst {
namespace {

/// Files in memory: what rank 0 would have broadcast.
ReadFile files(std::map<std::string, std::string> contents) {
  return [contents = std::move(contents)](const std::string& path) { return contents.at(path); };
}

ProblemSets load(const std::string& train, const std::string& dev = "",
                 const std::string& test = "", AnswerVerifier verifier = AnswerVerifier::exact) {
  const ProblemFiles paths{train.empty() ? "" : "train.jsonl", dev.empty() ? "" : "dev.jsonl",
                           test.empty() ? "" : "test.jsonl"};
  return load_problems(paths, verifier,
                       files({{"train.jsonl", train}, {"dev.jsonl", dev}, {"test.jsonl", test}}));
}

std::string message_of(const std::string& train, const std::string& dev = "",
                       const std::string& test = "",
                       AnswerVerifier verifier = AnswerVerifier::exact) {
  try {
    load(train, dev, test, verifier);
  } catch (const InputError& error) {
    return error.what();
  }
  return "no InputError";
}

void expect_says(const std::string& message, std::initializer_list<const char*> parts) {
  for (const char* part : parts) {
    EXPECT_NE(message.find(part), std::string::npos) << "\"" << part << "\" in: " << message;
  }
}

TEST(ProblemFile, ReadsEachWayToWriteAProblem) {
  const ProblemSets sets = load(
      "{\"id\": \"a\", \"prompt\": \"one\", \"answer\": \"1\"}\r\n"
      "\n"
      "{\"id\": 7, \"question\": \"two\", \"label\": 2, \"system\": \"be brief\"}\n"
      "{\"problem\": \"three\", \"ground_truth\": \"3\", \"metadata\": {\"x\": [1]}}\n"
      "{\"prompt\": [{\"role\": \"system\", \"content\": \"s\"}, {\"role\": \"user\", "
      "\"content\": \"four\"}], \"reference\": \"4\"}\n"
      "{\"prompt\": \"five\", \"reward_model\": {\"style\": \"rule\", \"ground_truth\": \"5\"}}");
  ASSERT_EQ(sets.train.size(), 5u);
  EXPECT_EQ(sets.train[0], (Problem{"a", "one", "1", ""}));
  EXPECT_EQ(sets.train[1], (Problem{"7", "two", "2", "be brief"}));
  EXPECT_EQ(sets.train[2].question, "three");
  EXPECT_EQ(sets.train[2].id.size(), 16u);  // the hash of its content
  EXPECT_EQ(sets.train[3].question, "four");
  EXPECT_EQ(sets.train[3].system, "s");
  EXPECT_EQ(sets.train[4].reference, "5");
}

const std::string good = "{\"prompt\": \"p\", \"answer\": \"a\"}\n";

TEST(ProblemFile, NamesFileAndLineOfABadLine) {
  expect_says(message_of(good + "{\"prompt\": \"q\""), {"train.jsonl:2:", "JSON"});
  expect_says(message_of(good + "\n[1]"), {"train.jsonl:3:", "object", "array"});
  expect_says(message_of(good, "{\"answer\": \"a\"}"), {"dev.jsonl:1:", "\"prompt\""});
  expect_says(message_of("{\"prompt\": \"q\"}"), {"train.jsonl:1:", "\"answer\""});
  expect_says(message_of("{\"prompt\": \" \", \"answer\": \"a\"}"), {"question is empty"});
  expect_says(message_of("{\"prompt\": 5, \"answer\": \"a\"}"), {"must be text or a chat"});
  expect_says(message_of("{\"prompt\": \"q\", \"answer\": [1]}"), {"must be text or a number"});
  expect_says(message_of("{\"prompt\": \"\xff\", \"answer\": \"a\"}"), {"train.jsonl:1:"});
}

TEST(ProblemFile, RefusesChatsItCannotRender) {
  expect_says(message_of(R"({"prompt": [{"role": "assistant", "content": "x"}], "answer": "a"})"),
              {"assistant", "turn 1"});
  expect_says(message_of("{\"prompt\": [{\"role\": \"user\", \"content\": \"x\"}, {\"role\": "
                         "\"user\", \"content\": \"y\"}], \"answer\": \"a\"}"),
              {"user", "turn 2"});
  expect_says(message_of(R"({"prompt": [], "answer": "a"})"), {"one user turn"});
  expect_says(message_of(R"({"prompt": [{"role": "user"}], "answer": "a"})"), {"content"});
}

TEST(ProblemFile, ChecksTheAnswerForItsVerifier) {
  expect_says(message_of("{\"prompt\": \"q\", \"answer\": \"E\"}", "", "", AnswerVerifier::letter),
              {"train.jsonl:1:", "letter from A to D"});
  expect_says(message_of("{\"prompt\": \"q\", \"answer\": \"{\"}", "", "", AnswerVerifier::json),
              {"train.jsonl:1:", "must be JSON"});
  const ProblemSets sets =
      load("{\"prompt\": \"q\", \"answer\": {\"a\": [1, null]}}", "", "", AnswerVerifier::json);
  EXPECT_EQ(sets.train[0].reference, "{\"a\":[1,null]}");
}

TEST(ProblemFile, RefusesAQuestionThatOccursTwiceNamingBothPlaces) {
  expect_says(message_of(good + "{\"id\": \"x\", \"question\": \" p \", \"answer\": \"b\"}"),
              {"train.jsonl:2:", "train problem at train.jsonl:1"});
  expect_says(message_of(good, "", "\n" + good),
              {"test.jsonl:2:", "test problem", "train problem at train.jsonl:1"});
}

TEST(ProblemFile, TakesTheSameQuestionUnderAnotherSystemTextForAnotherProblem) {
  EXPECT_EQ(message_of(good + "{\"prompt\": \"p\", \"system\": \"s\", \"answer\": \"b\"}"),
            "no InputError");
}

TEST(ProblemFile, RefusesAnIdThatOccursTwice) {
  expect_says(message_of("{\"id\": \"x\", \"prompt\": \"p\", \"answer\": \"a\"}\n",
                         "{\"id\": \"x\", \"prompt\": \"q\", \"answer\": \"a\"}\n"),
              {"dev.jsonl:1:", "\"x\"", "train.jsonl:1"});
}

TEST(ProblemFile, RefusesALineOfAnotherSplit) {
  expect_says(message_of("{\"prompt\": \"p\", \"answer\": \"a\", \"split\": \"test\"}"),
              {"train.jsonl:1:", "test problem", "given for train"});
  expect_says(message_of("{\"prompt\": \"p\", \"answer\": \"a\", \"split\": \"tset\"}"),
              {"nearest is test"});
}

TEST(ProblemFile, DividesOneFileByTheSplitOfItsLines) {
  const std::string text =
      "{\"prompt\": \"p\", \"answer\": \"a\", \"split\": \"test\"}\n"
      "{\"prompt\": \"q\", \"answer\": \"b\", \"split\": \"train\"}\n"
      "{\"prompt\": \"r\", \"answer\": \"c\", \"split\": \"test\"}\n";
  const ProblemFiles paths{"all.jsonl", "", "all.jsonl"};
  const ProblemSets sets =
      load_problems(paths, AnswerVerifier::exact, files({{"all.jsonl", text}}));
  EXPECT_EQ(sets.train.size(), 1u);
  EXPECT_EQ(sets.test.size(), 2u);
  EXPECT_THROW(load_problems(paths, AnswerVerifier::exact, files({{"all.jsonl", text + good}})),
               InputError);
}

TEST(ProblemFile, RefusesAFileWithoutProblems) {
  expect_says(message_of("\n"), {"train.jsonl", "no train problem"});
}

TEST(ProblemFile, NamesAFileThatIsNotThere) {
  try {
    read_text_file("no/such/file.jsonl");
    FAIL() << "expected an InputError";
  } catch (const InputError& error) {
    expect_says(error.what(), {"no/such/file.jsonl"});
  }
}

TEST(ProblemFile, ReadsFilesFromDisk) {
  const auto path = std::filesystem::path(testing::TempDir()) / "fst_problem_file_test.jsonl";
  std::ofstream(path, std::ios::binary) << good;
  EXPECT_EQ(read_text_file(path.string()), good);
  std::filesystem::remove(path);
}

TaskOptions file_options(std::size_t problems) {
  std::string text;
  for (std::size_t i = 0; i < problems; ++i) {
    text += "{\"id\": " + std::to_string(i) + ", \"prompt\": \"p" + std::to_string(i) +
            "\", \"answer\": \"a\"}\n";
  }
  TaskOptions options;
  options.name = "jsonl";
  options.files.train = "train.jsonl";
  options.read = files({{"train.jsonl", text}});
  return options;
}

TEST(FileTask, GivesEveryProblemOnceAnEpochInAnotherOrderEachTime) {
  const std::size_t size = 11;
  const Task task = make_task(file_options(size));
  std::set<std::vector<std::string>> orders;
  for (std::int64_t epoch = 0; epoch < 5; ++epoch) {
    std::vector<std::string> order;
    for (std::int64_t i = 0; i < 11; ++i) order.push_back(task.train(11 * epoch + i).id);
    EXPECT_EQ(std::set<std::string>(order.begin(), order.end()).size(), size);
    orders.insert(order);
  }
  EXPECT_EQ(orders.size(), 5u);
}

TEST(FileTask, OrdersByTheRunSeedAlone) {
  TaskOptions options = file_options(11);
  const Task task = make_task(options), again = make_task(options);
  options.seed = 99;
  const Task other = make_task(options);
  int same = 0;
  for (std::int64_t i = 100; i >= 0; --i) {
    EXPECT_EQ(task.train(i), again.train(i));
    same += task.train(i) == other.train(i);
  }
  EXPECT_LT(same, 50);
}

TEST(FileTask, JudgesWithItsVerifier) {
  TaskOptions options = file_options(3);
  EXPECT_EQ(make_task(options).verify({"p", "q", "a", ""}, {" a", true}).reward, 1.0f);
  options.verifier = "jsn";
  try {
    make_task(options);
    FAIL() << "expected an InputError";
  } catch (const InputError& error) {
    expect_says(error.what(), {"jsn", "nearest is json"});
  }
}

TEST(FileTask, WantsAFileAndTrainingProblemsWhereTheyAreUsed) {
  TaskOptions options = file_options(3);
  options.files = {};
  EXPECT_THROW(make_task(options), InputError);
  options.files.test = "train.jsonl";
  const Task task = make_task(options);
  EXPECT_EQ(task.test.size(), 3u);
  EXPECT_THROW(task.train(0), InputError);
}

}  // namespace
}  // namespace fst
