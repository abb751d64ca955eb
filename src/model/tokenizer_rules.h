#pragma once

// What a tokenizer.json says, ready to run. Private to the tokenizer's sources.

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "fst/base/types.h"

struct pcre2_real_code_8;
struct pcre2_real_match_data_8;
struct pcre2_real_match_context_8;

namespace fst {

/// A regular expression of a tokenizer.json: Oniguruma's syntax as far as PCRE2 reads it alike,
/// with \s and \S as Unicode's White_Space.
class Regex {
 public:
  /// What matching writes; one per thread of use.
  class Scratch {
   public:
    Scratch();

   private:
    friend class Regex;
    struct Free {
      void operator()(pcre2_real_match_data_8* p) const;
      void operator()(pcre2_real_match_context_8* p) const;
    };
    std::unique_ptr<pcre2_real_match_data_8, Free> data_;
    std::unique_ptr<pcre2_real_match_context_8, Free> context_;
  };
  struct Match {
    bool found;
    std::size_t begin, end;
  };

  /// Throws InputError naming `place` if the expression is wrong or means another thing in PCRE2.
  Regex(const std::string& pattern, const std::string& place);
  /// The first match in `text` (well-formed UTF-8) at or after `from`; both bounds are the end of
  /// `text` if there is none. Throws InputError naming the offset if backtracking exceeds its
  /// limits.
  Match search(std::string_view text, std::size_t from, Scratch& scratch) const;

 private:
  struct Free {
    void operator()(pcre2_real_code_8* p) const;
  };
  std::unique_ptr<pcre2_real_code_8, Free> code_;
  std::string place_;
};

/// One pre-tokenizer: cuts a piece into the matches of an expression and the gaps between them.
struct SplitStep {
  Regex regex;
  bool keep_matches, keep_gaps;
};

struct AddedToken {
  std::string text;
  TokenId id = 0;
  bool special = false, strip_left = false, strip_right = false, normalized = false;
};

/// Finds added tokens in text: leftmost first, then longest.
class AddedTokens {
 public:
  void add(AddedToken token);
  bool empty() const { return tokens_.empty(); }
  /// The longest token that starts at `offset`, or nullptr.
  const AddedToken* at(std::string_view text, std::size_t offset) const;

 private:
  std::vector<AddedToken> tokens_;
  std::array<std::vector<std::size_t>, 256> by_first_byte_;  // longest first
};

/// Which neighbours merge, and how early. An open hash table: read a few times per byte of text.
class MergeTable {
 public:
  static constexpr std::uint32_t none = ~std::uint32_t{0};

  explicit MergeTable(std::size_t expected);
  /// Adds the merge of the next rank; a pair that was there already takes the new rank.
  void add(TokenId left, TokenId right, TokenId merged);
  std::uint32_t rank(TokenId left, TokenId right) const;
  TokenId merged(std::uint32_t rank) const { return merged_[rank]; }

 private:
  struct Slot {
    std::uint64_t pair;
    std::uint32_t rank;
  };
  std::size_t slot_of(std::uint64_t pair) const;
  std::vector<Slot> slots_;
  std::vector<TokenId> merged_;
};

struct TokenizerRules {
  std::string source;
  std::vector<std::string> bytes;                     // [vocab_size]
  std::vector<bool> special;                          // [vocab_size]
  std::unordered_map<std::string_view, TokenId> ids;  // views into `bytes`
  std::array<TokenId, 256> byte_tokens{};
  MergeTable merges{0};
  bool whole_words_first = false;  // the field ignore_merges
  bool normalise = false;
  AddedTokens added_raw, added_normalised;
  std::vector<SplitStep> steps;
};

std::unique_ptr<const TokenizerRules> parse_tokenizer(std::string_view text,
                                                      const std::string& source);

}  // namespace fst
