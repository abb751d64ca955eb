#define PCRE2_CODE_UNIT_WIDTH 8
#include <algorithm>
#include <array>
#include <pcre2.h>

#include "fst/base/error.h"

#include "tokenizer_rules.h"

namespace fst {

namespace {

// White_Space of Unicode and its complement; PCRE2's own \s also has U+180E.
constexpr const char* space_ranges =
    R"(\x{9}-\x{d}\x{20}\x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f})"
    R"(\x{3000})";
constexpr const char* other_ranges =
    R"(\x{0}-\x{8}\x{e}-\x{1f}\x{21}-\x{84}\x{86}-\x{9f}\x{a1}-\x{167f}\x{1681}-\x{1fff})"
    R"(\x{200b}-\x{2027}\x{202a}-\x{202e}\x{2030}-\x{205e}\x{2060}-\x{2fff}\x{3001}-\x{10ffff})";

std::string message_of(int code) {
  std::array<PCRE2_UCHAR, 256> text{};
  pcre2_get_error_message(code, text.data(), text.size());
  return reinterpret_cast<const char*>(text.data());
}

[[noreturn]] void refuse(const std::string& place, const std::string& what) {
  throw InputError(place + ": " + what + " means different things in Oniguruma and PCRE2");
}

/// The pattern for PCRE2. Refuses by name what the two read differently.
std::string translate(const std::string& pattern, const std::string& place) {
  std::string out;
  bool in_class = false;
  std::size_t class_start = 0;  // where a ']' is still an ordinary character
  for (std::size_t i = 0; i < pattern.size(); ++i) {
    const char c = pattern[i];
    const char next = i + 1 < pattern.size() ? pattern[i + 1] : '\0';
    if (c == '\\' && next != '\0') {
      ++i;
      if (next == 'h' || next == 'H') refuse(place, std::string("\\") + next);
      if (next == 's' || next == 'S') {
        const std::string ranges = next == 's' ? space_ranges : other_ranges;
        out += in_class ? ranges : "[" + ranges + "]";
      } else {
        out += {c, next};
      }
      continue;
    }
    if (in_class && c == '[') refuse(place, "a class inside a class");
    if (in_class && c == '&' && next == '&') refuse(place, "&& in a class");
    if (!in_class && c == '[') {
      in_class = true;
      class_start = next == '^' ? i + 2 : i + 1;
    } else if (in_class && c == ']' && i != class_start) {
      in_class = false;
    }
    out += c;
  }
  return out;
}

// Backtracking steps allowed per search: PCRE2's default and a few per byte, so that a long run of
// one kind of character, which takes a step or two per byte, never reaches it.
constexpr std::size_t match_steps = 10'000'000, match_steps_per_byte = 16;

}  // namespace

void Regex::Free::operator()(pcre2_code* p) const {
  pcre2_code_free(p);
}
void Regex::Scratch::Free::operator()(pcre2_match_data* p) const {
  pcre2_match_data_free(p);
}
void Regex::Scratch::Free::operator()(pcre2_match_context* p) const {
  pcre2_match_context_free(p);
}

Regex::Scratch::Scratch()
    : data_(pcre2_match_data_create(1, nullptr)), context_(pcre2_match_context_create(nullptr)) {
  if (!data_ || !context_) throw Error("tokenizer: PCRE2 has no memory for matching");
}

Regex::Regex(const std::string& pattern, const std::string& place) : place_(place) {
  const std::string translated = translate(pattern, place);
  int error = 0;
  PCRE2_SIZE offset = 0;
  code_.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(translated.data()), translated.size(),
                            PCRE2_UTF | PCRE2_UCP, &error, &offset, nullptr));
  if (!code_) throw InputError(place + ": bad expression " + pattern + ": " + message_of(error));
  // Without a compiler for this machine the interpreter gives the same matches.
  const int jit = pcre2_jit_compile(code_.get(), PCRE2_JIT_COMPLETE);
  if (jit != 0 && jit != PCRE2_ERROR_JIT_BADOPTION) {
    throw Error(place + ": PCRE2's compiler: " + message_of(jit));
  }
}

Regex::Match Regex::search(std::string_view text, std::size_t from, Scratch& scratch) const {
  const std::size_t steps = match_steps + match_steps_per_byte * text.size();
  pcre2_set_match_limit(scratch.context_.get(),
                        static_cast<std::uint32_t>(std::min<std::size_t>(steps, 0xFFFFFFFFu)));
  const auto match = [&](std::uint32_t options) {
    return pcre2_match(code_.get(), reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), from,
                       options | PCRE2_NO_UTF_CHECK, scratch.data_.get(), scratch.context_.get());
  };
  int result = match(0);
  if (result == PCRE2_ERROR_JIT_STACKLIMIT) result = match(PCRE2_NO_JIT);
  if (result == PCRE2_ERROR_NOMATCH) return {false, text.size(), text.size()};
  if (result < 0) {
    throw InputError(place_ + ": the expression fails on a text of " + std::to_string(text.size()) +
                     " bytes, from offset " + std::to_string(from) + ": " + message_of(result));
  }
  const PCRE2_SIZE* bounds = pcre2_get_ovector_pointer(scratch.data_.get());
  return {true, bounds[0], bounds[1]};
}

}  // namespace fst
