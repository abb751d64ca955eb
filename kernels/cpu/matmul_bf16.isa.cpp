#include <cstddef>
#include <utility>

#include "kernels/cpu/matmul_bf16_isa.h"
#include "kernels/cpu/vec.h"

namespace fst::kernels {

namespace {

using namespace FST_ISA_NS;

constexpr std::int64_t half_block = block_size / 2;

/// Rows of a tile and vectors of 16 columns, whose sums of one half block lie in registers: with
/// few rows a whole panel, so that there are enough independent chains.
#if defined(FST_ISA_avx512)
constexpr std::int64_t tile_rows = 12;
constexpr int vectors_of(int) {
  return 2;
}
#elif defined(FST_ISA_avx2)
constexpr std::int64_t tile_rows = 6;
constexpr int vectors_of(int rows) {
  return rows <= 3 ? 2 : 1;
}
#else
constexpr std::int64_t tile_rows = 4;
constexpr int vectors_of(int) {
  return 1;
}
#endif

/// Rows of a strip in the fewest tiles, as equal as they can be.
struct Tiles {
  std::int64_t rows, count;
  explicit Tiles(std::int64_t of) : rows(of), count((of + tile_rows - 1) / tile_rows) {}
  std::int64_t first(std::int64_t i) const { return i * rows / count; }
};

enum class Parity { even, odd };

/// Of 16 pairs of bfloat16 numbers the even or the odd ones, widened.
template <Parity parity>
FST_INLINE Vec load_half(const Bf16* pairs) {
  const IntVec words = load_int(pairs);
  if (parity == Parity::even) return from_bits(shift_left<16>(words));
  return from_bits(and_int(words, set_int(static_cast<std::int32_t>(0xffff0000u))));
}

/// How many pairs ahead the right operand is fetched.
constexpr std::int64_t prefetch_pairs = 48;

/// The chains of one parity over one block. left [16][rows], right [16][32][2].
template <Parity parity, int rows, int vectors>
FST_INLINE void sum_half(Vec (&sum)[rows][vectors], const float* left, const Bf16* right) {
#pragma GCC unroll 16
  for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 2
    for (int v = 0; v < vectors; ++v) sum[r][v] = zero();
  }
#pragma GCC unroll 4
  for (std::int64_t k = 0; k < half_block; ++k) {
    Vec column[vectors];
#pragma GCC unroll 2
    for (int v = 0; v < vectors; ++v) {
      const Bf16* at = right + 2 * (k * panel_columns + v * lanes);
      column[v] = load_half<parity>(at);
      if (parity == Parity::even) __builtin_prefetch(at + prefetch_pairs * 2 * panel_columns);
    }
#pragma GCC unroll 16
    for (int r = 0; r < rows; ++r) {
      const Vec factor = set(left[k * rows + r]);
#pragma GCC unroll 2
      for (int v = 0; v < vectors; ++v) sum[r][v] = fma(factor, column[v], sum[r][v]);
    }
  }
}

/// One tile of the output. left [count][2][16][rows], right [count][16][32][2].
template <int rows, int vectors>
FST_INLINE void tile(float* sums, std::int64_t step, const float* left, const Bf16* right,
                     std::int64_t count) {
  alignas(64) float even[rows][vectors * lanes];
  for (std::int64_t block = 0; block < count; ++block) {
    Vec sum[rows][vectors];
    sum_half<Parity::even>(sum, left, right);
#pragma GCC unroll 16
    for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 2
      for (int v = 0; v < vectors; ++v) store(&even[r][v * lanes], sum[r][v]);
    }
    sum_half<Parity::odd>(sum, left + half_block * rows, right);
#pragma GCC unroll 16
    for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 2
      for (int v = 0; v < vectors; ++v) {
        float* c = sums + r * step + v * lanes;
        store(c, load(c) + (load(&even[r][v * lanes]) + sum[r][v]));
      }
    }
    left += block_size * rows;
    right += panel_block;
  }
}

/// The rows of a tile times a panel.
template <int rows>
void multiply_panel(float* sums, std::int64_t step, const float* left, const Bf16* right,
                    std::int64_t count) {
  constexpr int vectors = vectors_of(rows);
  for (std::int64_t column = 0; column < panel_columns; column += vectors * lanes) {
    tile<rows, vectors>(sums + column, step, left, right + 2 * column, count);
  }
}

using PanelFunction = void (*)(float*, std::int64_t, const float*, const Bf16*, std::int64_t);
template <std::size_t... i>
PanelFunction panel_function(std::int64_t rows, std::index_sequence<i...>) {
  static constexpr PanelFunction all[] = {multiply_panel<static_cast<int>(i) + 1>...};
  return all[rows - 1];
}

// The left operand is packed as [tile][block][even, odd][16][rows of the tile], float32.

/// One block of `rows` rows, which lie one behind the other.
void pack_rows(float* out, const Bf16* from, std::int64_t step, std::int64_t rows,
               std::int64_t length) {
  Vec even[lanes], odd[lanes];
  Bf16 filled[block_size] = {};
  for (std::int64_t r = 0; r < lanes; ++r) {
    const Bf16* row = from + r * step;
    if (r >= rows) {
      even[r] = odd[r] = zero();
      continue;
    }
    if (length < block_size) {
      for (std::int64_t k = 0; k < length; ++k) filled[k] = row[k];
      row = filled;
    }
    even[r] = load_half<Parity::even>(row);
    odd[r] = load_half<Parity::odd>(row);
  }
  transpose(even);
  transpose(odd);
  for (std::int64_t k = 0; k < half_block; ++k) store_upto(out + k * rows, even[k], rows);
  out += half_block * rows;
  for (std::int64_t k = 0; k < half_block; ++k) store_upto(out + k * rows, odd[k], rows);
}

/// The same, inner index by inner index. `readable` is how many rows there are from the first on.
void pack_columns(float* out, const Bf16* from, std::int64_t step, std::int64_t rows,
                  std::int64_t readable, std::int64_t length) {
  if (length < block_size) {
    for (std::int64_t e = 0; e < block_size * rows; ++e) out[e] = 0.0f;
  }
  for (std::int64_t i = 0; i < block_size; ++i, out += rows) {
    const std::int64_t k = i % half_block * 2 + i / half_block;
    const Bf16* row = from + k * step;
    if (length == block_size && readable >= lanes) {
      // What is written too much is written again: more rows follow, in a later tile.
      for (std::int64_t r = 0; r < lanes; ++r) out[r] = widened(row[r]);
    } else if (k < length) {
      for (std::int64_t r = 0; r < rows; ++r) out[r] = widened(row[r]);
    }
  }
}

/// out[i] = (first[i], second[i]) for `columns` pairs.
FST_INLINE void interleave_pairs(Bf16* out, const Bf16* first, const Bf16* second,
                                 std::int64_t columns) {
  for (std::int64_t j = 0; j < columns; ++j) {
    const std::uint32_t pair = first[j].bits | static_cast<std::uint32_t>(second[j].bits) << 16;
    __builtin_memcpy(out + 2 * j, &pair, sizeof pair);
  }
}
void interleave(Bf16* out, const Bf16* first, const Bf16* second, std::int64_t columns) {
  if (columns == panel_columns) {
    interleave_pairs(out, first, second, panel_columns);
  } else {
    interleave_pairs(out, first, second, columns);
  }
}

}  // namespace

template <Isa isa>
void Bf16Blocks<isa>::pack_left(void* left, const Bf16Operand& a, std::int64_t rows,
                                const Block* blocks, std::int64_t count) {
  const Tiles tiles(rows);
  auto* out = static_cast<float*>(left);
  for (std::int64_t i = 0; i < tiles.count; ++i) {
    const std::int64_t first = tiles.first(i), here = tiles.first(i + 1) - first;
    for (std::int64_t b = 0; b < count; ++b, out += block_size * here) {
      const Bf16* from = a.x + first * a.line_step + blocks[b].begin * a.inner_step;
      if (a.inner_step == 1) {
        pack_rows(out, from, a.line_step, here, blocks[b].length);
      } else {
        pack_columns(out, from, a.inner_step, here, rows - first, blocks[b].length);
      }
    }
  }
}

template <Isa isa>
void Bf16Blocks<isa>::multiply(float* sums, std::int64_t step, const void* left, std::int64_t rows,
                               const Bf16* right, std::int64_t panel_step, std::int64_t panels,
                               std::int64_t count) {
  const Tiles tiles(rows);
  constexpr auto numbers = std::make_index_sequence<static_cast<std::size_t>(tile_rows)>();
  for (std::int64_t p = 0; p < panels; ++p) {
    for (std::int64_t i = 0; i < tiles.count; ++i) {
      const std::int64_t first = tiles.first(i), here = tiles.first(i + 1) - first;
      const float* rows_left = static_cast<const float*>(left) + first * block_size * count;
      panel_function(here, numbers)(sums + first * step + p * panel_columns, step, rows_left,
                                    right + p * panel_step, count);
    }
  }
}

template <Isa isa>
void Bf16Matmul<isa>::pack_panel(Bf16* panel, const Bf16Operand& b, std::int64_t columns,
                                 const Block* blocks, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i, panel += panel_block) {
    const std::int64_t length = blocks[i].length;
    const Bf16* from = b.x + blocks[i].begin * b.inner_step;
    if (length < block_size || columns < panel_columns) {
      for (std::int64_t e = 0; e < panel_block; ++e) panel[e] = Bf16{0};
    }
    if (b.inner_step == 1) {
      for (std::int64_t j = 0; j < columns; ++j) {
        const Bf16* line = from + j * b.line_step;
        for (std::int64_t k = 0; k < length; ++k) {
          panel[k / 2 * (2 * panel_columns) + 2 * j + k % 2] = line[k];
        }
      }
      continue;
    }
    constexpr Bf16 none[panel_columns] = {};
    for (std::int64_t k = 0; k < length; k += 2) {
      const Bf16* row = from + k * b.inner_step;
      interleave(panel + k * panel_columns, row, k + 1 < length ? row + b.inner_step : none,
                 columns);
    }
  }
}

template <Isa isa>
void Bf16Matmul<isa>::join(float* y, const float* x, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) y[i] = x[i] + y[i];
}

template <Isa isa>
void Bf16Matmul<isa>::finish(float* y, const float* sums, const float* bias, std::int64_t columns,
                             Update update) {
  for (std::int64_t j = 0; j < columns; ++j) {
    const float r = bias == nullptr ? sums[j] : sums[j] + bias[j];
    y[j] = update == Update::add ? y[j] + r : r;
  }
}

template <Isa isa>
void Bf16Matmul<isa>::finish(Bf16* y, const float* sums, const float* bias, std::int64_t columns,
                             Update update) {
  for (std::int64_t j = 0; j < columns; ++j) {
    const float r = bias == nullptr ? sums[j] : sums[j] + bias[j];
    y[j] = narrowed(update == Update::add ? widened(y[j]) + r : r);
  }
}

template <Isa isa>
void Bf16Matmul<isa>::add_rows(float* sum, const Bf16* x, std::int64_t ldx, std::int64_t rows,
                               std::int64_t columns) {
  for (std::int64_t t = 0; t < rows; ++t) {
    for (std::int64_t j = 0; j < columns; ++j) sum[j] = sum[j] + widened(x[t * ldx + j]);
  }
}

template struct Bf16Blocks<Isa::FST_ISA_NS>;
template struct Bf16Matmul<Isa::FST_ISA_NS>;

}  // namespace fst::kernels
