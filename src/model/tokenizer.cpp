#include "fst/model/tokenizer.h"

#include <algorithm>
#include <fstream>
#include <functional>
#include <iterator>
#include <limits>

#include "fst/base/error.h"

#include "tokenizer_rules.h"

namespace fst {

namespace {

/// Everything an encoding needs besides the rules; its memory is reused from word to word.
class Encoder {
 public:
  explicit Encoder(const TokenizerRules& rules) : rules_(rules) {}

  std::vector<TokenId> encode(std::string_view text) {
    cut_added(text, rules_.added_raw, [this](std::string_view piece) {
      // Every character below U+0300 (lead bytes below 0xCC) is in NFC with all its neighbours.
      const bool is_nfc = std::all_of(piece.begin(), piece.end(),
                                      [](char c) { return static_cast<unsigned char>(c) < 0xCC; });
      if (is_nfc || !rules_.normalise) return cut_normalised(piece);
      cut_normalised(unicode::nfc(piece));
    });
    return std::move(tokens_);
  }

 private:
  /// A token of a word in the making; `rank` is that of its merge with the next one.
  struct Symbol {
    TokenId id;
    std::uint32_t rank, previous, next;
  };
  static constexpr std::uint32_t end = ~std::uint32_t{0};

  void cut_normalised(std::string_view text) {
    cut_added(text, rules_.added_normalised, [this](std::string_view piece) { split(piece, 0); });
  }

  /// Emits the added tokens of `text` and hands the pieces between them to `inner`.
  template <class Inner>
  void cut_added(std::string_view text, const AddedTokens& added, Inner&& inner) {
    std::size_t start = 0;
    for (std::size_t i = 0; i < text.size() && !added.empty();) {
      const AddedToken* token = added.at(text, i);
      if (token == nullptr) {
        ++i;
        continue;
      }
      std::size_t stop = i + token->text.size();
      std::string_view before = text.substr(start, i - start);
      while (token->strip_left && unicode::trailing_space(before) > 0) {
        before.remove_suffix(unicode::trailing_space(before));
      }
      while (token->strip_right && unicode::leading_space(text.substr(stop)) > 0) {
        stop += unicode::leading_space(text.substr(stop));
      }
      if (!before.empty()) inner(before);
      tokens_.push_back(token->id);
      i = start = stop;
    }
    if (start < text.size()) inner(text.substr(start));
  }

  /// Applies the pre-tokenizers from `step` on to one piece.
  void split(std::string_view piece, std::size_t step) {
    if (piece.empty()) return;
    if (step == rules_.steps.size()) return merge(piece);
    const SplitStep& rule = rules_.steps[step];
    std::size_t done = 0;
    for (std::size_t from = 0; from <= piece.size();) {
      const Regex::Match match = rule.regex.search(piece, from, scratch_);
      if (rule.keep_gaps) split(piece.substr(done, match.begin - done), step + 1);
      if (rule.keep_matches) split(piece.substr(match.begin, match.end - match.begin), step + 1);
      done = match.end;
      if (!match.found) break;
      from = match.begin == match.end ? next_character(piece, match.end) : match.end;
    }
  }

  /// An empty match cuts there, and the search goes on one character behind it.
  static std::size_t next_character(std::string_view text, std::size_t i) {
    ++i;
    while (i < text.size() && (static_cast<unsigned char>(text[i]) & 0xC0) == 0x80) ++i;
    return i;
  }

  /// Byte-pair encoding of one word: the merge of lowest rank first, leftmost first among equals.
  void merge(std::string_view word) {
    if (rules_.whole_words_first) {
      const auto known = rules_.ids.find(word);
      if (known != rules_.ids.end()) return tokens_.push_back(known->second);
    }
    const auto length = static_cast<std::uint32_t>(word.size());
    symbols_.resize(length);
    queue_.clear();
    for (std::uint32_t i = 0; i < length; ++i) {
      const TokenId id = rules_.byte_tokens[static_cast<unsigned char>(word[i])];
      symbols_[i] = {id, MergeTable::none, i - 1, i + 1 == length ? end : i + 1};
    }
    for (std::uint32_t i = 0; i + 1 < length; ++i) rank_pair(i);
    while (!queue_.empty()) {
      std::pop_heap(queue_.begin(), queue_.end(), std::greater<>());
      const auto rank = static_cast<std::uint32_t>(queue_.back() >> 32);
      const auto left = static_cast<std::uint32_t>(queue_.back());
      queue_.pop_back();
      if (symbols_[left].rank == rank) join(left);  // else a neighbour has changed since
    }
    for (std::uint32_t i = 0; i != end; i = symbols_[i].next) tokens_.push_back(symbols_[i].id);
  }

  void rank_pair(std::uint32_t left) {
    Symbol& symbol = symbols_[left];
    symbol.rank = symbol.next == end ? MergeTable::none
                                     : rules_.merges.rank(symbol.id, symbols_[symbol.next].id);
    if (symbol.rank == MergeTable::none) return;
    queue_.push_back(std::uint64_t{symbol.rank} << 32 | left);
    std::push_heap(queue_.begin(), queue_.end(), std::greater<>());
  }

  void join(std::uint32_t left) {
    Symbol& symbol = symbols_[left];
    Symbol& right = symbols_[symbol.next];
    symbol.id = rules_.merges.merged(symbol.rank);
    symbol.next = right.next;
    right.rank = MergeTable::none;  // gone: its entries in the queue are stale
    if (symbol.next != end) symbols_[symbol.next].previous = left;
    rank_pair(left);
    if (symbol.previous != end) rank_pair(symbol.previous);
  }

  const TokenizerRules& rules_;
  Regex::Scratch scratch_;
  std::vector<TokenId> tokens_;
  std::vector<Symbol> symbols_;
  std::vector<std::uint64_t> queue_;  // heap of rank << 32 | position
};

}  // namespace

Tokenizer::Tokenizer(std::string_view json, const std::string& source)
    : rules_(parse_tokenizer(json, source)) {}
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;
Tokenizer::~Tokenizer() = default;

Tokenizer Tokenizer::load(const std::filesystem::path& folder) {
  const std::filesystem::path file = folder / "tokenizer.json";
  std::ifstream stream(file, std::ios::binary);
  if (!stream) throw InputError(file.string() + ": cannot be read; a tokenizer.json is needed");
  const std::string text{std::istreambuf_iterator<char>(stream), {}};
  return {text, file.string()};
}

std::vector<TokenId> Tokenizer::encode(std::string_view text) const {
  if (const auto offset = unicode::first_ill_formed(text)) {
    throw InputError("text is not UTF-8: ill-formed sequence at byte offset " +
                     std::to_string(*offset));
  }
  if (text.size() >= std::size_t{std::numeric_limits<std::int32_t>::max()}) {
    throw InputError("text of " + std::to_string(text.size()) + " bytes: the limit is 2^31 - 2");
  }
  return Encoder(*rules_).encode(text);
}

std::string Tokenizer::decode(std::span<const TokenId> tokens, SpecialTokens special) const {
  std::string text;
  unicode::Repair repair;
  for (const TokenId token : tokens) {
    if (special == SpecialTokens::skip && is_special(token)) continue;
    repair.push(bytes_of(token), text);
  }
  repair.finish(text);
  return text;
}

std::int64_t Tokenizer::vocab_size() const {
  return static_cast<std::int64_t>(rules_->bytes.size());
}

std::optional<TokenId> Tokenizer::find(std::string_view bytes) const {
  const auto known = rules_->ids.find(bytes);
  if (known == rules_->ids.end()) return std::nullopt;
  return known->second;
}

TokenId Tokenizer::id_of(std::string_view bytes) const {
  const auto id = find(bytes);
  if (!id) throw InputError(rules_->source + ": no token \"" + std::string(bytes) + "\"");
  return *id;
}

const std::string& Tokenizer::bytes_of(TokenId id) const {
  if (id < 0 || id >= vocab_size()) {
    throw Error(rules_->source + ": token " + std::to_string(id) + " is not in [0, " +
                std::to_string(vocab_size()) + ")");
  }
  return rules_->bytes[static_cast<std::size_t>(id)];
}

bool Tokenizer::is_special(TokenId id) const {
  return id >= 0 && id < vocab_size() && rules_->special[static_cast<std::size_t>(id)];
}

std::string StreamDecoder::push(TokenId token) {
  std::string chunk;
  const std::string& bytes = tokenizer_->bytes_of(token);
  if (special_ == SpecialTokens::skip && tokenizer_->is_special(token)) return chunk;
  repair_.push(bytes, chunk);
  return chunk;
}

std::string StreamDecoder::finish() {
  std::string tail;
  repair_.finish(tail);
  return tail;
}

}  // namespace fst
