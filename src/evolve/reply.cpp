#include "fst/evolve/reply.h"

#include <cstddef>
#include <cstdint>

namespace fst {
namespace {

constexpr std::string_view fence = "```";

/// Bytes of the white-space character that `text` begins with; 0 if it begins with another. The
/// characters are those of Unicode with bidirectional type WS, B or S or category Zs.
std::size_t leading_space(std::string_view text) {
  if (text.empty()) return 0;
  const auto byte = [&](std::size_t i) { return static_cast<std::uint8_t>(text[i]); };
  const std::uint8_t first = byte(0);
  if (first < 0x80) {
    return first == ' ' || (first >= 0x09 && first <= 0x0d) || (first >= 0x1c && first <= 0x1f);
  }
  if (first == 0xc2 && text.size() > 1) return byte(1) == 0x85 || byte(1) == 0xa0 ? 2 : 0;
  if (first < 0xe1 || first > 0xe3 || text.size() < 3) return 0;
  const int code = (first & 0x0f) << 12 | (byte(1) & 0x3f) << 6 | (byte(2) & 0x3f);
  const bool space = code == 0x1680 || (code >= 0x2000 && code <= 0x200a) || code == 0x2028 ||
                     code == 0x2029 || code == 0x202f || code == 0x205f || code == 0x3000;
  return space ? 3 : 0;
}

std::size_t trailing_space(std::string_view text) {
  for (std::size_t bytes = 1; bytes <= 3 && bytes <= text.size(); ++bytes) {
    if (leading_space(text.substr(text.size() - bytes)) == bytes) return bytes;
  }
  return 0;
}

/// Length of the run without white space at the beginning.
std::size_t leading_word(std::string_view text) {
  std::size_t length = 0;
  while (length < text.size() && leading_space(text.substr(length)) == 0) ++length;
  return length;
}

bool newline_at(std::string_view text, std::size_t place) {
  return place < text.size() && text[place] == '\n';
}

}  // namespace

std::string_view strip(std::string_view text) {
  while (const std::size_t bytes = leading_space(text)) text.remove_prefix(bytes);
  while (const std::size_t bytes = trailing_space(text)) text.remove_suffix(bytes);
  return text;
}

std::string parse_reply(std::string_view reply) {
  std::string_view text = strip(reply);
  const std::size_t first = text.find(fence);
  if (first == std::string_view::npos) return std::string(text);
  const std::size_t begin = first + fence.size();
  const std::size_t end = text.rfind(fence);
  if (begin < end) {
    text = text.substr(begin, end - begin);
    const std::size_t tag = leading_word(text);
    if (newline_at(text, tag)) text.remove_prefix(tag + 1);
  } else if (text.starts_with(fence)) {
    text.remove_prefix(fence.size());
    const std::size_t tag = leading_word(text);
    text.remove_prefix(tag + (newline_at(text, tag) ? 1 : 0));
  } else if (text.ends_with(fence)) {
    text.remove_suffix(fence.size());
  }
  return std::string(strip(text));
}

}  // namespace fst
