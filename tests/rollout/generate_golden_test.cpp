// Greedy completions against transformers in float64: every folder of golden model/ and every line
// of its generate.jsonl; see tests/golden/README.md.

#include <algorithm>
#include <filesystem>

#include <gtest/gtest.h>

#include "fst/model/chat.h"
#include "fst/model/parameters.h"
#include "fst/model/tokenizer.h"
#include "fst/rollout/generator.h"

#include "golden_json.h"

namespace fst {
namespace {

using Tokens = std::vector<TokenId>;

constexpr double logprob_tolerance = 1e-4;   // golden/README.md, float32 arithmetic
constexpr std::int32_t max_new_tokens = 16;  // what the golden files were made with

/// The folder whose golden files speak for `name`: SAME_AS names another one with the same weights.
std::string reference_of(const std::string& name) {
  std::ifstream same(test::golden_dir() + "/model/" + name + "/SAME_AS");
  std::string other;
  return same >> other ? std::filesystem::path(other).filename().string() : name;
}

Tokens prompt_of(const nlohmann::json& line, const Tokenizer& tokenizer, const Chat& chat) {
  if (line.contains("tokens")) return line["tokens"].get<Tokens>();
  if (line.contains("text")) return tokenizer.encode(line["text"].get<std::string>());
  const auto messages = parse_messages(line.at("messages").dump(), line.at("id"));
  return tokenizer.encode(chat.render(messages, GenerationPrompt::add, Thinking::unset));
}

void compare(const Completion& completion, const nlohmann::json& expected) {
  EXPECT_EQ(completion.tokens, expected.at("tokens").get<Tokens>());
  EXPECT_EQ(completion.finish, expected.at("finish") == "stop" ? Finish::stop : Finish::length);
  const bool masked = expected.contains("logprobs_masked");
  const auto logprobs =
      expected.at(masked ? "logprobs_masked" : "logprobs").get<std::vector<double>>();
  ASSERT_EQ(completion.logprobs.size(), logprobs.size());
  for (std::size_t t = 0; t < logprobs.size(); ++t) {
    EXPECT_NEAR(static_cast<double>(completion.logprobs[t]), logprobs[t], logprob_tolerance) << t;
  }
}

void compare_folder(const std::string& name) {
  const std::filesystem::path folder = test::golden_dir() + "/model/" + name;
  const auto prompts = test::golden_lines("model/" + reference_of(name) + "/generate.jsonl");
  const auto expected =
      test::golden_lines("model/" + reference_of(name) + "/generate.expected.jsonl");
  ASSERT_EQ(prompts.size(), expected.size());
  const Device device = Device::cpu();
  const Tokenizer tokenizer = Tokenizer::load(folder);
  const Chat chat = Chat::load(folder);
  const Qwen3Config config = Qwen3Config::load(folder);
  std::vector<GenerateRequest> requests;
  std::int64_t longest = 0;
  for (const auto& line : prompts) {
    GenerateRequest request;
    request.prompt = prompt_of(line, tokenizer, chat);
    request.max_new_tokens = max_new_tokens;
    request.law.temperature = 0.0f;
    request.law.vocab = tokenizer.vocab_size();
    longest = std::max(longest, static_cast<std::int64_t>(request.prompt.size()));
    requests.push_back(std::move(request));
  }
  Qwen3 model(config, device, {.use = Use::inference, .max_positions = longest + max_new_tokens});
  model.set_weights(load_parameters(folder, config, device));
  GeneratorOptions options;
  options.stop_ids = config.eos_token_ids;
  const auto completions = Generator(model, options).generate(requests);
  for (std::size_t i = 0; i < completions.size(); ++i) {
    SCOPED_TRACE(prompts[i].at("id").dump());
    compare(completions[i], expected[i]);
  }
}

TEST(GenerateGolden, GreedyCompletionsAreThoseOfTheReference) {
  int folders = 0;
  for (const auto& entry : std::filesystem::directory_iterator(test::golden_dir() + "/model")) {
    if (!std::filesystem::exists(entry.path() / "config.json")) continue;
    ++folders;
    SCOPED_TRACE(entry.path().filename().string());
    compare_folder(entry.path().filename());
  }
  EXPECT_GT(folders, 0) << "no model folder below " << test::golden_dir();
}

}  // namespace
}  // namespace fst
