#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace fst {

/// One question with its gold answer. A value: equal ids of one task mean equal contents.
struct Problem {
  std::string id;        ///< unique within its task, the same on every rank and after every restart
  std::string question;  ///< the user turn
  std::string reference;  ///< the gold answer, in the form its verifier reads
  std::string system;     ///< the data set's own system text; mostly empty

  bool operator==(const Problem&) const = default;
};

/// One turn of a conversation, before the chat template.
struct ChatTurn {
  std::string role;  ///< "system", "user" or "assistant"
  std::string content;

  bool operator==(const ChatTurn&) const = default;
};

/// How judging ended. Only `ok` says something about the answer itself; the others are counted on
/// their own instead of hiding as reward 0.
enum class VerdictStatus : std::uint8_t {
  ok = 0,          ///< an answer was found and compared
  unparsable = 1,  ///< the completion holds no answer in the expected form; reward 0
  timeout = 2,     ///< the step budget ran out; reward 0
  error = 3,  ///< the problem itself cannot be judged (for example a broken reference); reward 0
};

/// What the verifier says about one completion.
struct Verdict {
  float reward = 0.0f;  ///< in [0, 1]
  VerdictStatus status = VerdictStatus::ok;
  std::string feedback;  ///< words for the reflector; holds the gold answer where the task says so
};

/// A finished draw: its decoded text without special tokens, and whether a stop token ended it
/// within the token limit. `text` is borrowed for the call.
struct Completed {
  std::string_view text;
  bool stopped = true;
};

/// "ok", "unparsable", "timeout" or "error".
std::string_view to_string(VerdictStatus status);

}  // namespace fst
