#include "fst/model/token_batch.h"

#include <algorithm>

#include "fst/base/error.h"
#include "fst/model/kv_cache.h"
#include "fst/tensor/host_view.h"

namespace fst {

namespace {

struct Sizes {
  std::int64_t tokens = 0, blocks = 0, longest = 0;
  bool single = false, longer = false;  // sequences of one token, and of more
};

Sizes sizes_of(std::span<const std::span<const TokenId>> sequences) {
  if (sequences.empty()) throw Error("pack: no sequences");
  Sizes sizes;
  for (const auto& sequence : sequences) {
    if (sequence.empty()) throw Error("pack: an empty sequence");
    const auto length = static_cast<std::int64_t>(sequence.size());
    sizes.tokens += length;
    (length == 1 ? sizes.single : sizes.longer) = true;
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
  HostView<std::int32_t> tokens(tokens_.tensor(), Contents::undefined);
  HostView<std::int32_t> positions(positions_.tensor(), Contents::undefined);
  HostView<std::int32_t> table(block_table_.tensor(), Contents::undefined);
  const std::vector<std::int32_t> no_context(sequences.size(), 0);
  copy_in(context_.tensor(), std::span<const std::int32_t>(no_context));
  std::fill_n(table.data(), table.size(), 0);
  std::int32_t row = 0, block = 0;
  first_rows_.assign(1, 0);
  for (std::int64_t s = 0; s < count; ++s) {
    const auto& sequence = sequences[static_cast<std::size_t>(s)];
    const auto length = static_cast<std::int32_t>(sequence.size());
    for (std::int32_t i = 0; i < length; ++i, ++row) {
      tokens[row] = sequence[static_cast<std::size_t>(i)];
      positions[row] = i;
    }
    for (std::int64_t b = 0; b < blocks_for(length); ++b) table[s * sizes.longest + b] = block++;
    first_rows_.push_back(row);
  }
  tokens.store();
  positions.store();
  table.store();
  copy_in(cu_seqlens_.tensor(), std::span<const std::int32_t>(first_rows_));
  blocks_ = sizes.blocks;
  batch_ = {
      tokens_.tensor(),
      positions_.tensor(),
      {cu_seqlens_.tensor(), context_.tensor(), block_table_.tensor(), sizes.single, sizes.longer}};
  return batch_;
}

const TokenBatch& PackedSequences::pack(const std::vector<std::vector<TokenId>>& sequences) {
  const std::vector<std::span<const TokenId>> views(sequences.begin(), sequences.end());
  return pack(views);
}

}  // namespace fst
