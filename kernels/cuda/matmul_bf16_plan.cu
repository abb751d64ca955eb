#include "kernels/cuda/matmul_bf16_kernels.h"

/// Which kernel does which product.
namespace fst::kernels {

namespace {

using gpu::parts_of;

/// Blocks of group tiles that are worth more than more blocks of smaller ones.
constexpr std::int64_t few_blocks = full_device / 2;

bool wants_groups(const Cuda& cuda, std::int64_t rows, std::int64_t columns, int chains) {
  return architecture(cuda) == 90 &&
         parts_of(rows, 128) * parts_of(columns, 128) * chains >= few_blocks;
}

/// The cheaper width of group tiles, by the columns that the busiest multiprocessor computes; tiles
/// of 128 columns bring a third more bytes for an output.
Kernel best_group_tiles(std::int64_t rows, std::int64_t columns) {
  const auto turns = [&](std::int64_t width) {
    return parts_of(parts_of(rows, 128) * parts_of(columns, width), full_device) * width;
  };
  return 5 * turns(256) <= 6 * turns(128) ? Kernel::wide_group_tiles : Kernel::group_tiles;
}

}  // namespace

bool fits_groups(const Bf16Product& p) {
  const int chains = p.matrices * p.leaves;
  bool fits = p.wide && p.starts[p.matrices] > 0;
  for (int i = 0; chains > 1 && i < p.matrices; ++i) {
    // What follows a chain is loaded with its last step, so it must not be in its last block.
    fits = fits && (p.starts[i + 1] - p.starts[i]) % (tensor_block * p.leaves) == 0;
  }
  return fits;
}

Plan plan_of(const Cuda& cuda, const Bf16Product& p) {
  const int chains = p.matrices * p.leaves;
  if (p.rows <= most_few_rows && p.b_lies == Lies::inner) return {Kernel::few_rows, chains > 1};
  const std::int64_t tiles = parts_of(p.rows, 128) * parts_of(p.columns, 128);
  if (p.rows > most_few_rows && fits_groups(p) && wants_groups(cuda, p.rows, p.columns, chains)) {
    if (chains == 1) return {best_group_tiles(p.rows, p.columns), false};
    return {Kernel::group_tiles, tiles < few_blocks};
  }
  const bool large = p.wide && tiles * chains >= full_device;
  const std::int64_t all = large ? tiles : parts_of(p.rows, 64) * parts_of(p.columns, 64);
  return {large ? Kernel::large_tiles : Kernel::small_tiles, chains > 1 && all < full_device};
}

Plan plan_of(const Cuda& cuda, const Bf16Gradient& p, const Sequences& sequences) {
  const bool empty = sequences.starts[sequences.count] == sequences.starts[0];
  if (p.wide && !empty && wants_groups(cuda, p.rows, p.columns, 1)) {
    return {best_group_tiles(p.rows, p.columns), false};
  }
  const bool large = p.wide && parts_of(p.rows, 128) * parts_of(p.columns, 128) >= full_device;
  return {large ? Kernel::large_tiles : Kernel::small_tiles, false};
}

}  // namespace fst::kernels
