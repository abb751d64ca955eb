#include "fst/model/tokenizer.h"

#include <array>
#include <nlohmann/json.hpp>

#include <gtest/gtest.h>

#include "fst/base/error.h"

namespace fst {
namespace {

using Json = nlohmann::json;

/// How byte-level BPE writes a byte: printable Latin-1 as itself, the others from U+0100 on.
std::string character_of(int byte) {
  int code = 256;
  const auto printable = [](int b) {
    return (b >= 0x21 && b <= 0x7E) || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE;
  };
  for (int b = 0; b < byte; ++b) code += printable(b) ? 0 : 1;
  if (printable(byte)) code = byte;
  if (code < 0x80) return {static_cast<char>(code)};
  return {static_cast<char>(0xC0 | code >> 6), static_cast<char>(0x80 | (code & 0x3F))};
}

/// A vocabulary of the 256 bytes (id = byte) and `merges`, each of which appends a token.
Json make(const std::vector<std::pair<std::string, std::string>>& merges) {
  Json json = Json::parse(R"({
    "normalizer": null, "post_processor": null, "decoder": {"type": "ByteLevel"},
    "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "use_regex": false},
    "model": {"type": "BPE", "vocab": {}, "merges": []}, "added_tokens": []})");
  for (int b = 0; b < 256; ++b) json["model"]["vocab"][character_of(b)] = b;
  int next = 256;
  for (const auto& [left, right] : merges) {
    json["model"]["vocab"][left + right] = next++;
    json["model"]["merges"].push_back({left, right});
  }
  return json;
}

Tokenizer load(const Json& json) {
  return {json.dump(), "here.json"};
}

Json added(const std::string& text, int id) {
  return {{"content", text}, {"id", id}, {"special", true}};
}

/// The tokens of `text` as bytes: where merges would join over a cut, the cut shows.
std::vector<std::string> pieces(const Json& json, const std::string& text) {
  const Tokenizer tokenizer = load(json);
  std::vector<std::string> out;
  for (const TokenId id : tokenizer.encode(text)) out.push_back(tokenizer.bytes_of(id));
  return out;
}

std::string refusal(const Json& json) {
  try {
    load(json);
  } catch (const InputError& error) {
    return error.what();
  }
  return "accepted";
}

TEST(Tokenizer, MergesTheLowestRankFirstAndTheLeftmostAmongEquals) {
  const Tokenizer tokenizer = load(make({{"b", "c"}, {"a", "b"}, {"a", "a"}, {"bc", "d"}}));
  EXPECT_EQ(tokenizer.encode("abcd"), (std::vector<TokenId>{'a', 259}));
  EXPECT_EQ(tokenizer.encode("aaaaa"), (std::vector<TokenId>{258, 258, 'a'}));
  EXPECT_EQ(tokenizer.encode("aab"), (std::vector<TokenId>{'a', 257}));
  EXPECT_EQ(tokenizer.encode(""), std::vector<TokenId>{});
}

TEST(Tokenizer, AgreesWithThePlainMergeLoopOnLongWords) {
  const std::vector<std::pair<std::string, std::string>> merges = {
      {"a", "b"}, {"b", "a"}, {"ab", "ab"}, {"a", "a"}, {"ba", "ab"}, {"abab", "a"}, {"c", "ab"}};
  const Tokenizer tokenizer = load(make(merges));
  std::uint32_t state = 12345;
  for (int round = 0; round < 20; ++round) {
    std::vector<std::string> word;
    std::string text;
    for (int i = 0; i < 97; ++i) {
      state = state * 1664525u + 1013904223u;
      word.emplace_back(1, "aabbc"[(state >> 24) % 5]);
      text += word.back();
    }
    for (const auto& [left, right] : merges) {  // of one rank, all from the left; ranks ascending,
      for (std::size_t i = 0; i + 1 < word.size(); ++i) {  // since no merge makes an earlier pair
        if (word[i] != left || word[i + 1] != right) continue;
        word[i] += word[i + 1];
        word.erase(word.begin() + static_cast<std::ptrdiff_t>(i) + 1);
      }
    }
    std::vector<std::string> tokens;
    for (const TokenId id : tokenizer.encode(text)) tokens.push_back(tokenizer.bytes_of(id));
    EXPECT_EQ(tokens, word) << text;
  }
}

TEST(Tokenizer, CutsAreThoseOfThePreTokenizers) {
  const std::vector<std::pair<std::string, std::string>> merges = {
      {"x", "x"}, {"1", "1"}, {"x", "1"}, {"xx", "xx"}, {"xx", "1"}, {"xx", "11"}};
  using Strings = std::vector<std::string>;
  Json json = make(merges);
  EXPECT_EQ(pieces(json, "xx11"), (Strings{"xx11"}));
  const auto sequence = [&](const Json& first) {
    json["pre_tokenizer"] = {{"type", "Sequence"}};
    json["pre_tokenizer"]["pretokenizers"] = {
        first, {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}}};
    return json;
  };
  const auto digits = [](bool single) {
    return Json{{"type", "Digits"}, {"individual_digits", single}};
  };
  EXPECT_EQ(pieces(sequence(digits(true)), "xx11"), (Strings{"xx", "1", "1"}));
  EXPECT_EQ(pieces(sequence(digits(false)), "xx11"), (Strings{"xx", "11"}));
  const auto split = [](const char* kind, const char* pattern, const char* behavior, bool invert) {
    return Json{{"type", "Split"},
                {"pattern", {{kind, pattern}}},
                {"behavior", behavior},
                {"invert", invert}};
  };
  EXPECT_EQ(pieces(sequence(split("Regex", "x1", "Isolated", false)), "xx11"),
            (Strings{"x", "x1", "1"}));
  EXPECT_EQ(pieces(sequence(split("Regex", "x1", "Removed", false)), "xx11"), (Strings{"x", "1"}));
  EXPECT_EQ(pieces(sequence(split("Regex", "x1", "Removed", true)), "xx11"), (Strings{"x1"}));
  EXPECT_EQ(pieces(sequence(split("String", "x.", "Removed", false)), "x1x."), (Strings{"x1"}));
  EXPECT_EQ(pieces(sequence(split("Regex", "(?=1)", "Isolated", false)), "xx11"),
            (Strings{"xx", "1", "1"}));
  json["pre_tokenizer"] = {{"type", "ByteLevel"}, {"add_prefix_space", false}};
  EXPECT_EQ(pieces(json, "xx11"), (Strings{"xx", "11"})) << "ByteLevel's own expression";
}

TEST(Tokenizer, SpaceIsUnicodesWhiteSpaceInsideAndOutsideClasses) {
  Json json = make({});
  json["added_tokens"].push_back(added("|", 256));
  const auto removed = [&](const char* pattern, const std::string& text) {
    Json split = {{"type", "Split"},
                  {"pattern", {{"Regex", pattern}}},
                  {"behavior", "Removed"},
                  {"invert", false}};
    json["pre_tokenizer"] = {{"type", "Sequence"}};
    json["pre_tokenizer"]["pretokenizers"] = {
        split, {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}}};
    const Tokenizer tokenizer = load(json);
    return tokenizer.decode(tokenizer.encode(text), SpecialTokens::keep);
  };
  // NEL, no-break space, ideographic space and line separator are white space; U+180E and U+200B
  // not.
  const std::string text = "a\xC2\x85\xC2\xA0\xE3\x80\x80\xE2\x80\xA8 \xE1\xA0\x8E\xE2\x80\x8B";
  EXPECT_EQ(removed(R"(\s)", text), "a\xE1\xA0\x8E\xE2\x80\x8B");
  EXPECT_EQ(removed(R"([\s])", text), "a\xE1\xA0\x8E\xE2\x80\x8B");
  EXPECT_EQ(removed(R"([^\s])", text), "\xC2\x85\xC2\xA0\xE3\x80\x80\xE2\x80\xA8 ");
  EXPECT_EQ(removed(R"(\S+)", text), "\xC2\x85\xC2\xA0\xE3\x80\x80\xE2\x80\xA8 ");
  EXPECT_EQ(removed(R"([\S])", text), "\xC2\x85\xC2\xA0\xE3\x80\x80\xE2\x80\xA8 ");
  EXPECT_EQ(removed(R"([]\s])", "]a \\s"), "a\\s");
}

TEST(Tokenizer, AddedTokensMatchLongestFirstAndHonourTheirFlags) {
  Json json = make({{"a", "a"}});
  json["added_tokens"] = {added("<s>", 257), added("<s>>", 258), added("aa", 256)};
  json["added_tokens"].push_back(
      {{"content", "<l>"}, {"id", 259}, {"lstrip", true}, {"normalized", false}});
  json["added_tokens"].push_back(
      {{"content", "<r>"}, {"id", 260}, {"rstrip", true}, {"special", true}});
  const Tokenizer tokenizer = load(json);
  EXPECT_EQ(tokenizer.vocab_size(), 261);
  EXPECT_EQ(tokenizer.encode("<s>><s>b"), (std::vector<TokenId>{258, 257, 'b'}));
  EXPECT_EQ(tokenizer.encode("b \xC2\xA0<l> b"), (std::vector<TokenId>{'b', 259, ' ', 'b'}));
  EXPECT_EQ(tokenizer.encode("b <r> \n <l>"), (std::vector<TokenId>{'b', ' ', 260, 259}));
  EXPECT_TRUE(tokenizer.is_special(257));
  EXPECT_FALSE(tokenizer.is_special(259));
  EXPECT_EQ(tokenizer.decode(std::array<TokenId, 3>{257, 'b', 259}, SpecialTokens::skip), "b<l>");
  EXPECT_EQ(tokenizer.decode(std::array<TokenId, 3>{257, 'b', 259}, SpecialTokens::keep),
            "<s>b<l>");
  EXPECT_EQ(tokenizer.id_of("<s>"), 257);
  EXPECT_EQ(tokenizer.find("<x>"), std::nullopt);
  EXPECT_THROW(tokenizer.id_of("<x>"), InputError);
  EXPECT_THROW(tokenizer.bytes_of(261), Error);
  EXPECT_THROW(tokenizer.bytes_of(-1), Error);
}

TEST(Tokenizer, NormalisesOnlyWhenTheFileSaysSo) {
  Json json = make({});
  const std::string decomposed = "e\xCC\x81", composed = "\xC3\xA9";  // é
  const auto round_trip = [&] {
    const Tokenizer tokenizer = load(json);
    return tokenizer.decode(tokenizer.encode(decomposed), SpecialTokens::keep);
  };
  EXPECT_EQ(round_trip(), decomposed);
  json["normalizer"] = {{"type", "NFC"}};
  EXPECT_EQ(round_trip(), composed);
  json["added_tokens"].push_back({{"content", composed}, {"id", 300}, {"special", false}});
  EXPECT_EQ(load(json).encode(decomposed), std::vector<TokenId>{300});
  json["added_tokens"][0]["normalized"] = false;
  EXPECT_EQ(load(json).encode(decomposed).size(), 2u);
}

TEST(Tokenizer, LongRunsOfOneCharacterStayLinear) {
  Json json = make({{"x", "x"}, {"xx", "xx"}, {"xxxx", "xxxx"}});
  json["pre_tokenizer"] = {{"type", "ByteLevel"}, {"add_prefix_space", false}};
  const Tokenizer tokenizer = load(json);
  EXPECT_EQ(tokenizer.encode(std::string(100'001, 'x')).size(), 12'501u);
  EXPECT_EQ(tokenizer.encode(std::string(100'001, ' ')).size(), 100'001u);
}

TEST(Tokenizer, AnExpressionThatBacktracksWithoutEndIsAnError) {
  Json json = make({});
  json["pre_tokenizer"] = {{"type", "Sequence"}};
  json["pre_tokenizer"]["pretokenizers"] = {
      {{"type", "Split"}, {"pattern", {{"Regex", "(a|a)+$|(a|aa)+c"}}}, {"behavior", "Isolated"}},
      {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}}};
  try {
    load(json).encode(std::string(40, 'a') + "b");
    FAIL() << "encoded";
  } catch (const InputError& error) {
    EXPECT_NE(std::string(error.what()).find("match limit"), std::string::npos) << error.what();
  }
}

TEST(Tokenizer, HostileFilesAreRefusedWithFileAndPlace) {
  EXPECT_EQ(refusal(make({})), "accepted");
  EXPECT_EQ(refusal(make({{"a", "b"}})), "accepted");
  struct Case {
    const char* pointer;
    Json value;
    const char* expected;
  };
  const Json none(Json::value_t::discarded);  // stands for: erase the field
  const std::vector<Case> cases = {
      {"/model", none, "\"model\" is missing"},
      {"/model/vocab", none, "here.json.model: the field \"vocab\" is missing"},
      {"/model/vocab", Json::array(), "here.json.model.vocab: expected an object"},
      {"/model/vocab/a", -1, "here.json.model.vocab[\"a\"]: expected a token id"},
      {"/model/vocab/a", 1.5, "expected a token id"},
      {"/model/vocab/a", "7", "expected a token id"},
      {"/model/vocab/a", 98, "id 98 is given twice"},
      {"/model/vocab/a", std::uint64_t{1} << 63, "expected a token id"},
      {"/model/vocab/a", 1'000'000'000, "expected a token id"},
      {"/model/vocab/c", none, "no token for byte 99"},
      {"/model/vocab/", 400, "an empty token"},
      {"/model/merges", none, "\"merges\" is missing"},
      {"/model/merges", "a b", "expected an array"},
      {"/model/merges/0", "ab", "here.json.model.merges[0]: expected two tokens"},
      {"/model/merges/0", "a z z", "\"z z\" is not in the vocabulary"},
      {"/model/merges/0", {"a", "c"}, "\"ac\" is not in the vocabulary"},
      {"/model/merges/0", {"a"}, "expected a pair"},
      {"/model/merges/0", 3, "expected an array"},
      {"/model/merges/0", {"a", 3}, "merges[0][1]: expected a string"},
      {"/model/type", "Unigram", "Unigram"},
      {"/model/dropout", 0.1, "dropout: not supported"},
      {"/model/end_of_word_suffix", "</w>", "end_of_word_suffix: not supported"},
      {"/model/ignore_merges", "yes", "expected true or false"},
      {"/normalizer",
       {{"type", "NFKC"}},
       "here.json.normalizer: only NFC is supported, found NFKC"},
      {"/normalizer", 1, "here.json.normalizer: expected an object"},
      {"/pre_tokenizer", nullptr, "here.json.pre_tokenizer: expected an object"},
      {"/pre_tokenizer", {{"type", "Metaspace"}}, "Metaspace"},
      {"/pre_tokenizer", {{"type", "Digits"}}, "expected ByteLevel"},
      {"/pre_tokenizer/add_prefix_space", true, "add_prefix_space is not supported"},
      {"/pre_tokenizer",
       {{"type", "Split"}, {"pattern", {{"Regex", "("}}}, {"behavior", "Isolated"}},
       "bad expression"},
      {"/pre_tokenizer",
       {{"type", "Split"}, {"pattern", {{"Regex", "\\h"}}}, {"behavior", "Isolated"}},
       "\\h means"},
      {"/pre_tokenizer",
       {{"type", "Split"}, {"pattern", {{"Regex", "[a[b]]"}}}, {"behavior", "Isolated"}},
       "class inside"},
      {"/pre_tokenizer",
       {{"type", "Split"}, {"pattern", {{"Regex", "a"}}}, {"behavior", "Contiguous"}},
       "Contiguous"},
      {"/decoder", {{"type", "WordPiece"}}, "WordPiece"},
      {"/post_processor", {{"type", "TemplateProcessing"}}, "TemplateProcessing"},
      {"/added_tokens", {{{"content", "a"}}}, "added_tokens[0]: the field \"id\" is missing"},
      {"/added_tokens", {added("<s>", 97)}, "id 97 is given twice"},
      {"/added_tokens", {added("", 300)}, "an empty token"},
      {"/added_tokens", {{{"content", "<s>"}, {"id", 300}, {"single_word", true}}}, "single_word"},
  };
  for (const Case& c : cases) {
    Json json = make({{"a", "b"}});
    const Json::json_pointer pointer(c.pointer);
    if (c.value.is_discarded()) {
      json[pointer.parent_pointer()].erase(pointer.back());
    } else {
      json[pointer] = c.value;
    }
    const std::string message = refusal(json);
    EXPECT_EQ(message.rfind("here.json", 0), 0u) << c.pointer << ": " << message;
    EXPECT_NE(message.find(c.expected), std::string::npos) << c.pointer << ": " << message;
  }
  for (const char* text : {"", "{", "[]", "null", "\xFF", "{\"model\": 1e999}"}) {
    EXPECT_THROW(Tokenizer(text, "here.json"), InputError) << text;
  }
  std::string nested = make({}).dump();
  std::string open, close;
  for (int i = 0; i < 50'000; ++i) {
    open += R"({"type":"Sequence","normalizers":[)";
    close += "]}";
  }
  nested.replace(nested.find("null"), 4, open + close);  // "normalizer" sorts first among the nulls
  try {
    Tokenizer(nested, "here.json");
    ADD_FAILURE() << "accepted";
  } catch (const InputError& error) {
    EXPECT_NE(std::string(error.what()).find("nested too deeply"), std::string::npos);
  }
  EXPECT_THROW(Tokenizer::load("/nowhere"), InputError);
}

TEST(StreamDecoder, JoinsToTheWholeDecodingWhateverTheBytes) {
  const Tokenizer tokenizer = load(make({}));
  std::uint32_t state = 1;
  for (int round = 0; round < 200; ++round) {
    std::vector<TokenId> tokens;
    for (int i = 0; i < 17; ++i) {
      state = state * 1664525u + 1013904223u;
      // Bytes at the borders of UTF-8's table, so that runs of all kinds appear.
      constexpr std::array<TokenId, 16> bytes = {0x41, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF,
                                                 0xC2, 0xE0, 0xE1, 0xED, 0xF0, 0xF1, 0xF4, 0xFF};
      tokens.push_back(bytes[state >> 28]);
    }
    StreamDecoder decoder(tokenizer, SpecialTokens::keep);
    std::string text;
    for (const TokenId token : tokens) {
      const std::string chunk = decoder.push(token);
      EXPECT_FALSE(unicode::first_ill_formed(chunk).has_value());
      text += chunk;
    }
    text += decoder.finish();
    EXPECT_EQ(text, tokenizer.decode(tokens, SpecialTokens::keep));
  }
}

TEST(TinyTokenizer, HasTheWordsOfTheWorldAsSingleTokens) {
  const Tokenizer tokenizer = Tokenizer::load(FST_SOURCE_DIR "/input/tiny");
  EXPECT_EQ(tokenizer.vocab_size(), 390);
  std::vector<std::string> words = {"rules", "want",      "right", "system",
                                    "user",  "assistant", "\n",    "\n\n"};
  for (char letter = 'a'; letter <= 'l'; ++letter) words.push_back(std::string(" ") + letter);
  for (const char* tag : {"red", "blue", "green", "gold"}) {
    words.emplace_back(tag);
    for (const char* name :
         {"Reverse", "Sort", "Left", "Tail", "Next", "Right", "Back", "Fall", "Trim", "Odds"}) {
      words.push_back(std::string(tag) + name);
    }
  }
  EXPECT_EQ(words.size(), 8u + 12 + 4 + 40);
  for (const std::string& word : words) EXPECT_EQ(tokenizer.encode(word).size(), 1u) << word;
  for (const char* text : {"<|endoftext|>", "<|im_start|>", "<|im_end|>"}) {
    EXPECT_EQ(tokenizer.encode(text).size(), 1u);
    EXPECT_TRUE(tokenizer.is_special(tokenizer.id_of(text)));
  }
}

TEST(TinyTokenizer, RoundTripsEveryText) {
  const Tokenizer tokenizer = Tokenizer::load(FST_SOURCE_DIR "/input/tiny");
  for (const std::string text :
       {"", "rules\nredReverse\ngoldTail", "red d a c f\nred f c a d\nright\n\nblue b l a c",
        "Anything else: \xE4\xBD\xA0\xE5\xA5\xBD, 3.14\t\r\n  x",
        "<|im_start|>user\nred a b c<|im_end|>\n"}) {
    const std::vector<TokenId> tokens = tokenizer.encode(text);
    EXPECT_EQ(tokenizer.decode(tokens, SpecialTokens::keep), text);
    for (const TokenId token : tokens) EXPECT_LT(token, tokenizer.vocab_size());
  }
}

}  // namespace
}  // namespace fst
