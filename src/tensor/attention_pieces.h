#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace fst {

/// Sequences and KV heads of a packed batch that one plan computes together.
struct AttentionPiece {
  std::int64_t first = 0, sequences = 0;  // a power of two of them
  std::int64_t rows = 0;                  // at least the longest's; see plan_rows()
  std::int64_t first_kv_head = 0, kv_heads = 0;

  bool operator==(const AttentionPiece&) const = default;
};

/// Rows that a plan is made for: `longest` rounded up to a multiple of 128, and so that there are
/// four sizes from one power of two to the next.
std::int64_t plan_rows(std::int64_t longest);

/// Cuts a batch into pieces of few different shapes. A piece takes `pair_bytes` bytes for each of
/// its sequences, KV heads and pairs of rows: at most `room` together, unless one sequence and one
/// KV head alone take more.
std::vector<AttentionPiece> attention_pieces(std::span<const std::int32_t> first_rows,
                                             std::int64_t kv_heads, std::int64_t pair_bytes,
                                             std::int64_t room);

}  // namespace fst
