#pragma once

#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace fst {

struct ChatMessage {
  std::string role, content;
  std::optional<std::string> reasoning_content;  // Qwen3: the think block, apart from the content
};

/// Whether a rendered conversation ends with the opening of the assistant's turn.
enum class GenerationPrompt { add, omit };
/// Qwen3's `enable_thinking`: `off` puts an empty think block after the generation prompt; `on` and
/// `unset` add nothing. Templates without the switch ignore it, as the reference does.
enum class Thinking { unset, on, off };

/// The chat templates that we render; each is one function in src/model/chat.cpp.
enum class ChatStyle {
  none,            // the folder has no template
  unknown,         // a template that we do not know
  chatml,          // <|im_start|>role NL content <|im_end|> NL, for any role
  qwen3_instruct,  // the same for system, user and assistant: Qwen3-Instruct-2507
  qwen3,           // think blocks of earlier turns removed, thinking switch
};

/// A model's chat template. Loading accepts every template; only rendering refuses an unknown one.
class Chat {
 public:
  /// `jinja`: text of the template, empty if there is none; `source`: its file, for messages.
  Chat(std::string_view jinja, std::string source);
  /// chat_template.jinja, else the entry chat_template of tokenizer_config.json (where it is a list
  /// of named templates, "default"), else none. Throws InputError if a file is broken.
  static Chat load(const std::filesystem::path& folder);
  /// The same from the files' texts, empty where a file is absent; `folder` names them in messages.
  static Chat from_texts(std::string_view jinja, std::string_view tokenizer_config,
                         const std::string& folder);

  ChatStyle style() const { return style_; }
  /// The conversation as the template renders it. Throws InputError if the template is unknown or
  /// absent, `messages` is empty, or the template has no place for a role.
  std::string render(std::span<const ChatMessage> messages, GenerationPrompt generation,
                     Thinking thinking) const;

 private:
  ChatStyle style_;
  std::string source_;
};

/// Reads a JSON array of {"role", "content", "reasoning_content"?}. Throws InputError naming
/// `where` and the message for anything else: tool calls, content that is not a string, unknown
/// fields.
std::vector<ChatMessage> parse_messages(std::string_view json, const std::string& where);

/// What a Jinja template does to a plain conversation, as one line of text by which templates are
/// recognised. Dropped is what cannot change the output: comments, spacing and trimmed text
/// (transformers' settings trim_blocks and lstrip_blocks), the kind of quotes, a['b'] for a.b,
/// where constant text is cut into expressions, and branches that plain conversations never take
/// (tools, tool calls, tool answers, content that is not a string). Throws InputError naming the
/// offset if a tag or a string is not closed.
std::string template_normal_form(std::string_view jinja);

}  // namespace fst
