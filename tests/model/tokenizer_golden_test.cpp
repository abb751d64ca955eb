// The real Qwen3 tokenizer against Hugging Face's tokenizers; see tests/golden/README.md.

#include <gtest/gtest.h>

#include "fst/base/error.h"
#include "fst/model/tokenizer.h"

#include "golden_json.h"

namespace fst {
namespace {

using Tokens = std::vector<TokenId>;

class TokenizerGolden : public testing::Test {
 protected:
  /// Loaded once: the file has 11 MB.
  static const Tokenizer& tokenizer() {
    static const Tokenizer loaded = Tokenizer::load(test::qwen3_tokenizer_dir());
    return loaded;
  }
  static std::vector<nlohmann::json> cases(const char* file) {
    return test::golden_lines(std::string("tokenizer/") + file);
  }
};

TEST_F(TokenizerGolden, EncodesAsTheReference) {
  for (const auto& line : cases("encode.jsonl")) {
    EXPECT_EQ(tokenizer().encode(line.at("text").get<std::string>()), line.at("ids").get<Tokens>())
        << line.at("id");
  }
}

TEST_F(TokenizerGolden, DecodesAsTheReference) {
  for (const auto& line : cases("decode.jsonl")) {
    const Tokens tokens = line.at("ids").get<Tokens>();
    EXPECT_EQ(tokenizer().decode(tokens, SpecialTokens::keep), line.at("text")) << line.at("id");
    EXPECT_EQ(tokenizer().decode(tokens, SpecialTokens::skip), line.at("text_skip_special"))
        << line.at("id");
  }
}

TEST_F(TokenizerGolden, StreamsTheChunksOfTheReference) {
  for (const auto& line : cases("decode.jsonl")) {
    StreamDecoder decoder(tokenizer(), SpecialTokens::keep);
    std::vector<std::string> chunks;
    for (const auto& token : line.at("ids")) chunks.push_back(decoder.push(token.get<TokenId>()));
    EXPECT_EQ(chunks, line.at("chunks").get<std::vector<std::string>>()) << line.at("id");
    EXPECT_EQ(decoder.finish(), line.at("tail")) << line.at("id");
  }
}

std::string bytes_of_hex(const std::string& hex) {
  std::string bytes;
  for (std::size_t i = 0; i + 1 < hex.size(); i += 2) {
    bytes += static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16));
  }
  return bytes;
}

TEST_F(TokenizerGolden, RefusesWhatIsNotUtf8NamingTheOffset) {
  for (const auto& line : cases("invalid_utf8.jsonl")) {
    const std::string expected = "offset " + line.at("bad_offset").dump();
    try {
      tokenizer().encode(bytes_of_hex(line.at("bytes_hex")));
      ADD_FAILURE() << line.at("id") << " was encoded";
    } catch (const InputError& error) {
      const std::string message = error.what();
      EXPECT_EQ(message.substr(message.size() - expected.size()), expected) << line.at("id");
    }
  }
}

}  // namespace
}  // namespace fst
