#include "fst/base/nearest.h"

#include <algorithm>
#include <cctype>
#include <cstddef>
#include <vector>

#include "fst/base/error.h"

namespace fst {

namespace {

constexpr int edit_cost = 2;  // a change of case costs 1

int change_cost(char a, char b) {
  if (a == b) return 0;
  const auto lower = [](char c) { return std::tolower(static_cast<unsigned char>(c)); };
  return lower(a) == lower(b) ? 1 : edit_cost;
}

// Levenshtein's distance, one row of the table at a time.
int edit_distance(std::string_view a, std::string_view b) {
  std::vector<int> row(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) row[j] = edit_cost * static_cast<int>(j);
  for (std::size_t i = 1; i <= a.size(); ++i) {
    int diagonal = row[0];
    row[0] = edit_cost * static_cast<int>(i);
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const int above = row[j];
      row[j] = std::min(
          {above + edit_cost, row[j - 1] + edit_cost, diagonal + change_cost(a[i - 1], b[j - 1])});
      diagonal = above;
    }
  }
  return row[b.size()];
}

}  // namespace

std::string_view nearest(std::string_view word, std::span<const std::string_view> known) {
  if (known.empty()) throw Error("nearest: expected at least one known word, found none");
  return *std::ranges::min_element(
      known, {}, [word](std::string_view candidate) { return edit_distance(word, candidate); });
}

std::string nearest(std::string_view word, std::span<const std::string> known) {
  const std::vector<std::string_view> views(known.begin(), known.end());
  return std::string(nearest(word, std::span(views)));
}

}  // namespace fst
