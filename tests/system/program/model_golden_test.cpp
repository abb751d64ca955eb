// Whole programs against outside data: score and generate on every folder of golden/model.

#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>

#include <gtest/gtest.h>

#include "golden_h5.h"
#include "program.h"

namespace fst::testing {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

// Suggested in the README of the data for float32 arithmetic (transformers in float32: 2e-5, 5e-5).
constexpr double logprob_tolerance = 1e-4;
constexpr double logits_tolerance = 2e-4;
constexpr const char* new_tokens = "16";  // the expected completions have at most that many

std::vector<fs::path> model_folders() {
  std::vector<fs::path> folders;
  for (const auto& entry : fs::directory_iterator(golden_path("model"))) {
    if (fs::exists(entry.path() / "config.json")) folders.push_back(entry.path());
  }
  EXPECT_FALSE(folders.empty()) << golden_path("model") << " holds no model";
  return folders;
}

/// Where a folder's inputs and expectations lie: itself, or the folder that SAME_AS names.
fs::path data_of(const fs::path& folder) {
  if (!fs::exists(folder / "SAME_AS")) return folder;
  const std::vector<std::string> lines = lines_of(folder / "SAME_AS");
  EXPECT_FALSE(lines.empty()) << folder;
  return folder.parent_path() / lines.at(0);
}

void expect_near(const std::vector<float>& ours, const std::vector<float>& expected,
                 double tolerance, const std::string& what) {
  ASSERT_EQ(ours.size(), expected.size()) << what;
  for (std::size_t i = 0; i < ours.size(); ++i) {
    if (ours[i] == expected[i]) continue;  // minus infinity too
    ASSERT_NEAR(ours[i], expected[i], tolerance) << what << " [" << i << "]";
  }
}

/// Runs score; returns the output file.
fs::path score(const TemporaryFolder& folder, const fs::path& model, const std::string& name,
               std::vector<std::string> more, const Start& start = {}) {
  const fs::path out = folder.path() / (name + ".h5");
  std::vector<std::string> words = {
      "score", "--model", model, "--tokens", (data_of(model) / "score.jsonl"), "--out", out};
  words.insert(words.end(), more.begin(), more.end());
  const Ended ended = run_fst(words, start);
  EXPECT_EQ(ended.code, 0) << ended.err;
  return out;
}

std::string case_path(std::size_t number, const char* name) {
  return "/case/" + std::to_string(number) + "/" + name;
}

TEST(ScoreProgram, GivesTheLogProbabilitiesAndLogitsOfTransformers) {
  for (const fs::path& model : model_folders()) {
    SCOPED_TRACE(model.string());
    const TemporaryFolder folder;
    const GoldenFile golden(data_of(model) / "golden.h5");
    const GoldenFile law(score(folder, model, "law", {"--logits"}));
    const GoldenFile full(score(folder, model, "full", {"--full-vocab"}));
    const GoldenFile cool(score(folder, model, "cool", {"--full-vocab", "--temperature", "0.6"}));
    const auto lines = lines_of(data_of(model) / "score.jsonl");
    ASSERT_FALSE(lines.empty());
    ASSERT_EQ(golden.names("/case").size(), lines.size());
    for (std::size_t i = 0; i < lines.size(); ++i) {
      const auto at = [&](const char* name) { return case_path(i, name); };
      const bool masked = golden.exists(at("logprob_masked"));
      expect_near(full.floats(at("logprob")), golden.floats(at("logprob")), logprob_tolerance,
                  at("logprob"));
      expect_near(law.floats(at("logprob")),
                  golden.floats(masked ? at("logprob_masked") : at("logprob")), logprob_tolerance,
                  at("logprob of the law"));
      expect_near(cool.floats(at("logprob")), golden.floats(at("logprob_t06")), logprob_tolerance,
                  at("logprob_t06"));
      std::vector<float> logits = law.floats(at("logits"));
      const std::vector<float> expected = golden.floats(at("logits"));
      ASSERT_GE(logits.size(), expected.size());  // the data may hold the last rows only
      logits.erase(logits.begin(), logits.end() - static_cast<std::ptrdiff_t>(expected.size()));
      expect_near(logits, expected, logits_tolerance, at("logits"));
    }
  }
}

TEST(ScoreProgram, WritesTheSameBytesOnAnyNumberOfRanksAndThreads) {
  const fs::path model = model_folders().front();
  const TemporaryFolder folder;
  const std::string one = text_of(score(folder, model, "one", {"--logits"}));
  ASSERT_FALSE(one.empty());
  EXPECT_TRUE(text_of(score(folder, model, "three", {"--logits"}, {3})) == one) << "3 ranks";
  EXPECT_TRUE(text_of(score(folder, model, "threads", {"--logits", "--threads", "2"})) == one)
      << "2 threads";
}

/// The program's output for generate.jsonl of a folder, by id.
std::string generated(const TemporaryFolder& folder, const fs::path& model, const Start& start,
                      const std::vector<std::string>& more = {}) {
  const fs::path out = folder.path() / ("out" + std::to_string(start.ranks) + ".jsonl");
  std::vector<std::string> words = {"generate",
                                    "--model",
                                    model,
                                    "--prompts",
                                    data_of(model) / "generate.jsonl",
                                    "--temperature",
                                    "0",
                                    "--max-new-tokens",
                                    new_tokens,
                                    "--out",
                                    out};
  words.insert(words.end(), more.begin(), more.end());
  const Ended ended = run_fst(words, start);
  EXPECT_EQ(ended.code, 0) << ended.err;
  return text_of(out);
}

TEST(GenerateProgram, CompletesAsTransformersDoes) {
  for (const fs::path& model : model_folders()) {
    SCOPED_TRACE(model.string());
    const TemporaryFolder folder;
    generated(folder, model, {});
    const auto ours = lines_of(folder.path() / "out0.jsonl");
    const auto prompts = lines_of(data_of(model) / "generate.jsonl");
    const auto expected = lines_of(data_of(model) / "generate.expected.jsonl");
    ASSERT_FALSE(expected.empty());
    ASSERT_EQ(ours.size(), prompts.size());
    ASSERT_EQ(ours.size(), expected.size());
    for (std::size_t i = 0; i < ours.size(); ++i) {
      const json line = json::parse(ours[i]), want = json::parse(expected[i]);
      EXPECT_EQ(line["id"], json::parse(prompts[i])["id"]) << "the order of the lines";
      ASSERT_EQ(line["id"], want["id"]);
      EXPECT_EQ(line["sample"], 0);
      EXPECT_EQ(line["tokens"], want["tokens"]) << want["id"];
      EXPECT_EQ(line["text"], want["text"]) << want["id"];
      EXPECT_EQ(line["finish"], want["finish"]) << want["id"];
      const char* name = want.contains("logprobs_masked") ? "logprobs_masked" : "logprobs";
      expect_near(line["logprobs"].get<std::vector<float>>(), want[name].get<std::vector<float>>(),
                  logprob_tolerance, want["id"].dump());
    }
  }
}

TEST(GenerateProgram, EncodesPromptsAsTransformersDoes) {
  for (const fs::path& model : model_folders()) {
    SCOPED_TRACE(model.string());
    const TemporaryFolder folder;
    std::map<std::string, json> wanted;
    for (const std::string& line : lines_of(data_of(model) / "generate.expected.jsonl")) {
      const json want = json::parse(line);
      wanted[want["id"]] = want["prompt_tokens"];
    }
    std::string in;
    for (const std::string& text : lines_of(data_of(model) / "generate.jsonl")) {
      json line = json::parse(text);
      if (line.contains("tokens")) continue;
      if (line.contains("messages")) line["add_generation_prompt"] = true;
      in += line.dump() + "\n";
    }
    ASSERT_FALSE(in.empty()) << "no prompt is a text or a conversation";
    const fs::path out = folder.path() / "out.jsonl";
    const Ended ended =
        run_fst({"tokenize", "--model", model, "--in", folder.write("in.jsonl", in), "--out", out});
    ASSERT_EQ(ended.code, 0) << ended.err;
    for (const std::string& text : lines_of(out)) {
      const json line = json::parse(text);
      EXPECT_EQ(line["tokens"], wanted.at(line["id"])) << line["id"];
    }
  }
}

TEST(GenerateProgram, WritesTheSameBytesOnAnyNumberOfRanks) {
  const fs::path model = model_folders().front();
  const TemporaryFolder folder;
  const std::vector<std::string> drawn = {"--samples", "3", "--seed", "5", "--top-k", "40"};
  const auto draw = [&](int ranks) {
    const fs::path out = folder.path() / ("drawn" + std::to_string(ranks));
    std::vector<std::string> words = {"generate",
                                      "--model",
                                      model,
                                      "--prompts",
                                      data_of(model) / "generate.jsonl",
                                      "--temperature",
                                      "0.8",
                                      "--max-new-tokens",
                                      new_tokens,
                                      "--out",
                                      out};
    words.insert(words.end(), drawn.begin(), drawn.end());
    const Ended ended = run_fst(words, {ranks});
    EXPECT_EQ(ended.code, 0) << ended.err;
    return text_of(out);
  };
  const std::string alone = draw(0);
  ASSERT_FALSE(alone.empty());
  EXPECT_TRUE(draw(2) == alone) << "2 ranks";
  EXPECT_TRUE(draw(3) == alone) << "3 ranks";
}

}  // namespace
}  // namespace fst::testing
