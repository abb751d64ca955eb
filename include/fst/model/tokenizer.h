#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "fst/base/types.h"
#include "fst/model/unicode.h"

namespace fst {

struct TokenizerRules;  // src/model/tokenizer_rules.h

/// What decoding does with special tokens such as <|im_end|>. Tokens that are added but not special
/// (<think>) are text in either case.
enum class SpecialTokens { keep, skip };

/// Byte-level BPE as in Hugging Face's tokenizer.json. Supported: normaliser NFC or none;
/// pre-tokenizers Split (Isolated or Removed), Digits, ByteLevel without prefix space, and
/// sequences of them that end in ByteLevel; decoder ByteLevel. Everything else is refused by name
/// on loading. Immutable after loading, so one object serves any number of threads. Movable.
class Tokenizer {
 public:
  /// Parses the text of a tokenizer.json. Throws InputError naming `source` and the place in it.
  Tokenizer(std::string_view json, const std::string& source);
  /// Reads folder/tokenizer.json. Throws InputError.
  static Tokenizer load(const std::filesystem::path& folder);
  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;
  Tokenizer(const Tokenizer&) = delete;
  Tokenizer& operator=(const Tokenizer&) = delete;
  ~Tokenizer();

  /// Token ids of `text`. Text of added tokens becomes their ids; nothing is added at either end.
  /// Throws InputError if `text` is not UTF-8, naming the offset of the first bad byte, or if the
  /// pre-tokenizer's expression exceeds its limits on it.
  std::vector<TokenId> encode(std::string_view text) const;
  /// Text of tokens; bytes that are not UTF-8 become U+FFFD as in StreamDecoder. Throws Error for
  /// an id outside the vocabulary.
  std::string decode(std::span<const TokenId> tokens, SpecialTokens special) const;

  /// 1 + the greatest id: rows of the model from here on belong to no token.
  std::int64_t vocab_size() const;
  /// Id of the token whose bytes are `bytes` (" the", "\n", "<|im_end|>"), if there is one.
  std::optional<TokenId> find(std::string_view bytes) const;
  /// The same for a token that must exist; throws InputError naming it.
  TokenId id_of(std::string_view bytes) const;
  /// The bytes that a token stands for; not always UTF-8. Empty for an id in a gap of the
  /// vocabulary. Throws Error for an id outside it.
  const std::string& bytes_of(TokenId id) const;
  bool is_special(TokenId id) const;

 private:
  std::unique_ptr<const TokenizerRules> rules_;
};

/// Decodes a completion token by token. The chunks and the tail, joined, are Tokenizer::decode of
/// all tokens. Keeps a reference to the tokenizer.
class StreamDecoder {
 public:
  StreamDecoder(const Tokenizer& tokenizer, SpecialTokens special)
      : tokenizer_(&tokenizer), special_(special) {}
  /// The text that `token` completes: whole characters, and U+FFFD for bytes now known broken.
  std::string push(TokenId token);
  /// What is left at the end, as U+FFFD; then starts afresh.
  std::string finish();

 private:
  const Tokenizer* tokenizer_;
  SpecialTokens special_;
  unicode::Repair repair_;
};

}  // namespace fst
