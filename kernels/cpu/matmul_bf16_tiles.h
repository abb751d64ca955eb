#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/cpu/amx.h"
#include "kernels/cpu/matmul_bf16_isa.h"

/// Bf16Blocks by tile registers. `Tiles` are those of the hardware, or a test's imitation.
namespace fst::kernels {

inline constexpr std::int64_t tile_height = 16;

/// Layout: [tile][block][rows of the tile][32], bfloat16.
inline void pack_left_tiles(Bf16* left, const Bf16Operand& a, std::int64_t rows,
                            const Block* blocks, std::int64_t count) {
  for (std::int64_t first = 0; first < rows; first += tile_height) {
    const std::int64_t here = std::min(tile_height, rows - first);
    for (std::int64_t b = 0; b < count; ++b) {
      const Bf16* from = a.x + first * a.line_step + blocks[b].begin * a.inner_step;
      for (std::int64_t r = 0; r < here; ++r, left += block_size) {
        const Bf16* row = from + r * a.line_step;
        for (std::int64_t k = 0; k < blocks[b].length; ++k) left[k] = row[k * a.inner_step];
        std::fill(left + blocks[b].length, left + block_size, Bf16{0});
      }
    }
  }
}

/// Two tiles of rows, the second perhaps empty, times two tiles of columns: one panel.
/// Tiles 0, 1: sums of the upper rows, 2, 3: of the lower rows; 4, 5: left; 6, 7: right.
template <class Tiles>
void multiply_panel(Tiles& tiles, float* sums, std::int64_t step, const Bf16* upper,
                    const Bf16* lower, std::int64_t upper_rows, std::int64_t lower_rows,
                    const Bf16* right, std::int64_t count) {
  constexpr std::int64_t row_bytes = 64, panel_bytes = 4 * panel_columns;
  const std::int64_t sums_bytes = 4 * step;
  float* lower_sums = sums + upper_rows * step;
  tiles.template load<0>(sums, sums_bytes);
  tiles.template load<1>(sums + 16, sums_bytes);
  if (lower_rows > 0) {
    tiles.template load<2>(lower_sums, sums_bytes);
    tiles.template load<3>(lower_sums + 16, sums_bytes);
  }
  for (std::int64_t block = 0; block < count; ++block) {
    tiles.template load<4>(upper + block * upper_rows * block_size, row_bytes);
    tiles.template load<6>(right + block * panel_block, panel_bytes);
    tiles.template load<7>(right + block * panel_block + 32, panel_bytes);
    tiles.template multiply<0, 4, 6>();
    tiles.template multiply<1, 4, 7>();
    if (lower_rows > 0) {
      tiles.template load<5>(lower + block * lower_rows * block_size, row_bytes);
      tiles.template multiply<2, 5, 6>();
      tiles.template multiply<3, 5, 7>();
    }
  }
  tiles.template store<0>(sums, sums_bytes);
  tiles.template store<1>(sums + 16, sums_bytes);
  if (lower_rows > 0) {
    tiles.template store<2>(lower_sums, sums_bytes);
    tiles.template store<3>(lower_sums + 16, sums_bytes);
  }
}

inline TileConfig tile_config(std::int64_t upper_rows, std::int64_t lower_rows) {
  TileConfig config;
  const std::int64_t rows[8] = {upper_rows, upper_rows, lower_rows,  lower_rows,
                                upper_rows, lower_rows, tile_height, tile_height};
  for (int i = 0; i < 8; ++i) {
    config.rows[i] = static_cast<std::uint8_t>(rows[i]);
    config.row_bytes[i] = rows[i] > 0 ? 64 : 0;  // both or none are zero
  }
  return config;
}

template <class Tiles>
void multiply_tiles(Tiles& tiles, float* sums, std::int64_t step, const Bf16* left,
                    std::int64_t rows, const Bf16* right, std::int64_t panel_step,
                    std::int64_t panels, std::int64_t count) {
  for (std::int64_t first = 0; first < rows; first += 2 * tile_height) {
    const std::int64_t upper_rows = std::min(tile_height, rows - first);
    const std::int64_t lower_rows = std::min(tile_height, rows - first - upper_rows);
    const Bf16* upper = left + first * count * block_size;
    tiles.configure(tile_config(upper_rows, lower_rows));
    for (std::int64_t p = 0; p < panels; ++p) {
      multiply_panel(tiles, sums + first * step + p * panel_columns, step, upper,
                     upper + upper_rows * count * block_size, upper_rows, lower_rows,
                     right + p * panel_step, count);
    }
  }
  tiles.release();  // else the system would save 8 KB at every change of thread
}

}  // namespace fst::kernels
