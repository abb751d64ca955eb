#pragma once

#include <span>
#include <string>
#include <string_view>

namespace fst {

/// The entry of `known` with the smallest edit distance to `word` (the first one on ties; case
/// counts half), for messages such as "did you mean ...". `known` must not be empty.
std::string_view nearest(std::string_view word, std::span<const std::string_view> known);
std::string nearest(std::string_view word, std::span<const std::string> known);

}  // namespace fst
