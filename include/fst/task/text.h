#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace fst {

/// `text` without Unicode white space at both ends. A view into it.
std::string_view trim(std::string_view text);
/// `text` without any Unicode white space.
std::string without_white_space(std::string_view text);
/// What follows the last </think>; all of `text` if there is none. A view into it.
std::string_view after_thinking(std::string_view text);
/// The contents of the last \boxed{...} whose braces are balanced; none if there is no such box. Of
/// nested boxes the innermost last one counts. Linear in the text. A view into it.
std::optional<std::string_view> last_boxed(std::string_view text);
/// `text` in double quotes, cut after `max_bytes` (never inside a UTF-8 character) with "..." to
/// show it: for messages that quote what a model wrote.
std::string in_quotes(std::string_view text, std::size_t max_bytes = 120);

/// The element that comes at `index` in a shuffle of 0 .. size - 1 decided by `key`: a bijection
/// for each key, computed without storing the order. Throws Error unless 0 <= index < size. Source:
/// Hoang, Morris and Rogaway 2012, swap-or-not shuffle.
std::int64_t shuffled(std::int64_t index, std::int64_t size, std::uint64_t key);

}  // namespace fst
