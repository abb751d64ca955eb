#include "fst/model/token_batch.h"

#include <algorithm>

#include "fst/base/error.h"
#include "fst/model/kv_cache.h"

namespace fst {

namespace {

struct Sizes {
  std::int64_t tokens = 0, blocks = 0, longest = 0;
};

Sizes sizes_of(std::span<const std::span<const TokenId>> sequences) {
  if (sequences.empty()) throw Error("pack: no sequences");
  Sizes sizes;
  for (const auto& sequence : sequences) {
    if (sequence.empty()) throw Error("pack: an empty sequence");
    const auto length = static_cast<std::int64_t>(sequence.size());
    sizes.tokens += length;
    sizes.blocks += blocks_for(length);
    sizes.longest = std::max(sizes.longest, blocks_for(length));
  }
  return sizes;
}

}  // namespace

const TokenBatch& PackedSequences::pack(std::span<const std::span<const TokenId>> sequences) {
  const Sizes sizes = sizes_of(sequences);
  const auto count = static_cast<std::int64_t>(sequences.size());
  tokens_.reserve(device_, DType::i32, {sizes.tokens});
  positions_.reserve(device_, DType::i32, {sizes.tokens});
  cu_seqlens_.reserve(device_, DType::i32, {count + 1});
  context_.reserve(device_, DType::i32, {count});
  block_table_.reserve(device_, DType::i32, {count, sizes.longest});
  auto* tokens = tokens_.data<std::int32_t>();
  auto* positions = positions_.data<std::int32_t>();
  auto* table = block_table_.data<std::int32_t>();
  std::fill_n(context_.data<std::int32_t>(), count, 0);
  std::fill_n(table, count * sizes.longest, 0);
  std::int32_t row = 0, block = 0;
  cu_seqlens_.data<std::int32_t>()[0] = 0;
  for (std::int64_t s = 0; s < count; ++s) {
    const auto& sequence = sequences[static_cast<std::size_t>(s)];
    const auto length = static_cast<std::int32_t>(sequence.size());
    for (std::int32_t i = 0; i < length; ++i, ++row) {
      tokens[row] = sequence[static_cast<std::size_t>(i)];
      positions[row] = i;
    }
    for (std::int64_t b = 0; b < blocks_for(length); ++b) table[s * sizes.longest + b] = block++;
    cu_seqlens_.data<std::int32_t>()[s + 1] = row;
  }
  blocks_ = sizes.blocks;
  batch_ = {tokens_.tensor(),
            positions_.tensor(),
            {cu_seqlens_.tensor(), context_.tensor(), block_table_.tensor()}};
  return batch_;
}

const TokenBatch& PackedSequences::pack(const std::vector<std::vector<TokenId>>& sequences) {
  const std::vector<std::span<const TokenId>> views(sequences.begin(), sequences.end());
  return pack(views);
}

}  // namespace fst
