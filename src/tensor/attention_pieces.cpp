#include "attention_pieces.h"

#include <algorithm>
#include <bit>

namespace fst {

namespace {

constexpr std::int64_t tile = 128;  // rows of a tile of cuDNN's kernels

std::int64_t longest_of(std::span<const std::int32_t> first_rows, std::int64_t first,
                        std::int64_t sequences) {
  std::int64_t longest = 0;
  for (auto s = static_cast<std::size_t>(first); s < static_cast<std::size_t>(first + sequences);
       ++s) {
    longest = std::max<std::int64_t>(longest, first_rows[s + 1] - first_rows[s]);
  }
  return longest;
}

/// The next smaller number that divides `heads`.
std::int64_t fewer(std::int64_t heads, std::int64_t now) {
  do --now;
  while (heads % now != 0);
  return now;
}

}  // namespace

std::int64_t plan_rows(std::int64_t longest) {
  std::int64_t step = tile;
  while (8 * step <= longest) step *= 2;
  return (longest + step - 1) / step * step;
}

std::vector<AttentionPiece> attention_pieces(std::span<const std::int32_t> first_rows,
                                             std::int64_t kv_heads, std::int64_t pair_bytes,
                                             std::int64_t room) {
  const auto all = static_cast<std::int64_t>(first_rows.size()) - 1;
  std::vector<AttentionPiece> pieces;
  for (std::int64_t first = 0; first < all;) {
    auto sequences =
        static_cast<std::int64_t>(std::bit_floor(static_cast<std::uint64_t>(all - first)));
    std::int64_t rows = 0, heads = kv_heads;
    const auto fits = [&] {
      rows = plan_rows(longest_of(first_rows, first, sequences));
      return sequences * heads * rows * rows <= room / pair_bytes;
    };
    while (!fits() && sequences > 1) sequences /= 2;
    while (!fits() && heads > 1) heads = fewer(kv_heads, heads);
    for (std::int64_t head = 0; head < kv_heads; head += heads) {
      pieces.push_back({first, sequences, rows, head, heads});
    }
    first += sequences;
  }
  return pieces;
}

}  // namespace fst
