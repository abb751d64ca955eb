// Chat templates and prompts against transformers; see tests/golden/README.md.

#include <filesystem>

#include <gtest/gtest.h>

#include "fst/model/chat.h"
#include "fst/model/tokenizer.h"

#include "golden_json.h"

namespace fst {
namespace {

using Tokens = std::vector<TokenId>;

Thinking thinking_of(const nlohmann::json& line) {
  if (!line.contains("enable_thinking") || line["enable_thinking"].is_null())
    return Thinking::unset;
  return line["enable_thinking"].get<bool>() ? Thinking::on : Thinking::off;
}

TEST(ChatGolden, Qwen3RendersAsTheReference) {
  const std::filesystem::path folder = test::qwen3_tokenizer_dir();
  const Tokenizer tokenizer = Tokenizer::load(folder);
  const Chat chat = Chat::load(folder);
  for (const auto& line : test::golden_lines("chat/chat.jsonl")) {
    const auto messages = parse_messages(line.at("messages").dump(), line.at("id"));
    const auto generation = line.at("add_generation_prompt").get<bool>() ? GenerationPrompt::add
                                                                         : GenerationPrompt::omit;
    const std::string text = chat.render(messages, generation, thinking_of(line));
    EXPECT_EQ(text, line.at("text")) << line.at("id");
    EXPECT_EQ(tokenizer.encode(text), line.at("ids").get<Tokens>()) << line.at("id");
  }
}

/// One model folder: the prompts of generate.jsonl become the tokens that transformers made of
/// them, and the completions its text.
void compare_prompts(const std::string& name) {
  const std::string below = "model/" + name;
  const std::filesystem::path folder = test::golden_dir() + "/" + below;
  const Tokenizer tokenizer = Tokenizer::load(folder);
  const Chat chat = Chat::load(folder);
  const auto prompts = test::golden_lines(below + "/generate.jsonl");
  const auto expected = test::golden_lines(below + "/generate.expected.jsonl");
  ASSERT_EQ(prompts.size(), expected.size()) << folder;
  for (std::size_t i = 0; i < prompts.size(); ++i) {
    const auto& line = prompts[i];
    ASSERT_EQ(line.at("id"), expected[i].at("id")) << folder;
    Tokens tokens;
    if (line.contains("tokens")) tokens = line["tokens"].get<Tokens>();
    if (line.contains("text")) tokens = tokenizer.encode(line["text"].get<std::string>());
    if (line.contains("messages")) {
      const auto messages = parse_messages(line["messages"].dump(), line.at("id"));
      tokens = tokenizer.encode(chat.render(messages, GenerationPrompt::add, thinking_of(line)));
    }
    EXPECT_EQ(tokens, expected[i].at("prompt_tokens").get<Tokens>()) << folder << line.at("id");
    Tokens completion = expected[i].at("tokens").get<Tokens>();
    if (expected[i].at("finish") == "stop") completion.pop_back();
    EXPECT_EQ(tokenizer.decode(completion, SpecialTokens::skip), expected[i].at("text"))
        << folder << line.at("id");
  }
}

TEST(ChatGolden, PromptsOfTheModelFoldersAreThoseOfTheReference) {
  int folders = 0;
  for (const auto& entry : std::filesystem::directory_iterator(test::golden_dir() + "/model")) {
    if (!std::filesystem::exists(entry.path() / "generate.jsonl")) continue;
    ++folders;
    compare_prompts(entry.path().filename());
  }
  EXPECT_GT(folders, 0) << "no model folder with generate.jsonl under " << test::golden_dir();
}

}  // namespace
}  // namespace fst
