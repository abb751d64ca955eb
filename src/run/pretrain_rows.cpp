#include "fst/base/error.h"
#include "fst/run/pretrain.h"

namespace fst {

TrainRow chat_row(const Tokenizer& tokenizer, const Chat& chat,
                  const std::vector<ChatMessage>& messages, const std::string& where) {
  TrainRow row;
  const TokenId end = tokenizer.id_of("<|im_end|>");
  const auto append = [&](const std::string& text) {
    const auto tokens = tokenizer.encode(text);
    row.tokens.insert(row.tokens.end(), tokens.begin(), tokens.end());
  };
  std::string shown;  // what the model has been shown so far
  for (std::size_t i = 0; i < messages.size(); ++i) {
    if (messages[i].role != "assistant") continue;
    const std::span<const ChatMessage> before(messages.data(), i), through(messages.data(), i + 1);
    const std::string question = chat.render(before, GenerationPrompt::add, Thinking::unset);
    const std::string whole = chat.render(through, GenerationPrompt::omit, Thinking::unset);
    if (question.rfind(shown, 0) != 0 || whole.rfind(question, 0) != 0) {
      throw InputError(where + ": the chat template rewrites earlier turns (message " +
                       std::to_string(i) + "); give conversations of one reply each");
    }
    append(question.substr(shown.size()));
    const std::size_t begin = row.tokens.size();
    append(whole.substr(question.size()));
    std::size_t last = row.tokens.size();
    while (last > begin && row.tokens[last - 1] != end) --last;  // not the newline after the end
    for (std::size_t t = begin; t < last; ++t) row.targets.push_back(static_cast<std::int32_t>(t));
    shown = whole;
  }
  if (row.targets.empty()) throw InputError(where + ": no assistant message to learn from");
  return row;
}

TrainRow text_row(const Tokenizer& tokenizer, const std::string& text, std::int64_t limit) {
  TrainRow row;
  row.tokens = tokenizer.encode(text);
  if (static_cast<std::int64_t>(row.tokens.size()) > limit) {
    row.tokens.resize(static_cast<std::size_t>(limit));
  }
  for (std::size_t t = 1; t < row.tokens.size(); ++t)
    row.targets.push_back(static_cast<std::int32_t>(t));
  return row;
}

}  // namespace fst
