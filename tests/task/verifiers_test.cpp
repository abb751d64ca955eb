#include "fst/task/verifiers.h"

#include <string>

#include <gtest/gtest.h>

#include "fst/base/error.h"
#include "fst/task/task.h"

namespace fst {
namespace {

Verdict judge(AnswerVerifier verifier, const std::string& reference, const std::string& text) {
  return verify_answer(verifier, {"p", "question", reference, ""}, {text, true});
}

TEST(ExactVerifier, ComparesTrimmedTextAfterTheThinking) {
  EXPECT_EQ(judge(AnswerVerifier::exact, "a b", " a b\n").reward, 1.0f);
  EXPECT_EQ(judge(AnswerVerifier::exact, "a b", "<think>c</think>\n\na b").reward, 1.0f);
  EXPECT_EQ(judge(AnswerVerifier::exact, "a b", "a  b").reward, 0.0f);
  EXPECT_EQ(judge(AnswerVerifier::exact, "a b", "A b").reward, 0.0f);
}

TEST(ExactVerifier, SaysWhatWasExpectedAndWhatWasGiven) {
  const Verdict verdict = judge(AnswerVerifier::exact, "seven", "six");
  EXPECT_EQ(verdict.status, VerdictStatus::ok);
  EXPECT_NE(verdict.feedback.find("seven"), std::string::npos);
  EXPECT_NE(verdict.feedback.find("six"), std::string::npos);
}

TEST(LetterVerifier, TellsAWrongLetterFromNoLetter) {
  EXPECT_EQ(judge(AnswerVerifier::letter, "b", "<answer>(B)</answer>").reward, 1.0f);
  EXPECT_EQ(judge(AnswerVerifier::letter, "B", "<answer>C</answer>").status, VerdictStatus::ok);
  EXPECT_EQ(judge(AnswerVerifier::letter, "B", "B").status, VerdictStatus::unparsable);
  EXPECT_EQ(judge(AnswerVerifier::letter, "B", "B").reward, 0.0f);
}

TEST(LetterVerifier, KnowsMoreOptionsWhenAskedTo) {
  EXPECT_EQ(extract_letter("<answer>E</answer>", 5), 'E');
  EXPECT_EQ(extract_letter("<answer>F</answer>", 5), std::nullopt);
}

TEST(LetterVerifier, WantsMatchingBracketsAndASpaceBeforeFurtherText) {
  EXPECT_EQ(extract_letter("<answer>(B]</answer>"), std::nullopt);
  EXPECT_EQ(extract_letter("<answer>B]</answer>"), 'B');
  EXPECT_EQ(extract_letter("<answer>B:five</answer>"), std::nullopt);
  EXPECT_EQ(extract_letter("<answer>B:\nfive</answer>"), 'B');
}

TEST(JsonVerifier, TellsAWrongValueFromNoJson) {
  EXPECT_EQ(judge(AnswerVerifier::json, "[1, 2]", "[1,2.0]").reward, 1.0f);
  EXPECT_EQ(judge(AnswerVerifier::json, "[1, 2]", "[1,3]").status, VerdictStatus::ok);
  EXPECT_EQ(judge(AnswerVerifier::json, "[1, 2]", "one, two").status, VerdictStatus::unparsable);
}

TEST(JsonVerifier, LooksAfterTheThinkingOnly) {
  EXPECT_EQ(judge(AnswerVerifier::json, "{}", "<think>{\"a\": 1}</think> {}").reward, 1.0f);
}

TEST(JsonEqual, ComparesIntegersOfAnySizeExactly) {
  EXPECT_FALSE(json_equal("123456789012345678901234567890", "123456789012345678901234567891"));
  EXPECT_TRUE(json_equal("123456789012345678901234567890", "123456789012345678901234567890"));
  EXPECT_FALSE(json_equal("9007199254740993", "9007199254740992"));
  EXPECT_TRUE(json_equal("1e2", "100"));
}

TEST(JsonEqual, KeepsKindsApart) {
  EXPECT_FALSE(json_equal("true", "1"));
  EXPECT_FALSE(json_equal("\"true\"", "true"));
  EXPECT_FALSE(json_equal("null", "0"));
  EXPECT_FALSE(json_equal("[]", "{}"));
  EXPECT_FALSE(json_equal("\"1\"", "1"));
}

TEST(JsonEqual, LetsTheLastOfEqualKeysCountAtEveryLevel) {
  EXPECT_TRUE(json_equal(R"({"b":0,"a":{"x":1,"x":[2]},"b":3})", R"({"a":{"x":[2]},"b":3})"));
  EXPECT_FALSE(json_equal(R"({"a":1,"a":2})", R"({"a":1})"));
}

std::string nested(std::size_t levels) {
  return std::string(levels, '[') + std::string(levels, ']');
}

TEST(JsonEqual, BoundsTheDepthInsteadOfTheStack) {
  EXPECT_TRUE(json_equal(nested(json_max_depth), nested(json_max_depth)));
  EXPECT_FALSE(is_json(nested(json_max_depth + 1)));
  const std::string hostile = std::string(300'000, '[') + std::string(300'000, '{');
  EXPECT_FALSE(json_equal(hostile, "[]"));
  EXPECT_FALSE(json_equal(std::string(300'000, '{') + std::string(300'000, '}'), "{}"));
}

TEST(JsonEqual, RefusesWhatIsNotJsonWithoutThrowing) {
  for (const char* text : {"NaN", "Infinity", "-Infinity", "1e999", "01", "{'a': 1}", "[1,]", "",
                           "\xff\xfe", "\"\xc3\"", "} {", "{", "\"\\ud800\""}) {
    EXPECT_FALSE(is_json_answer(text)) << text;
    EXPECT_FALSE(json_equal(text, text)) << text;
  }
}

TEST(References, AreCheckedBeforeAnythingIsJudged) {
  EXPECT_EQ(judge(AnswerVerifier::letter, "E", "<answer>A</answer>").status, VerdictStatus::error);
  EXPECT_EQ(judge(AnswerVerifier::json, "{", "{").status, VerdictStatus::error);
  EXPECT_EQ(judge(AnswerVerifier::json, "{", "{").reward, 0.0f);
  EXPECT_EQ(reference_fault(AnswerVerifier::exact, ""), "");
}

TEST(VerifyByName, JudgesByEachVerifierThatIsBuilt) {
  EXPECT_EQ(verify_by_name("world", "red a b c", "red c b a", "red c b a").reward, 1.0f);
  EXPECT_EQ(verify_by_name("world", "", "red c b a", "red c b").feedback, "want c b a");
  EXPECT_EQ(verify_by_name("star_graph", "", "7,5,6", "\\boxed{7, 5, 6}").reward, 1.0f);
  EXPECT_EQ(verify_by_name("exact", "", "x", " x ").reward, 1.0f);
  EXPECT_EQ(verify_by_name("letter", "", "A", "<answer>a</answer>").reward, 1.0f);
  EXPECT_EQ(verify_by_name("json", "", "{\"a\":1}", "so {\"a\": 1}.").reward, 1.0f);
}

std::string message_of_name(const std::string& name) {
  try {
    verify_by_name(name, "", "a", "a");
  } catch (const InputError& error) {
    return error.what();
  }
  return "no InputError";
}

TEST(VerifyByName, NamesTheNearestVerifierForAWrongName) {
  EXPECT_NE(message_of_name("leter").find("nearest is letter"), std::string::npos);
  EXPECT_NE(message_of_name("jsonn").find("nearest is json"), std::string::npos);
}

TEST(VerifyByName, RefusesVerifiersThatAreNotBuilt) {
  for (const char* name : {"math", "retrieval", "program"}) {
    EXPECT_NE(message_of_name(name).find("not built yet"), std::string::npos) << name;
  }
}

TEST(VerdictStatusNames, AreThoseOfTheCommandLine) {
  EXPECT_EQ(to_string(VerdictStatus::ok), "ok");
  EXPECT_EQ(to_string(VerdictStatus::unparsable), "unparsable");
  EXPECT_EQ(to_string(VerdictStatus::timeout), "timeout");
  EXPECT_EQ(to_string(VerdictStatus::error), "error");
}

}  // namespace
}  // namespace fst
