#include "fst/task/text.h"

#include <algorithm>
#include <bit>
#include <utility>
#include <vector>

#include "fst/base/error.h"
#include "fst/base/random.h"

namespace fst {

namespace {

// Bytes of the white space character that `text` starts with, 0 if it starts with none. The set is
// Unicode's White_Space property.
std::size_t white_space_bytes(std::string_view text) {
  const auto byte = [text](std::size_t i) {
    return i < text.size() ? static_cast<unsigned char>(text[i]) : 0u;
  };
  const unsigned a = byte(0), b = byte(1), c = byte(2);
  if (a == ' ' || (a >= '\t' && a <= '\r')) return 1;
  if (a == 0xC2 && (b == 0x85 || b == 0xA0)) return 2;  // next line, no-break space
  if (a == 0xE1 && b == 0x9A && c == 0x80) return 3;    // ogham space
  if (a == 0xE2 && b == 0x80 && ((c >= 0x80 && c <= 0x8A) || c == 0xA8 || c == 0xA9 || c == 0xAF)) {
    return 3;  // en quad .. hair space, line and paragraph separator, narrow no-break space
  }
  if (a == 0xE2 && b == 0x81 && c == 0x9F) return 3;  // mathematical space
  if (a == 0xE3 && b == 0x80 && c == 0x80) return 3;  // ideographic space
  return 0;
}

// Bytes of the white space character that `text` ends with.
std::size_t trailing_white_space_bytes(std::string_view text) {
  for (std::size_t bytes = 1; bytes <= std::min<std::size_t>(3, text.size()); ++bytes) {
    if (white_space_bytes(text.substr(text.size() - bytes)) == bytes) return bytes;
  }
  return 0;
}

}  // namespace

std::string_view trim(std::string_view text) {
  while (const std::size_t bytes = white_space_bytes(text)) text.remove_prefix(bytes);
  while (const std::size_t bytes = trailing_white_space_bytes(text)) text.remove_suffix(bytes);
  return text;
}

std::string without_white_space(std::string_view text) {
  std::string kept;
  while (!text.empty()) {
    const std::size_t bytes = white_space_bytes(text);
    if (bytes == 0) kept.push_back(text.front());
    text.remove_prefix(std::max<std::size_t>(bytes, 1));
  }
  return kept;
}

std::string_view after_thinking(std::string_view text) {
  constexpr std::string_view end_tag = "</think>";
  const std::size_t at = text.rfind(end_tag);
  return at == std::string_view::npos ? text : text.substr(at + end_tag.size());
}

std::optional<std::string_view> last_boxed(std::string_view text) {
  constexpr std::string_view opening = "\\boxed{";
  struct Brace {
    std::size_t content;
    bool box;
  };
  std::vector<Brace> open;
  std::optional<std::pair<std::size_t, std::size_t>> last;  // content begin, end
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '{') {
      open.push_back({i + 1, text.substr(0, i + 1).ends_with(opening)});
    } else if (text[i] == '}' && !open.empty()) {
      const Brace brace = open.back();
      open.pop_back();
      if (brace.box && (!last || brace.content > last->first)) last = {brace.content, i};
    }
  }
  if (!last) return std::nullopt;
  return text.substr(last->first, last->second - last->first);
}

std::string in_quotes(std::string_view text, std::size_t max_bytes) {
  const bool cut = text.size() > max_bytes;
  std::size_t end = cut ? max_bytes : text.size();
  while (cut && end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;
  std::string out(1, '"');
  out.append(text.substr(0, end));
  out.append(cut ? "...\"" : "\"");
  return out;
}

std::int64_t shuffled(std::int64_t index, std::int64_t size, std::uint64_t key) {
  if (index < 0 || index >= size) {
    throw Error("shuffled: expected an index in [0, " + std::to_string(size) + "), found " +
                std::to_string(index));
  }
  // Each round pairs x with mirror - x and swaps the pair or not by a hash that both share. About
  // 6 log2(size) rounds are near uniform; the constant serves small sizes.
  const auto n = static_cast<std::uint64_t>(size);
  const auto rounds = static_cast<std::uint64_t>(32 + 8 * std::bit_width(n));
  auto x = static_cast<std::uint64_t>(index);
  for (std::uint64_t round = 0; round < rounds; ++round) {
    const std::uint64_t mirror = stream_key(key, Purpose::problem_stream, {round}) % n;
    const std::uint64_t partner = mirror >= x ? mirror - x : mirror + n - x;
    const std::uint64_t larger = std::max(x, partner);
    if (stream_key(key, Purpose::problem_stream, {round, larger}) & 1) x = partner;
  }
  return static_cast<std::int64_t>(x);
}

}  // namespace fst
