#include "fst/run/conversation.h"

#include <vector>

namespace fst {

std::string rendered(const Record& line, const Chat& chat, GenerationPrompt generation) {
  Thinking thinking = Thinking::unset;
  if (const auto enabled = line.flag("enable_thinking")) {
    thinking = *enabled ? Thinking::on : Thinking::off;
  }
  return in_line(line, [&] {
    return chat.render(parse_messages(line.json("messages"), "messages"), generation, thinking);
  });
}

Thinking thinking_of(const std::string& mode) {
  if (mode == "think") return Thinking::on;
  return mode == "no_think" ? Thinking::off : Thinking::unset;
}

std::string problem_prompt(const Chat& chat, const std::string& prompt, const Problem& problem,
                           Thinking thinking) {
  std::string system = prompt;
  if (!problem.system.empty()) system += (system.empty() ? "" : "\n\n") + problem.system;
  std::vector<ChatMessage> messages;
  if (!system.empty()) messages.push_back({"system", system, {}});
  messages.push_back({"user", problem.question, {}});
  return chat.render(messages, GenerationPrompt::add, thinking);
}

}  // namespace fst
