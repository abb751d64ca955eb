#include <algorithm>
#include <string>

#include <gtest/gtest.h>

#include "fst/base/error.h"
#include "fst/run/pretrain.h"

namespace fst {
namespace {

const std::string folder = std::string(FST_SOURCE_DIR) + "/input/tiny";

struct Fixture {
  Tokenizer tokenizer = Tokenizer::load(folder);
  Chat chat = Chat::load(folder);

  TrainRow row(const std::vector<ChatMessage>& messages) const {
    return chat_row(tokenizer, chat, messages, "some.jsonl:3");
  }
  /// The text of the tokens that carry the loss.
  std::string learnt(const TrainRow& row) const {
    std::vector<TokenId> tokens;
    for (const std::int32_t t : row.targets)
      tokens.push_back(row.tokens[static_cast<std::size_t>(t)]);
    return tokenizer.decode(tokens, SpecialTokens::keep);
  }
};

TEST(ChatRow, LearnsTheReplyAndTheTokenThatEndsIt) {
  const Fixture f;
  const std::vector<ChatMessage> messages{
      {"system", "rules", {}}, {"user", "abcd", {}}, {"assistant", "dcba", {}}};
  const TrainRow row = f.row(messages);
  EXPECT_EQ(f.learnt(row), "dcba<|im_end|>");
  EXPECT_EQ(f.tokenizer.decode(row.tokens, SpecialTokens::keep),
            f.chat.render(messages, GenerationPrompt::omit, Thinking::unset));
  EXPECT_TRUE(std::ranges::is_sorted(row.targets));
}

TEST(ChatRow, LearnsEveryReplyOfAConversationAndNothingElse) {
  const Fixture f;
  const TrainRow row = f.row({{"user", "abc", {}},
                              {"assistant", "cab", {}},
                              {"user", "bca", {}},
                              {"assistant", "acb", {}},
                              {"user", "bac", {}}});
  EXPECT_EQ(f.learnt(row), "cab<|im_end|>acb<|im_end|>");
}

TEST(ChatRow, ShowsThePromptThatARolloutIsShown) {
  const Fixture f;
  const std::vector<ChatMessage> question{{"system", "rules", {}}, {"user", "abcd", {}}};
  const auto prompt =
      f.tokenizer.encode(f.chat.render(question, GenerationPrompt::add, Thinking::unset));
  auto whole = question;
  whole.push_back({"assistant", "dcba", {}});
  const TrainRow row = f.row(whole);
  ASSERT_GT(row.tokens.size(), prompt.size());
  EXPECT_TRUE(std::equal(prompt.begin(), prompt.end(), row.tokens.begin()));
  EXPECT_EQ(row.targets.front(), static_cast<std::int32_t>(prompt.size()));
}

TEST(ChatRow, RefusesAConversationWithoutAReply) {
  const Fixture f;
  try {
    f.row({{"user", "abc", {}}});
    FAIL() << "accepted";
  } catch (const InputError& error) {
    EXPECT_NE(std::string(error.what()).find("some.jsonl:3"), std::string::npos) << error.what();
  }
}

TEST(TextRow, LearnsEveryTokenButTheFirstUpToTheLimit) {
  const Fixture f;
  const auto tokens = f.tokenizer.encode("abcabcabc");
  ASSERT_GT(tokens.size(), 3u);
  const TrainRow whole = text_row(f.tokenizer, "abcabcabc", 100);
  EXPECT_EQ(whole.tokens, tokens);
  EXPECT_EQ(whole.targets.size(), tokens.size() - 1);
  EXPECT_EQ(whole.targets.front(), 1);
  const TrainRow cut = text_row(f.tokenizer, "abcabcabc", 3);
  EXPECT_EQ(cut.tokens, (std::vector<TokenId>{tokens[0], tokens[1], tokens[2]}));
  EXPECT_EQ(cut.targets, (std::vector<std::int32_t>{1, 2}));
  EXPECT_TRUE(text_row(f.tokenizer, "", 3).targets.empty());
}

}  // namespace
}  // namespace fst
