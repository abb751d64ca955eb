#include "fst/model/chat.h"

#include <array>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>

#include "fst/base/error.h"
#include "fst/base/random.h"

namespace fst {

namespace {

using Json = nlohmann::json;

constexpr std::string_view start = "<|im_start|>", stop = "<|im_end|>\n";

// Normal forms of the templates that we render. Plain ChatML in full, the longer ones as hashes.
constexpr std::string_view chatml_form =
    "{%for message in messages%}<|im_start|>{message.role}\n{message.content}<|im_end|>\n{%endfor%}"
    "{%if add_generation_prompt%}<|im_start|>assistant\n{%endif%}";
// Many ChatML templates begin with a default for the switch.
constexpr std::string_view default_generation_prompt =
    "{%if not add_generation_prompt is defined%}{%set add_generation_prompt = false%}{%endif%}";
struct KnownForm {
  std::uint64_t hash;
  ChatStyle style;
};
constexpr std::array<KnownForm, 3> known_forms = {{
    {0x4095f3ce3ceead47, ChatStyle::qwen3},  // Qwen3 as published in April 2025
    {0x190d53b460ba6186,
     ChatStyle::qwen3},  // its revision, which asks whether a content is a string
    {0xf46ecaf54bb120a7, ChatStyle::qwen3_instruct},  // Qwen3-Instruct-2507
}};

ChatStyle recognise(std::string_view jinja) {
  if (jinja.empty()) return ChatStyle::none;
  std::string form;
  try {
    form = template_normal_form(jinja);
  } catch (const InputError&) {
    return ChatStyle::unknown;  // not Jinja as we know it: refused on rendering, like any other
  }
  if (form.rfind(default_generation_prompt, 0) == 0)
    form.erase(0, default_generation_prompt.size());
  if (form == chatml_form) return ChatStyle::chatml;
  for (const KnownForm& known : known_forms) {
    if (hash_text(form) == known.hash) return known.style;
  }
  return ChatStyle::unknown;
}

std::string_view without_leading_newlines(std::string_view text) {
  const std::size_t first = text.find_first_not_of('\n');
  return first == std::string_view::npos ? std::string_view() : text.substr(first);
}
std::string_view without_trailing_newlines(std::string_view text) {
  return text.substr(0, text.find_last_not_of('\n') + 1);
}

void append_turn(std::string& out, std::string_view role, std::string_view content) {
  out.append(start).append(role).append("\n").append(content).append(stop);
}

/// An assistant's turn apart: reasoning from its own field or from a think block in the content.
struct Reply {
  std::string_view reasoning, content;
};
Reply reply_of(const ChatMessage& message) {
  constexpr std::string_view open = "<think>", close = "</think>";
  const std::string_view text = message.content;
  if (message.reasoning_content) return {*message.reasoning_content, text};
  const std::size_t first = text.find(close);
  if (first == std::string_view::npos) return {"", text};
  std::string_view reasoning = without_trailing_newlines(text.substr(0, first));
  const std::size_t opened = reasoning.rfind(open);
  if (opened != std::string_view::npos) reasoning.remove_prefix(opened + open.size());
  return {without_leading_newlines(reasoning),
          without_leading_newlines(text.substr(text.rfind(close) + close.size()))};
}

bool is_tool_answer(std::string_view content) {
  constexpr std::string_view open = "<tool_response>", close = "</tool_response>";
  return content.size() >= close.size() && content.substr(0, open.size()) == open &&
         content.substr(content.size() - close.size()) == close;
}

void check_roles(std::span<const ChatMessage> messages) {
  for (std::size_t i = 0; i < messages.size(); ++i) {
    const std::string& role = messages[i].role;
    if (role == "system" || role == "user" || role == "assistant") continue;
    throw InputError("message " + std::to_string(i) + ": Qwen3's chat templates are rendered for " +
                     "the roles system, user and assistant, not for \"" + role + "\"");
  }
}

/// Qwen3: reasoning is shown only in the turns after the last question of the user.
std::string render_qwen3(std::span<const ChatMessage> messages) {
  std::size_t last_question = messages.size() - 1;
  for (std::size_t i = messages.size(); i-- > 0;) {
    if (messages[i].role == "user" && !is_tool_answer(messages[i].content)) {
      last_question = i;
      break;
    }
  }
  std::string out;
  for (std::size_t i = 0; i < messages.size(); ++i) {
    const ChatMessage& message = messages[i];
    if (message.role == "user" || message.role == "system") {
      append_turn(out, message.role, message.content);
      continue;
    }
    const Reply reply = reply_of(message);
    if (i > last_question && (i + 1 == messages.size() || !reply.reasoning.empty())) {
      const auto reasoning = without_leading_newlines(without_trailing_newlines(reply.reasoning));
      out.append(start).append("assistant\n<think>\n").append(reasoning).append("\n</think>\n\n");
      out.append(without_leading_newlines(reply.content)).append(stop);
    } else {
      append_turn(out, message.role, reply.content);
    }
  }
  return out;
}

std::string text_of(const std::filesystem::path& file) {
  std::ifstream stream(file, std::ios::binary);
  if (!stream) throw InputError(file.string() + ": cannot be read");
  return {std::istreambuf_iterator<char>(stream), {}};
}

Json json_of(std::string_view text, const std::string& source) {
  try {
    return Json::parse(text);
  } catch (const Json::exception& error) {
    throw InputError(source + ": not JSON: " + error.what());
  }
}

/// The field chat_template: one template, or a list of named ones of which we take "default".
std::string template_of(const Json& config, const std::string& source) {
  if (!config.is_object()) throw InputError(source + ": expected an object");
  if (!config.contains("chat_template") || config["chat_template"].is_null()) return "";
  const Json& field = config["chat_template"];
  if (field.is_string()) return field.get<std::string>();
  if (!field.is_array()) throw InputError(source + ".chat_template: expected a string or a list");
  for (const Json& entry : field) {
    if (entry.is_object() && entry.value("name", Json()) == "default" &&
        entry.value("template", Json()).is_string()) {
      return entry["template"].get<std::string>();
    }
  }
  throw InputError(source + ".chat_template: no template named \"default\"");
}

ChatMessage message_of(const Json& entry, const std::string& place) {
  if (!entry.is_object()) throw InputError(place + ": expected an object with role and content");
  ChatMessage message;
  for (const auto& [name, value] : entry.items()) {
    if (value.is_null() && name != "role" && name != "content") continue;
    if (name != "role" && name != "content" && name != "reasoning_content") {
      throw InputError(place + "." + name + ": not supported; a message has role, content and " +
                       "reasoning_content");
    }
    if (!value.is_string()) {
      throw InputError(place + "." + name + ": expected a string, found " + value.type_name());
    }
    if (name == "role") message.role = value.get<std::string>();
    if (name == "content") message.content = value.get<std::string>();
    if (name == "reasoning_content") message.reasoning_content = value.get<std::string>();
  }
  if (message.role.empty()) throw InputError(place + ".role: missing or empty");
  if (!entry.contains("content")) throw InputError(place + ".content: missing");
  return message;
}

}  // namespace

Chat::Chat(std::string_view jinja, std::string source)
    : style_(recognise(jinja)), source_(std::move(source)) {}

Chat Chat::load(const std::filesystem::path& folder) {
  const auto text = [&](const char* name) {
    const std::filesystem::path file = folder / name;
    return std::filesystem::exists(file) ? text_of(file) : std::string();
  };
  return from_texts(text("chat_template.jinja"), text("tokenizer_config.json"), folder.string());
}

Chat Chat::from_texts(std::string_view jinja, std::string_view tokenizer_config,
                      const std::string& folder) {
  if (!jinja.empty()) return {jinja, folder + "/chat_template.jinja"};
  const std::string source = folder + "/tokenizer_config.json";
  if (tokenizer_config.empty()) return {"", source};
  return {template_of(json_of(tokenizer_config, source), source), source};
}

std::string Chat::render(std::span<const ChatMessage> messages, GenerationPrompt generation,
                         Thinking thinking) const {
  if (style_ == ChatStyle::none) throw InputError(source_ + ": no chat template");
  if (style_ == ChatStyle::unknown) {
    throw InputError(source_ + ": this chat template is not supported; known are plain ChatML, " +
                     "Qwen3 and Qwen3-Instruct-2507");
  }
  if (messages.empty()) throw InputError("messages: expected at least one message");
  if (style_ != ChatStyle::chatml) check_roles(messages);
  std::string out;
  if (style_ == ChatStyle::qwen3) out = render_qwen3(messages);
  if (style_ != ChatStyle::qwen3) {
    for (const ChatMessage& message : messages) append_turn(out, message.role, message.content);
  }
  if (generation == GenerationPrompt::omit) return out;
  out.append(start).append("assistant\n");
  if (style_ == ChatStyle::qwen3 && thinking == Thinking::off) out += "<think>\n\n</think>\n\n";
  return out;
}

std::vector<ChatMessage> parse_messages(std::string_view json, const std::string& where) {
  const Json list = json_of(json, where);
  if (!list.is_array()) throw InputError(where + ": expected a list of messages");
  std::vector<ChatMessage> messages;
  for (std::size_t i = 0; i < list.size(); ++i) {
    messages.push_back(message_of(list[i], where + "[" + std::to_string(i) + "]"));
  }
  return messages;
}

}  // namespace fst
