// All that the device must know of a step, in one parcel.

#include <algorithm>
#include <bit>

#include "fst/rollout/generator.h"

namespace fst {

void Generator::make_batch(const std::vector<Scheduler::Work>& work) {
  const std::int64_t sequences = static_cast<std::int64_t>(work.size()) + dummies_;
  const std::int64_t draws = static_cast<std::int64_t>(draws_of(queued_).size()) + dummies_;
  std::int64_t rows = dummies_, longest = 0;
  bool single = false, longer = false;  // sequences of one row, and of more
  for (const Scheduler::Work& w : work) {
    rows += w.rows;
    (w.rows == 1 ? single : longer) = true;
    longest = std::max(longest, blocks_for(w.sequence->computed));
  }
  // Few widths, so that steps have the same shapes for long.
  const auto width = static_cast<std::int64_t>(std::bit_ceil(static_cast<std::uint64_t>(longest)));
  const auto [tokens, positions, cu_seqlens, context, block_table, draw_rows, places, limits,
              keys] = inputs_.shape<9>({{DType::i32, {rows}},
                                        {DType::i32, {rows}},
                                        {DType::i32, {sequences + 1}},
                                        {DType::i32, {sequences}},
                                        {DType::i32, {sequences, width}},
                                        {DType::i32, {draws}},
                                        {DType::i32, {draws}},
                                        {DType::i32, {draws}},
                                        {DType::i64, {draws}}});
  batch_ = {tokens, positions, {cu_seqlens, context, block_table, single, longer}, {}};
  draw_rows_ = draw_rows;
  places_ = places;
  limits_ = limits;
  keys_ = keys;
  write_rows(work);
  write_draws();
  inputs_.send();
}

void Generator::write_rows(const std::vector<Scheduler::Work>& work) {
  auto* token = inputs_.host<TokenId>(batch_.tokens);
  auto* position = inputs_.host<std::int32_t>(batch_.positions);
  auto* begin = inputs_.host<std::int32_t>(batch_.attention.cu_seqlens);
  auto* context = inputs_.host<std::int32_t>(batch_.attention.context);
  auto* table = inputs_.host<std::int32_t>(batch_.attention.block_table);
  const std::int64_t width = batch_.attention.block_table.dim(1);
  *begin = 0;
  for (const Scheduler::Work& w : work) {
    const Sequence& sequence = *w.sequence;
    const std::int64_t first = sequence.computed - w.rows;
    token = std::copy_n(sequence.tokens.begin() + first, w.rows, token);
    if (token[-1] == Sequence::unknown) token[-1] = -1 - sequence.draw;  // ops::take_drawn
    for (std::int64_t r = 0; r < w.rows; ++r) *position++ = static_cast<std::int32_t>(first + r);
    begin[1] = begin[0] + static_cast<std::int32_t>(w.rows);
    ++begin;
    *context++ = static_cast<std::int32_t>(first);
    const std::int64_t blocks = blocks_for(sequence.computed);
    std::copy_n(sequence.blocks.begin(), blocks, table);
    std::fill_n(table + blocks, width - blocks, 0);
    table += width;
  }
  for (std::int64_t dummy = 0; dummy < dummies_; ++dummy) {  // each alone in a block of its own
    *token++ = 0;
    *position++ = 0;
    begin[1] = begin[0] + 1;
    ++begin;
    *context++ = 0;
    std::fill_n(table, width, 0);
    *table = static_cast<std::int32_t>(scheduler_.pool().blocks() + dummy);
    table += width;
  }
}

void Generator::write_draws() {
  auto* row = inputs_.host<std::int32_t>(draw_rows_);
  auto* place = inputs_.host<std::int32_t>(places_);
  auto* limit = inputs_.host<std::int32_t>(limits_);
  auto* key = inputs_.host<std::int64_t>(keys_);
  for (const Draw& draw : draws_of(queued_)) {
    const Sequence& sequence = *draw.sequence;
    const GenerateRequest& request = requests_[static_cast<std::size_t>(sequence.request)];
    *row++ = draw.row;
    *place++ = static_cast<std::int32_t>(sequence.drawn());
    *limit++ = request.max_new_tokens;
    *key++ = static_cast<std::int64_t>(request.key);
  }
  const std::int64_t rows = batch_.tokens.size();
  for (std::int64_t dummy = rows - dummies_; dummy < rows; ++dummy) {
    *row++ = static_cast<std::int32_t>(dummy);
    *place++ = 0;
    *limit++ = 1;
    *key++ = 0;
  }
}

}  // namespace fst
