#include "fst/tensor/working_memory.h"

#include <algorithm>
#include <bit>

#include "fst/tensor/ops.h"

#include "kernels/attention.h"

namespace fst::ops {

namespace {

constexpr std::int64_t leaves = 8, f32_bytes = 4;
constexpr std::int64_t most_matrices = 3;  // that share an input: q, k and v
// Products keep leaves apart only where they have fewer tiles than an H100 has processors; else a
// block keeps the finished halves of its tree.
constexpr std::int64_t processors = 132, tile = 128 * 128, waiting_halves = 3;
constexpr std::int64_t pairs_of_a_block = 64;             // of rows and heads, in attention
constexpr std::int64_t blocks_to_fill = 16 * processors;  // and one more for each column of a grid
constexpr std::int64_t states_of_a_pair = 8;  // beside its outputs, where splits are joined
constexpr std::int64_t sums_of_a_pair = 4;    // that backward keeps in bf16; in f32 one
constexpr std::int64_t law_bytes = 256;       // of a row: sums of leaves, totals, bests of parts

// Of the likeliest tokens of each part of a row; rows have as many parts as fill a device.
constexpr std::int64_t list_bytes = 1024 * 8, drawing_blocks = 264;

std::int64_t parts_of(std::int64_t n, std::int64_t part) {
  return (n + part - 1) / part;
}

std::int64_t product_bytes(const KernelWork& w) {
  const std::int64_t columns = parts_of(w.hidden_size, 4) * 4;
  const std::int64_t apart = std::min(w.rows * columns, processors * tile);
  const bool trees = w.rows * columns > processors * tile / 4;
  return f32_bytes *
         std::max(leaves * most_matrices * apart, trees ? processors * waiting_halves * tile : 0);
}

/// Tokens that a block table has room for; widths are rounded up so that few differ.
std::int64_t keys_of_table(std::int64_t tokens) {
  const auto blocks = static_cast<std::uint64_t>(parts_of(tokens, kv_block_tokens));
  return static_cast<std::int64_t>(std::bit_ceil(blocks)) * kv_block_tokens;
}

/// Of the forward pass over sequences of more rows than one, whichever of them these are: a block's
/// joined outputs, for as many blocks as a grid may have (kernels/cuda/attention_work.h).
std::int64_t joined_bytes(const KernelWork& w, std::int64_t sequences, std::int64_t tokens) {
  const std::int64_t keys = keys_of_table(tokens);
  if (keys <= kernels::attention_split) return 0;
  const std::int64_t columns = sequences * w.kv_heads;
  const std::int64_t units = parts_of(keys * (w.heads / w.kv_heads), pairs_of_a_block);
  const std::int64_t blocks = std::min(columns * units, columns + blocks_to_fill);
  const std::int64_t dim = w.head_dim <= 64 ? 64 : 128;  // what kernels are compiled for
  return blocks * pairs_of_a_block * (dim + states_of_a_pair) * f32_bytes;
}

std::int64_t attention_bytes(const KernelWork& w) {
  const std::int64_t keys = parts_of(w.longest, kv_block_tokens) * kv_block_tokens;
  const std::int64_t backward = w.sequences * keys * w.heads * sums_of_a_pair * f32_bytes;
  return std::max(
      {backward, joined_bytes(w, w.sequences, w.longest), joined_bytes(w, w.decoding, w.context)});
}

std::int64_t decoding_bytes(const KernelWork& w) {
  const std::int64_t splits = parts_of(keys_of_table(w.context), kernels::attention_split);
  return splits <= 1 ? 0 : w.decoding * w.heads * splits * (w.head_dim + 2) * f32_bytes;
}

std::int64_t sampling_bytes(const KernelWork& w) {
  const std::int64_t lists = std::max(w.drawn_rows, drawing_blocks) * list_bytes;
  return w.drawn_rows * (w.vocab * f32_bytes + law_bytes) + lists;
}

}  // namespace

std::int64_t working_bytes(const KernelWork& w) {
  constexpr std::int64_t least = 64 << 10;  // tables of parts, counters
  return std::max({least + 2 * f32_bytes * w.rows, product_bytes(w), attention_bytes(w),
                   decoding_bytes(w), w.law_rows * law_bytes, sampling_bytes(w)});
}

}  // namespace fst::ops
