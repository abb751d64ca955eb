#include "fst/model/token_batch.h"

#include <algorithm>

#include "fst/base/error.h"
#include "fst/model/kv_cache.h"

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

void PackedSequences::reserve(std::int64_t tokens, std::int64_t sequences, std::int64_t longest) {
  const std::int64_t word = size_of(DType::i32);
  parcel_.reserve(
      StagedArrays::bytes_of({word * tokens, word * tokens, word * (sequences + 1),
                              word * sequences, word * sequences * blocks_for(longest)}));
}

const TokenBatch& PackedSequences::pack(std::span<const std::span<const TokenId>> sequences) {
  const Sizes sizes = sizes_of(sequences);
  const auto count = static_cast<std::int64_t>(sequences.size());
  constexpr DType i32 = DType::i32;
  const auto [tokens, positions, cu_seqlens, context, block_table] =
      parcel_.shape<5>({{i32, {sizes.tokens}},
                        {i32, {sizes.tokens}},
                        {i32, {count + 1}},
                        {i32, {count}},
                        {i32, {count, sizes.longest}}});
  auto* token = parcel_.host<TokenId>(tokens);
  auto* position = parcel_.host<std::int32_t>(positions);
  auto* table = parcel_.host<std::int32_t>(block_table);
  std::fill_n(parcel_.host<std::int32_t>(context), count, 0);
  std::fill_n(table, block_table.size(), 0);
  std::int32_t row = 0, block = 0;
  first_rows_.assign(1, 0);
  for (std::int64_t s = 0; s < count; ++s) {
    const auto& sequence = sequences[static_cast<std::size_t>(s)];
    const auto length = static_cast<std::int32_t>(sequence.size());
    token = std::copy(sequence.begin(), sequence.end(), token);
    for (std::int32_t i = 0; i < length; ++i) *position++ = i;
    row += length;
    for (std::int64_t b = 0; b < blocks_for(length); ++b) table[s * sizes.longest + b] = block++;
    first_rows_.push_back(row);
  }
  std::copy(first_rows_.begin(), first_rows_.end(), parcel_.host<std::int32_t>(cu_seqlens));
  parcel_.send();
  blocks_ = sizes.blocks;
  batch_ = {tokens,
            positions,
            {cu_seqlens, context, block_table, sizes.single, sizes.longer},
            first_rows_};
  return batch_;
}

const TokenBatch& PackedSequences::pack(const std::vector<std::vector<TokenId>>& sequences) {
  const std::vector<std::span<const TokenId>> views(sequences.begin(), sequences.end());
  return pack(views);
}

}  // namespace fst
