#include "fst/evolve/reflection.h"

#include <fstream>
#include <sstream>

#include <gtest/gtest.h>

#include "fst/base/error.h"

namespace fst {
namespace {

ReflectionLayout shipped(const std::string& name) {
  std::ifstream in(std::string(FST_SOURCE_DIR) + "/input/reflection/" + name);
  std::ostringstream text;
  text << in.rdbuf();
  return parse_layout(text.str(), name);
}

const std::vector<Evidence> two_records{{"red d a c f", "red f c a d", "right", 1},
                                        {"blue b l a c", "blue l\na c", "want a b c l", 0}};

TEST(Reflection, WorldLayoutGivesTheChatTheBaseModelKnows) {
  const ReflectionChat chat =
      render_reflection(shipped("world.txt"), "rules\nredReverse", two_records, {});
  EXPECT_TRUE(chat.has_system);
  EXPECT_EQ(chat.system, "improve the rules");
  EXPECT_EQ(chat.user,
            "rules\nredReverse\n\nred d a c f\nred f c a d\nright\n\n"
            "blue b l a c\nblue l a c\nwant a b c l");
}

TEST(Reflection, QwenLayoutShowsPromptAndRecordsInFences) {
  const ReflectionChat chat =
      render_reflection(shipped("qwen3.txt"), "Be <side_info>.", two_records, {});
  EXPECT_FALSE(chat.has_system);
  EXPECT_NE(chat.user.find("```\nBe <side_info>.\n```"), std::string::npos);
  EXPECT_NE(chat.user.find("# Example 2\n## Inputs\nblue b l a c\n\n## Generated Outputs\nblue l\n"
                           "a c\n\n## Feedback\nwant a b c l\n\n"),
            std::string::npos);
}

TEST(Reflection, TextsAreNotSearchedForPlaceholders) {
  const ReflectionLayout layout =
      parse_layout("%% user\n<curr_param>|<side_info>\n%% record\n<question>/<answer>\n", "t");
  const ReflectionChat chat = render_reflection(layout, "<side_info><question>",
                                                {{{"<answer>", "<curr_param>", "", 0}}}, {});
  EXPECT_EQ(chat.user, "<side_info><question>|<answer>/<curr_param>");
}

TEST(Reflection, RecordsMayShowNumberAndReward) {
  const ReflectionLayout layout =
      parse_layout("%% user\n<curr_param> <side_info>\n%% record\n<number>:<reward>\n", "t");
  const std::vector<Evidence> evidence{{"", "", "", 1}, {"", "", "", 0.5}};
  EXPECT_EQ(render_reflection(layout, "p", evidence, {}).user, "p 1:1\n\n2:0.5");
}

TEST(Reflection, LongEvidenceKeepsHeadAndTail) {
  EXPECT_EQ(head_and_tail("0123456789", 0), "0123456789");
  EXPECT_EQ(head_and_tail("0123456789", 10), "0123456789");
  EXPECT_EQ(head_and_tail("abcdefghijklmnopqrstuvwxyz", 12), "abc [...] yz");
  EXPECT_EQ(head_and_tail("abcdefgh", 3), "");
  // The cuts at bytes 3 and 12 of fifteen fall into two-byte characters.
  EXPECT_EQ(head_and_tail("ééééééé!", 12), "é [...] !");
}

TEST(Reflection, BudgetAppliesToEveryTextOfARecord) {
  const ReflectionLayout layout = parse_layout(
      "%% user\n<curr_param> <side_info>\n%% record\n<question>\n<answer>\n<feedback>\n", "t");
  RenderOptions options;
  options.evidence_bytes = 11;
  const std::string text = "abcdefghijklmnop", cut = "ab [...] op";
  const ReflectionChat chat =
      render_reflection(layout, "prompt", {{{text, text, text, 0}}}, options);
  EXPECT_EQ(chat.user, "prompt " + cut + "\n" + cut + "\n" + cut);
}

TEST(Reflection, AFaultyLayoutNamesItsFile) {
  const auto message = [](std::string_view text) -> std::string {
    try {
      parse_layout(text, "mine.txt");
    } catch (const InputError& error) {
      return error.what();
    }
    return "accepted";
  };
  EXPECT_NE(message("hello").find("mine.txt: no section 'user'"), std::string::npos);
  EXPECT_NE(message("%% user\n<curr_param>").find("<side_info>"), std::string::npos);
  EXPECT_NE(message("%% user\n<side_info>").find("<curr_param>"), std::string::npos);
  EXPECT_NE(message("%% users\n").find("unknown section 'users'"), std::string::npos);
  EXPECT_NE(message("%% user\n%% user\n").find("twice"), std::string::npos);
}

TEST(Reflection, ThePromptMayStandInTheSystemMessage) {
  const ReflectionLayout layout =
      parse_layout("comment\r\n%% system\r\n<curr_param>\r\n%% user\r\n<side_info>\r\n", "t");
  EXPECT_EQ(layout.system, "<curr_param>");
  EXPECT_EQ(layout.user, "<side_info>");
}

}  // namespace
}  // namespace fst
