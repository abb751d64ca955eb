#include "fst/model/unicode.h"

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <utf8proc.h>

#include "fst/base/error.h"

namespace fst::unicode {

namespace {

constexpr std::string_view replacement = "\xEF\xBF\xBD";  // U+FFFD

enum class Status { complete, broken, cut };
struct Sequence {
  Status status;
  std::size_t length;  // of the character, or of the maximal ill-formed run
};

/// The sequence at the start of `bytes` (not empty): Unicode table 3-7.
Sequence first_sequence(std::string_view bytes) {
  const auto at = [&](std::size_t i) { return static_cast<unsigned char>(bytes[i]); };
  const unsigned char lead = at(0);
  if (lead < 0x80) return {Status::complete, 1};
  if (lead < 0xC2 || lead > 0xF4) return {Status::broken, 1};
  const std::size_t length = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  for (std::size_t i = 1; i < length; ++i) {
    if (i == bytes.size()) return {Status::cut, i};
    // The second byte alone tells overlong forms, surrogates and what lies above U+10FFFF.
    const unsigned char low = i > 1 ? 0x80 : lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
    const unsigned char high = i > 1 ? 0xBF : lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
    if (at(i) < low || at(i) > high) return {Status::broken, i};
  }
  return {Status::complete, length};
}

bool half_of_surrogate(std::string_view rest) {
  return rest.size() == 2 && rest[0] == '\xED' && static_cast<unsigned char>(rest[1]) >= 0xA0 &&
         static_cast<unsigned char>(rest[1]) <= 0xBF;
}

bool white_space(std::int32_t c) {
  return (c >= 0x9 && c <= 0xD) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F ||
         c == 0x3000;
}

std::size_t space_at(std::string_view text, std::size_t offset) {
  std::int32_t c = 0;
  const auto length =
      utf8proc_iterate(reinterpret_cast<const utf8proc_uint8_t*>(text.data()) + offset,
                       static_cast<utf8proc_ssize_t>(text.size() - offset), &c);
  return length > 0 && white_space(c) ? static_cast<std::size_t>(length) : 0;
}

void append_nfc(std::string& out, std::string_view text) {
  utf8proc_uint8_t* mapped = nullptr;
  const auto options = static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE);
  const auto length = utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                                   static_cast<utf8proc_ssize_t>(text.size()), &mapped, options);
  const std::unique_ptr<utf8proc_uint8_t, decltype(&std::free)> owner(mapped, &std::free);
  if (length < 0) throw Error(std::string("nfc: utf8proc: ") + utf8proc_errmsg(length));
  out.append(reinterpret_cast<const char*>(mapped), static_cast<std::size_t>(length));
}

}  // namespace

std::optional<std::size_t> first_ill_formed(std::string_view bytes) {
  for (std::size_t i = 0; i < bytes.size();) {
    const Sequence sequence = first_sequence(bytes.substr(i));
    if (sequence.status != Status::complete) return i;
    i += sequence.length;
  }
  return std::nullopt;
}

std::string nfc(std::string_view text) {
  // utf8proc 2.8 takes U+11A7, one below the trailing consonants of Hangul, for "no consonant" and
  // swallows it after a syllable. It composes with nothing, so the parts can be normalised apart.
  constexpr std::string_view not_a_consonant = "\xE1\x86\xA7";
  std::string out;
  for (;;) {
    const std::size_t end = text.find(not_a_consonant);
    append_nfc(out, text.substr(0, end));
    if (end == std::string_view::npos) return out;
    out += not_a_consonant;
    text.remove_prefix(end + not_a_consonant.size());
  }
}

std::size_t leading_space(std::string_view text) {
  return text.empty() ? 0 : space_at(text, 0);
}

std::size_t trailing_space(std::string_view text) {
  std::size_t start = text.size();
  while (start > 0 && (static_cast<unsigned char>(text[start - 1]) & 0xC0) == 0x80) --start;
  return start == 0 ? 0 : space_at(text, start - 1);
}

void Repair::push(std::string_view bytes, std::string& out) {
  pending_.append(bytes);
  std::string_view rest = pending_;
  while (!rest.empty() && !half_of_surrogate(rest)) {
    const Sequence sequence = first_sequence(rest);
    if (sequence.status == Status::cut) break;
    out += sequence.status == Status::complete ? rest.substr(0, sequence.length) : replacement;
    rest.remove_prefix(sequence.length);
  }
  pending_.erase(0, pending_.size() - rest.size());
}

void Repair::finish(std::string& out) {
  for (std::string_view rest = pending_; !rest.empty();) {
    out += replacement;
    rest.remove_prefix(first_sequence(rest).length);
  }
  pending_.clear();
}

}  // namespace fst::unicode
