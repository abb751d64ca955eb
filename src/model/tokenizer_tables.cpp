#include <algorithm>
#include <bit>

#include "tokenizer_rules.h"

namespace fst {

void AddedTokens::add(AddedToken token) {
  auto& list = by_first_byte_[static_cast<unsigned char>(token.text[0])];
  const auto shorter = std::find_if(list.begin(), list.end(), [&](std::size_t i) {
    return tokens_[i].text.size() < token.text.size();
  });
  list.insert(shorter, tokens_.size());
  tokens_.push_back(std::move(token));
}

const AddedToken* AddedTokens::at(std::string_view text, std::size_t offset) const {
  for (const std::size_t i : by_first_byte_[static_cast<unsigned char>(text[offset])]) {
    if (text.compare(offset, tokens_[i].text.size(), tokens_[i].text) == 0) return &tokens_[i];
  }
  return nullptr;
}

namespace {
std::uint64_t pair_of(TokenId left, TokenId right) {
  return static_cast<std::uint64_t>(left) << 32 | static_cast<std::uint32_t>(right);
}
}  // namespace

MergeTable::MergeTable(std::size_t expected)
    : slots_(std::bit_ceil(2 * expected + 2), Slot{0, none}) {
  merged_.reserve(expected);
}

std::size_t MergeTable::slot_of(std::uint64_t pair) const {
  const std::size_t mask = slots_.size() - 1;
  // Fibonacci hashing: the high half of the product depends on all bits of the pair.
  std::size_t i = static_cast<std::size_t>((pair * 0x9E3779B97F4A7C15ULL) >> 32) & mask;
  while (slots_[i].rank != none && slots_[i].pair != pair) i = (i + 1) & mask;
  return i;
}

void MergeTable::add(TokenId left, TokenId right, TokenId merged) {
  const std::uint64_t pair = pair_of(left, right);
  slots_[slot_of(pair)] = {pair, static_cast<std::uint32_t>(merged_.size())};
  merged_.push_back(merged);
}

std::uint32_t MergeTable::rank(TokenId left, TokenId right) const {
  return slots_[slot_of(pair_of(left, right))].rank;
}

}  // namespace fst
