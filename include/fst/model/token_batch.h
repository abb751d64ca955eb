#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "fst/base/types.h"
#include "fst/tensor/ops.h"
#include "fst/tensor/parcel.h"

namespace fst {

/// Rows of one forward call, packed without padding; views.
struct TokenBatch {
  Tensor tokens;     // i32 [T]
  Tensor positions;  // i32 [T]
  ops::AttentionBatch attention;
  // Host memory, [S + 1]: where the sequences begin; backward needs it.
  std::span<const std::int32_t> first_rows;
};

/// Whole sequences packed for scoring or training: context 0, and KV blocks given out in order from
/// block 0. Owns the memory, reuses it from call to call; to a GPU the arrays travel in one copy.
class PackedSequences {
 public:
  explicit PackedSequences(const Device& device) : parcel_(device) {}

  /// Room for that many tokens and sequences of up to `longest` tokens.
  void reserve(std::int64_t tokens, std::int64_t sequences, std::int64_t longest);
  /// Throws Error for an empty list or an empty sequence. The batch is valid until the next call.
  const TokenBatch& pack(std::span<const std::span<const TokenId>> sequences);
  const TokenBatch& pack(const std::vector<std::vector<TokenId>>& sequences);
  const TokenBatch& batch() const { return batch_; }

  std::int64_t tokens() const { return batch_.tokens.dim(0); }
  std::int64_t sequences() const { return batch_.attention.context.dim(0); }
  /// Row of the first token of sequence s.
  std::int64_t first_row(std::int64_t s) const { return first_rows_[static_cast<std::size_t>(s)]; }
  /// KV blocks the batch needs.
  std::int64_t blocks() const { return blocks_; }

 private:
  Parcel parcel_;
  std::vector<std::int32_t> first_rows_;  // [sequences + 1], also on the device
  std::int64_t blocks_ = 0;
  TokenBatch batch_;
};

}  // namespace fst
