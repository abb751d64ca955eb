// Mistakes in JSON lines, and outputs that cannot be written.

#include "bad_case.h"

namespace fst::testing {
namespace {

using Words = std::vector<std::string>;

constexpr const char* good_tokens = R"({"id": "a", "tokens": [1, 2, 3]})";
constexpr rlim_t small_files = 100;         // bytes; less than any output here
constexpr rlim_t medium_files = 5'000'000;  // MPI itself makes files of a few megabytes

Words words_of(const std::string& verb, const Scene& scene, const std::string& in,
               const std::string& out) {
  if (verb == "verify") return {"verify", "--task", "exact", "--in", in, "--out", out};
  const std::string name = verb == "score" ? "--tokens" : verb == "generate" ? "--prompts" : "--in";
  return {verb, "--model", scene.model().string(), name, in, "--out", out};
}
/// A good line, then `line`.
std::function<Words(const Scene&)> line(const std::string& verb, const std::string& line) {
  return [=](const Scene& scene) {
    const std::string good =
        verb == "verify" ? R"({"id": "a", "completion": "1", "reference": "1"})" : good_tokens;
    return words_of(verb, scene, scene.file("in.jsonl", good + "\n" + line + "\n"), scene.out());
  };
}
std::function<Words(const Scene&)> score(const std::string& tokens) {
  return line("score", R"({"id": "b", "tokens": )" + tokens + "}");
}
std::function<Words(const Scene&)> output(const std::string& verb, const std::string& out) {
  return [=](const Scene& scene) {
    const std::string text =
        verb == "verify" ? R"({"id": "a", "completion": "1", "reference": "1"})" : good_tokens;
    return words_of(verb, scene, scene.file("in.jsonl", text), out.empty() ? scene.out() : out);
  };
}
std::string many_tokens(int count) {
  std::string list = "[1";
  for (int i = 1; i < count; ++i) list += ",1";
  return list + "]";
}

/// One line with an id of six million letters, which is copied to the output.
std::function<Words(const Scene&)> long_id(const std::string& verb) {
  return [=](const Scene& scene) {
    const std::string id(6'000'000, 'x');
    const std::string text =
        R"({"id": ")" + id + R"(", )" +
        (verb == "verify" ? R"("completion": "1", "reference": "1"})" : R"("tokens": [1, 2, 3]})");
    return words_of(verb, scene, scene.file("in.jsonl", text), scene.out());
  };
}
/// Logits of many tokens.
std::function<Words(const Scene&)> long_output(const std::string& verb) {
  return [=](const Scene& scene) {
    std::string text;
    for (int i = 0; i < 60; ++i) text += R"({"id": "a", "tokens": )" + many_tokens(60) + "}\n";
    Words words = words_of(verb, scene, scene.file("in.jsonl", text), scene.out());
    words.push_back("--logits");
    return words;
  };
}

class BadInput : public ::testing::TestWithParam<BadCase> {};
TEST_P(BadInput, IsRefusedWithFileAndLine) {
  expect_refused(GetParam());
}

const std::vector<BadCase> line_cases = {
    {"MissingFile",
     2,
     {"no such file"},
     [](const Scene& s) { return words_of("score", s, s.path("none"), s.out()); }},
    {"FolderAsInput",
     2,
     {"a folder"},
     [](const Scene& s) { return words_of("score", s, s.model().string(), s.out()); }},
    {"EmptyFile",
     2,
     {"holds no line"},
     [](const Scene& s) { return words_of("score", s, s.file("in", "\n \n"), s.out()); }},
    {"NotJson", 2, {"in.jsonl:2", "not JSON"}, line("score", "tokens 1 2 3")},
    {"TornLine", 2, {"in.jsonl:2", "not JSON"}, line("score", R"({"id": "b", "tok)")},
    {"ListInsteadOfObject",
     2,
     {"in.jsonl:2", "expected a JSON object, found array"},
     line("score", "[1, 2]")},
    {"NoId", 2, {"in.jsonl:2", "\"id\" is missing"}, line("score", R"({"tokens": [1]})")},
    {"NumberAsId",
     2,
     {"in.jsonl:2", "\"id\": expected a string, found number"},
     line("score", R"({"id": 3, "tokens": [1]})")},
    {"ZeroByteInId",
     2,
     {"in.jsonl:2", "zero byte"},
     line("score", R"({"id": "a\u0000b", "tokens": [1]})")},
    {"NoTokens", 2, {"in.jsonl:2", "\"tokens\" is missing"}, line("score", R"({"id": "b"})")},
    {"NullTokens", 2, {"in.jsonl:2", "\"tokens\" is missing"}, score("null")},
    {"TextAsTokens",
     2,
     {"in.jsonl:2", "expected a list of token ids, found string"},
     score(R"("1 2")")},
    {"NoTokenAtAll", 2, {"in.jsonl:2", "at least one token"}, score("[]")},
    {"TokenBeyondTheModel", 2, {"in.jsonl:2", "[1] is 397", "from 0 to 396"}, score("[1, 397]")},
    {"NegativeToken", 2, {"in.jsonl:2", "[0] is -1"}, score("[-1]")},
    {"FractionAsToken", 2, {"in.jsonl:2", "[0] is 1.5"}, score("[1.5]")},
    {"HugeToken",
     2,
     {"in.jsonl:2", "[0] is 18446744073709551615"},
     score("[18446744073709551615]")},
    {"NumberBeyondDouble", 2, {"in.jsonl:2", "not JSON"}, score("[1e999]")},
    {"BooleanAsToken", 2, {"in.jsonl:2", "[0] is true"}, score("[true]")},
    {"TooLong", 2, {"in.jsonl:2", "65 tokens", "at most 64"}, score(many_tokens(65))},
    {"MemberTwice",
     2,
     {"in.jsonl:2", "\"tokens\" is given twice"},
     line("score", R"({"id": "b", "tokens": [1], "tokens": [2]})")},
    {"NotUtf8",
     2,
     {"in.jsonl:2", "not UTF-8 at byte 8"},
     line("score", "{\"id\": \"\xff\", \"tokens\": [1]}")},
    {"TooDeep",
     2,
     {"in.jsonl:2", "levels"},
     score(std::string(200000, '[') + std::string(200000, ']'))},
    {"NoPrompt",
     2,
     {"in.jsonl:2", "\"tokens\" or \"text\" or \"messages\""},
     line("generate", R"({"id": "b"})")},
    {"TwoPrompts",
     2,
     {"in.jsonl:2", "expected one of them"},
     line("generate", R"({"id": "b", "text": "x", "tokens": [1]})")},
    {"EmptyPrompt",
     2,
     {"in.jsonl:2", "the prompt is empty"},
     line("generate", R"({"id": "b", "text": ""})")},
    {"PromptWithoutRoom",
     2,
     {"in.jsonl:2", "64 tokens", "one of them new"},
     line("generate", R"({"id": "b", "tokens": )" + many_tokens(64) + "}")},
    {"MessagesNotAList",
     2,
     {"in.jsonl:2", "messages", "list"},
     line("generate", R"({"id": "b", "messages": {"role": "user", "content": "x"}})")},
    {"NoMessage",
     2,
     {"in.jsonl:2", "at least one message"},
     line("generate", R"({"id": "b", "messages": []})")},
    {"MessageWithoutRole",
     2,
     {"in.jsonl:2", "messages[0].role"},
     line("generate", R"({"id": "b", "messages": [{"content": "x"}]})")},
    {"MessageWithoutContent",
     2,
     {"in.jsonl:2", "messages[0].content"},
     line("tokenize", R"({"id": "b", "messages": [{"role": "user"}]})")},
    {"ContentNotAText",
     2,
     {"in.jsonl:2", "messages[1].content", "expected a string"},
     line("tokenize", R"({"id": "b", "messages": [{"role": "user", "content": "x"},)"
                      R"( {"role": "assistant", "content": 3}]})")},
    {"ThinkingNotAFlag",
     2,
     {"in.jsonl:2", "enable_thinking", "true or false"},
     line("generate", R"({"id": "b", "messages": [{"role": "user", "content": "x"}],)"
                      R"( "enable_thinking": 1})")},
    {"TokenBeyondTheTokenizer",
     2,
     {"in.jsonl:2", "[0] is 396"},
     line("tokenize", R"({"id": "b", "tokens": [396]})")},
    {"LoneSurrogate",
     2,
     {"in.jsonl:2", "not JSON"},
     line("tokenize", R"({"id": "b", "text": "\ud800"})")},
    {"NoReference",
     2,
     {"in.jsonl:2", "\"reference\" is missing"},
     line("verify", R"({"id": "b", "completion": "1"})")},
    {"NumberAsCompletion",
     2,
     {"in.jsonl:2", "\"completion\": expected a string"},
     line("verify", R"({"id": "b", "completion": 1, "reference": "1"})")},
    {"NumberAsProblem",
     2,
     {"in.jsonl:2", "\"problem\": expected a string"},
     line("verify", R"({"id": "b", "completion": "1", "reference": "1", "problem": 3})")},
};
INSTANTIATE_TEST_SUITE_P(Lines, BadInput, ::testing::ValuesIn(line_cases), name_of_case);

const std::vector<BadCase> output_cases = {
    {"OutputInNoFolder",
     2,
     {"no/such/folder", "does not exist"},
     output("score", "no/such/folder/out.h5")},
    {"FolderAsOutput",
     2,
     {"a folder"},
     [](const Scene& s) {
       return words_of("tokenize", s, s.file("in.jsonl", good_tokens), s.model().string());
     }},
    {"DeviceAsOutput", 2, {"/dev/full", "not a regular file"}, output("verify", "/dev/full")},
    {"LogitsWithoutSpace", 1, {"rank 0", "ulimit -f"}, long_output("score"), {0, medium_files}},
    {"ScoreOnAFullDisk", 1, {"rank 0", "HDF5"}, long_id("score"), {0, medium_files}},
    {"GenerateOnAFullDisk", 1, {"rank 0", "out"}, long_id("generate"), {0, medium_files}},
    {"TokenizeOnAFullDisk", 1, {"rank 0", "out"}, long_id("tokenize"), {0, small_files}},
    {"VerifyOnAFullDisk", 1, {"rank 0", "out"}, long_id("verify"), {0, small_files}},
    {"ExportOnAFullDisk",
     1,
     {"rank 0"},
     [](const Scene& s) {
       return Words{"export", "--model", s.model().string(), "--out", s.out()};
     },
     {0, small_files}},
};
INSTANTIATE_TEST_SUITE_P(Outputs, BadInput, ::testing::ValuesIn(output_cases), name_of_case);

}  // namespace
}  // namespace fst::testing
