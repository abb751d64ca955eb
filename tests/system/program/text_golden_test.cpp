// fst tokenize and fst verify against outside data.

#include <functional>
#include <nlohmann/json.hpp>

#include <gtest/gtest.h>

#include "program.h"
#include "support/golden_json.h"

namespace fst::testing {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

/// Gives the verb these lines and returns what it writes, line for line.
std::vector<json> through(std::vector<std::string> words, const std::vector<json>& lines) {
  const TemporaryFolder folder;
  std::string in;
  for (const json& line : lines) in += line.dump() + "\n";
  const fs::path out = folder.path() / "out.jsonl";
  words.insert(words.end(), {"--in", folder.write("in.jsonl", in), "--out", out});
  const Ended ended = run_fst(words);
  EXPECT_EQ(ended.code, 0) << ended.err;
  std::vector<json> results;
  for (const std::string& line : lines_of(out)) results.push_back(json::parse(line));
  EXPECT_EQ(results.size(), lines.size());
  results.resize(lines.size());
  return results;
}

std::vector<json> tokenize(const std::vector<json>& lines) {
  return through({"tokenize", "--model", test::qwen3_tokenizer_dir()}, lines);
}

TEST(TokenizeProgram, EncodesAsTheReference) {
  const auto cases = test::golden_lines("tokenizer/encode.jsonl");
  std::vector<json> in;
  for (const json& one : cases) in.push_back({{"id", one["id"]}, {"text", one["text"]}});
  const auto out = tokenize(in);
  for (std::size_t i = 0; i < cases.size(); ++i) {
    EXPECT_EQ(out[i]["id"], cases[i]["id"]);
    EXPECT_EQ(out[i]["tokens"], cases[i]["ids"]) << cases[i]["id"];
  }
}

TEST(TokenizeProgram, DecodesAsTheReference) {
  const auto cases = test::golden_lines("tokenizer/decode.jsonl");
  std::vector<json> in;
  for (const json& one : cases) in.push_back({{"id", one["id"]}, {"tokens", one["ids"]}});
  const auto out = tokenize(in);
  for (std::size_t i = 0; i < cases.size(); ++i) {
    EXPECT_EQ(out[i]["text"], cases[i]["text"]) << cases[i]["id"];
  }
}

TEST(TokenizeProgram, RendersConversationsAsTheReference) {
  const auto cases = test::golden_lines("chat/chat.jsonl");
  std::vector<json> in;
  for (const json& one : cases) {
    json line = {{"id", one["id"]},
                 {"messages", one["messages"]},
                 {"add_generation_prompt", one["add_generation_prompt"]}};
    if (!one["enable_thinking"].is_null()) line["enable_thinking"] = one["enable_thinking"];
    in.push_back(line);
  }
  const auto out = tokenize(in);
  for (std::size_t i = 0; i < cases.size(); ++i) {
    EXPECT_EQ(out[i]["text"], cases[i]["text"]) << cases[i]["id"];
    EXPECT_EQ(out[i]["tokens"], cases[i]["ids"]) << cases[i]["id"];
  }
}

TEST(TokenizeProgram, RefusesIllFormedUtf8) {
  for (const json& one : test::golden_lines("tokenizer/invalid_utf8.jsonl")) {
    const std::string hex = one["bytes_hex"];
    std::string bytes;
    for (std::size_t i = 0; i < hex.size(); i += 2) {
      bytes += static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16));
    }
    const TemporaryFolder folder;
    const std::string before = R"({"id": "a", "text": ")";
    const fs::path in = folder.write("in.jsonl", before + bytes + "\"}\n");
    const fs::path out = folder.path() / "out.jsonl";
    const Ended ended =
        run_fst({"tokenize", "--model", test::qwen3_tokenizer_dir(), "--in", in, "--out", out});
    EXPECT_EQ(ended.code, 2) << one["id"];
    const std::size_t offset = before.size() + one["bad_offset"].get<std::size_t>();
    EXPECT_NE(ended.err.find("in.jsonl:1: not UTF-8 at byte " + std::to_string(offset)),
              std::string::npos)
        << one["id"] << ": " << ended.err;
    EXPECT_FALSE(fs::exists(out)) << one["id"];
  }
}

/// One completion to judge, and whether credit is due.
struct Judged {
  json line;
  bool credit, disputed;
};

void expect_verdicts(const std::string& task, const std::vector<Judged>& cases) {
  ASSERT_FALSE(cases.empty());
  std::vector<json> in;
  for (const Judged& one : cases) in.push_back(one.line);
  const auto out = through({"verify", "--task", task}, in);
  for (std::size_t i = 0; i < cases.size(); ++i) {
    const bool credit = out[i]["reward"] == 1.0;
    if (credit != cases[i].credit && cases[i].disputed) {
      std::printf("disputed, we differ: %s\n", cases[i].line.dump().c_str());
      continue;
    }
    EXPECT_EQ(credit, cases[i].credit) << cases[i].line << " -> " << out[i];
    EXPECT_TRUE(out[i]["status"].is_string() && out[i]["feedback"].is_string()) << out[i];
  }
}

TEST(VerifyProgram, JudgesJsonAnswersAsTheOutsideDataSays) {
  std::vector<Judged> cases;
  for (const json& one : test::golden_lines("tasks/json_answer.jsonl")) {
    const json answer = one["answer"].is_null() ? json("") : one["answer"];
    cases.push_back({{{"id", one["id"]}, {"completion", answer}, {"reference", one["reference"]}},
                     one["equal"],
                     one["disputed"]});
  }
  expect_verdicts("json", cases);
}

TEST(VerifyProgram, JudgesLettersAsTheOutsideDataSays) {
  std::vector<Judged> cases;
  for (const json& one : test::golden_lines("tasks/letter.jsonl")) {
    cases.push_back(
        {{{"id", one["id"]}, {"completion", one["completion"]}, {"reference", one["reference"]}},
         one["expected"],
         one["disputed"]});
  }
  expect_verdicts("letter", cases);
}

TEST(VerifyProgram, JudgesStarGraphsAsTheOutsideDataSays) {
  std::vector<Judged> cases;
  for (const json& graph : test::golden_lines("tasks/star_graph.jsonl")) {
    for (const json& one : graph["answers"]) {
      cases.push_back(
          {{{"id", graph["id"]}, {"completion", one["completion"]}, {"reference", graph["gold"]}},
           one["expected"] == 1.0,
           one.value("disputed", false)});
    }
  }
  expect_verdicts("star_graph", cases);
}

}  // namespace
}  // namespace fst::testing
