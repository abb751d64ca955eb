#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

/// The little Unicode that a tokenizer needs.
namespace fst::unicode {

/// Offset of the first byte of the first ill-formed UTF-8 sequence, or nothing. Well-formed is
/// Unicode table 3-7: no overlong forms, no surrogates, nothing above U+10FFFF.
std::optional<std::size_t> first_ill_formed(std::string_view bytes);
/// Normalisation form C (utf8proc). `text` is well-formed.
std::string nfc(std::string_view text);
/// Length in bytes of the White_Space character at the start of `text` (well-formed), or 0.
std::size_t leading_space(std::string_view text);
/// The same at the end.
std::size_t trailing_space(std::string_view text);

/// Turns a stream of bytes into well-formed UTF-8: whole characters as soon as they are complete,
/// each maximal ill-formed run as one U+FFFD as soon as it is known to be broken (Unicode 15,
/// section 3.9, "U+FFFD substitution of maximal subparts"). A surrogate half is known only at its
/// third byte, as in the reference (Python's incremental decoder).
class Repair {
 public:
  /// Appends to `out` what `bytes` completes.
  void push(std::string_view bytes, std::string& out);
  /// Appends U+FFFD for what is left, and starts afresh.
  void finish(std::string& out);

 private:
  std::string pending_;  // the beginning of a character: at most three bytes
};

}  // namespace fst::unicode
