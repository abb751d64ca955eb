#include "fst/model/chat.h"

#include <gtest/gtest.h>

#include "fst/base/error.h"

namespace fst {
namespace {

/// The part of Qwen3's revised template that plain conversations reach, laid out differently; the
/// published files are checked by the golden test.
constexpr const char* qwen3_revision = R"({%- if tools %}{{- 'tools' }}{%- else %}
  {%- if messages[0].role == 'system' %}
    {{- "<|im_start|>system\n" + messages[0]['content'] + "<|im_end|>\n" }}
  {%- endif %}
{%- endif %}
{%- set ns = namespace(multi_step_tool=true, last_query_index=messages|length - 1) %}
{%- for message in messages[::-1] %}
  {%- set index = (messages|length - 1) - loop.index0 %}
  {%- if ns.multi_step_tool and message.role == "user" and message.content is string and not(message.content.startswith('<tool_response>') and message.content.endswith('</tool_response>')) %}
    {%- set ns.multi_step_tool = false %}{%- set ns.last_query_index = index %}
  {%- endif %}
{%- endfor %}
{%- for message in messages %}
  {%- if message.content is string %}{%- set content = message.content %}
  {%- else %}{%- set content = '' %}{%- endif %}
  {%- if (message.role == "user") or (message.role == "system" and not loop.first) %}
    {{- '<|im_start|>' + message.role + '\n' + content + '<|im_end|>' + '\n' }}
  {%- elif message.role == "assistant" %}
    {%- set reasoning_content = '' %}
    {%- if message.reasoning_content is string %}{%- set reasoning_content = message.reasoning_content %}
    {%- else %}
      {%- if '</think>' in content %}
        {%- set reasoning_content = content.split('</think>')[0].rstrip('\n').split('<think>')[-1].lstrip('\n') %}
        {%- set content = content.split('</think>')[-1].lstrip('\n') %}
      {%- endif %}
    {%- endif %}
    {%- if loop.index0 > ns.last_query_index %}
      {%- if loop.last or (not loop.last and reasoning_content) %}
        {{- '<|im_start|>' + message.role + '\n<think>\n' + reasoning_content.strip('\n') + '\n</think>\n\n' + content.lstrip('\n') }}
      {%- else %}{{- '<|im_start|>' + message.role + '\n' + content }}{%- endif %}
    {%- else %}{{- '<|im_start|>' + message.role + '\n' + content }}{%- endif %}
    {%- if message.tool_calls %}{{- message.tool_calls }}{%- endif %}
    {{- '<|im_end|>\n' }}
  {%- elif message.role == "tool" %}{{- message.content }}{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
  {{- '<|im_start|>assistant\n' }}
  {%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\n\n</think>\n\n' }}{%- endif %}
{%- endif %})";

constexpr const char* qwen3_instruct = R"({%- if tools %}{{- 'tools' }}{%- else %}
  {%- if messages[0].role == 'system' %}
    {{- '<|im_start|>system\n' + messages[0].content + '<|im_end|>\n' }}
  {%- endif %}
{%- endif %}
{%- for message in messages %}
  {%- if message.content is string %}{%- set content = message.content %}
  {%- else %}{%- set content = '' %}{%- endif %}
  {%- if (message.role == "user") or (message.role == "system" and not loop.first) %}
    {{- '<|im_start|>' + message.role + '\n' + content + '<|im_end|>' + '\n' }}
  {%- elif message.role == "assistant" %}
    {{- '<|im_start|>' + message.role + '\n' + content }}
    {%- if message.tool_calls %}{{- message.tool_calls }}{%- endif %}
    {{- '<|im_end|>\n' }}
  {%- elif message.role == "tool" %}{{- message.content }}{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %})";

std::string refusal(const Chat& chat, const std::vector<ChatMessage>& messages) {
  try {
    return chat.render(messages, GenerationPrompt::add, Thinking::unset);
  } catch (const InputError& error) {
    return error.what();
  }
}

TEST(Chat, RecognisesChatMlHoweverItIsWritten) {
  for (const char* jinja : {
           "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + "
           "message['content'] + '<|im_end|>' + '\\n' }}{% endfor %}{% if add_generation_prompt "
           "%}{{ '<|im_start|>assistant\\n' }}{% endif %}",
           "{%- for message in messages -%}\n  {{- \"<|im_start|>\" ~ message.role ~ \"\\n\" }}\n  "
           "{{- message.content + '<|im_end|>\\n' -}}\n{%- endfor -%}\n{#- a comment %} -#}\n"
           "{%- if add_generation_prompt -%}\n{{ '<|im_start|>' + 'assistant\\n' }}\n{%- endif "
           "-%}\n",
           "{% if not add_generation_prompt is defined %}{% set add_generation_prompt = false %}{% "
           "endif %}{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
           "{{ message[\"content\"] }}<|im_end|>\n{% endfor %}\n{% if add_generation_prompt %}\n"
           "<|im_start|>assistant\n{% endif %}",
       }) {
    EXPECT_EQ(Chat(jinja, "t").style(), ChatStyle::chatml) << template_normal_form(jinja);
  }
}

TEST(Chat, RecognisesQwen3sRevisionAndItsInstructModel) {
  EXPECT_EQ(Chat(qwen3_revision, "t").style(), ChatStyle::qwen3)
      << template_normal_form(qwen3_revision);
  EXPECT_EQ(Chat(qwen3_instruct, "t").style(), ChatStyle::qwen3_instruct)
      << template_normal_form(qwen3_instruct);
}

TEST(Chat, OneChangedCharacterOfTheOutputMakesATemplateUnknown) {
  const std::string jinja = qwen3_revision;
  std::string changed = jinja;
  changed.replace(changed.find("\\n</think>\\n\\n'"), 2, "");
  EXPECT_EQ(Chat(changed, "t").style(), ChatStyle::unknown);
  changed = jinja;
  changed.replace(changed.find("is false"), 8, "is true ");
  EXPECT_EQ(Chat(changed, "t").style(), ChatStyle::unknown);
  EXPECT_EQ(Chat(jinja + "x", "t").style(), ChatStyle::unknown);
}

TEST(Chat, ATemplateNestedWithoutEndIsUnknown) {
  std::string jinja;
  for (int i = 0; i < 50'000; ++i) jinja += "{% if x %}";
  EXPECT_EQ(Chat(jinja, "t").style(), ChatStyle::unknown);
}

TEST(Chat, AnUnknownOrAbsentTemplateIsRefusedOnlyOnRendering) {
  const std::vector<ChatMessage> messages = {{"user", "hi", {}}};
  for (const char* jinja :
       {"{{ messages[0].content | upper }}", "{% if x", "{{ 'x }}", "{% if x %}", "{"}) {
    const Chat chat(jinja, "folder/chat_template.jinja");
    EXPECT_EQ(chat.style(), ChatStyle::unknown) << jinja;
    EXPECT_EQ(refusal(chat, messages).rfind("folder/chat_template.jinja: this chat template", 0),
              0u);
  }
  const Chat none("", "folder/tokenizer_config.json");
  EXPECT_EQ(none.style(), ChatStyle::none);
  EXPECT_EQ(refusal(none, messages), "folder/tokenizer_config.json: no chat template");
}

TEST(Chat, RendersTheConversationsOfTheWorld) {
  const Chat chat = Chat::load(FST_SOURCE_DIR "/input/tiny");
  ASSERT_EQ(chat.style(), ChatStyle::chatml);
  const std::vector<ChatMessage> messages = {{"system", "rules\nredReverse", {}},
                                             {"user", "red d a c f", {}}};
  const std::string text =
      "<|im_start|>system\nrules\nredReverse<|im_end|>\n<|im_start|>user\nred d a c f<|im_end|>\n";
  EXPECT_EQ(chat.render(messages, GenerationPrompt::omit, Thinking::unset), text);
  EXPECT_EQ(chat.render(messages, GenerationPrompt::add, Thinking::off),
            text + "<|im_start|>assistant\n");
}

TEST(Chat, Qwen3RefusesRolesThatItsTemplateWouldDrop) {
  const std::vector<ChatMessage> messages = {{"user", "q", {}}, {"tool", "42", {}}};
  EXPECT_NE(refusal(Chat(qwen3_revision, "t"), messages).find("\"tool\""), std::string::npos);
  EXPECT_NE(refusal(Chat(qwen3_instruct, "t"), messages).find("\"tool\""), std::string::npos);
  EXPECT_THROW(Chat(qwen3_revision, "t").render({}, GenerationPrompt::add, Thinking::unset),
               InputError);
}

TEST(Messages, AreReadAndWhatIsNotSupportedIsNamed) {
  const auto messages = parse_messages(
      R"([{"role": "user", "content": "a"},
          {"role": "assistant", "content": "", "reasoning_content": "r", "tool_calls": null}])",
      "line 3");
  ASSERT_EQ(messages.size(), 2u);
  EXPECT_EQ(messages[0].content, "a");
  EXPECT_FALSE(messages[0].reasoning_content.has_value());
  EXPECT_EQ(messages[1].reasoning_content, "r");
  const std::vector<std::pair<const char*, const char*>> cases = {
      {R"({"role": "user"})", "line 3: expected a list"},
      {R"([3])", "line 3[0]: expected an object"},
      {R"([{"role": "user"}])", "line 3[0].content: missing"},
      {R"([{"content": "x"}])", "line 3[0].role: missing"},
      {R"([{"role": "user", "content": null}])",
       "line 3[0].content: expected a string, found null"},
      {R"([{"role": "user", "content": ["x"]}])",
       "line 3[0].content: expected a string, found array"},
      {R"([{"role": "assistant", "content": "", "tool_calls": [1]}])",
       "line 3[0].tool_calls: not supported"},
      {R"([)", "line 3: not JSON"}};
  for (const auto& [json, expected] : cases) {
    try {
      parse_messages(json, "line 3");
      ADD_FAILURE() << json;
    } catch (const InputError& error) {
      EXPECT_EQ(std::string(error.what()).rfind(expected, 0), 0u) << error.what();
    }
  }
}

}  // namespace
}  // namespace fst
