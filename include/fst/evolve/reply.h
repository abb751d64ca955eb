#pragma once

#include <string>
#include <string_view>

namespace fst {

/// Without leading and trailing white space, as Python's str.strip: Unicode's, and U+001C to
/// U+001F.
std::string_view strip(std::string_view text);

/// The prompt in a reflection model's reply: what stands between the first and the last fence of
/// three backticks, without a language tag, trimmed; without two fences the whole reply, trimmed,
/// less a fence at its beginning or end. May be empty. Never throws; bytes that are not UTF-8 are
/// text. Source: the reference implementation of GEPA, quirks included.
std::string parse_reply(std::string_view reply);

}  // namespace fst
