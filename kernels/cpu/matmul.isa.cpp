#include <cstddef>
#include <utility>

#include "kernels/cpu/elementwise_isa.h"
#include "kernels/cpu/matmul_isa.h"
#include "kernels/cpu/matmul_pack.h"
#include "kernels/cpu/matmul_tile.h"

namespace fst::kernels {

namespace {

using namespace FST_ISA_NS;

constexpr std::int64_t least(std::int64_t x, std::int64_t y) {
  return x < y ? x : y;
}
constexpr std::int64_t parts_of(std::int64_t n, std::int64_t size) {
  return (n + size - 1) / size;
}
/// Levels of the tree over 1, 2, 4 or 8 leaves.
constexpr std::int64_t levels_of(std::int64_t leaves) {
  return leaves == 8 ? 3 : leaves == 4 ? 2 : leaves - 1;
}
constexpr std::int64_t padded(std::int64_t columns) {
  return parts_of(columns, panel_columns) * panel_columns;
}

/// n in the fewest equal parts of at most `most` (but one `step`), a part rounded up to `step`.
constexpr std::int64_t even_part(std::int64_t n, std::int64_t most, std::int64_t step) {
  const std::int64_t parts = parts_of(n, most < step ? step : most);
  return least(n, parts_of(parts_of(n, parts), step) * step);
}

// ---- the tiles of every shape -------------------------------------------------------------------

using TileFunction = void (*)(const Tile&);
template <std::size_t count>
struct TileFunctions {
  TileFunction chain[count], leaves[count];  // [rows - 1]
};
template <int vectors, Left left, std::size_t... i>
constexpr TileFunctions<sizeof...(i)> tile_functions(std::index_sequence<i...>) {
  return {{chain_tile<static_cast<int>(i) + 1, vectors, left>...},
          {leaves_tile<static_cast<int>(i) + 1, vectors, left>...}};
}
template <const TileShape& shape, Left left>
constexpr auto functions = tile_functions<static_cast<int>(shape.vectors), left>(
    std::make_index_sequence<static_cast<std::size_t>(shape.rows)>());

template <const TileShape& shape>
TileFunction choose(Left left, bool chain, std::int64_t rows) {
  const auto& all =
      left == Left::rows ? functions<shape, Left::rows> : functions<shape, Left::inner>;
  return chain ? all.chain[rows - 1] : all.leaves[rows - 1];
}

// ---- the plan of one call
// -------------------------------------------------------------------------

/// How a product is cut. Only speed depends on it.
struct Plan {
  bool direct;              // the left operand is read where it lies, else packed
  bool whole;               // the inner range is one piece (leaves are joined in the tile)
  std::int64_t leaves;      // chains to be joined between pieces: 1, 2, 4 or 8
  std::int64_t piece;       // longest piece of a chain
  std::int64_t strip_rows;  // rows whose left operand is packed at once: half of a 1 MB L2
  std::int64_t block_rows, block_columns;  // output block that is finished before the next
  std::int64_t levels;                     // unfinished sums kept per output element
};

// Sizes measured on Zen 5 (48 KB L1, 1 MB L2): longer pieces save passes over the output.
constexpr std::int64_t longest_piece = 1024;
constexpr std::int64_t strip_floats = 1 << 17;   // 512 KB of packed left operand: half of the L2
constexpr std::int64_t panels_floats = 1 << 20;  // 4 MB of packed right operand
constexpr std::int64_t sums_floats = 1 << 18;    // 1 MB per level of unfinished sums
constexpr std::int64_t sums_columns = 512;

Plan plan_for(const Product& p) {
  Plan plan{};
  const bool right_packed = p.ldb == 0;
  const auto chains = static_cast<std::int64_t>(p.order);
  const bool leaves = chains > 1;
  const bool few_rows = right_packed && p.rows <= 16;
  plan.whole = p.inner <= longest_piece || (few_rows && p.inner <= 8192);
  plan.leaves = plan.whole ? 1 : chains;
  plan.piece = plan.whole ? p.inner : least(longest_piece, parts_of(p.inner, plan.leaves));
  // Rows a multiple of 4 KB apart share one set of the L1 cache: those are packed.
  const bool crowded = p.a_row % 1024 == 0 && p.rows > 4;
  plan.direct = p.a_inner == 1 ? p.columns <= 512 && !crowded : p.columns <= 256;
  if (p.rows <= 2) plan.direct = true;
  const bool unfinished = !plan.whole && (leaves || p.update == Update::add);
  plan.levels = !unfinished ? 0 : levels_of(plan.leaves) + 1;
  const std::int64_t widest = right_packed ? p.columns : panels_floats / (plan.piece + 1);
  plan.block_columns =
      even_part(p.columns, unfinished ? least(widest, sums_columns) : widest, panel_columns);
  plan.block_rows =
      even_part(p.rows, unfinished ? sums_floats / plan.block_columns : p.rows, narrow_tile.rows);
  const std::int64_t tiles = strip_floats / (left_width * (plan.piece + 1)) + 1;
  plan.strip_rows = least(tiles * narrow_tile.rows, plan.block_rows);
  return plan;
}

/// Working memory of one call.
struct Scratch {
  float* left;
  float* right;
  float* sums;
  std::int64_t sums_step, level_size, size;

  Scratch(const Product& p, const Plan& plan, float* memory) {
    const std::int64_t tiles = parts_of(plan.strip_rows, narrow_tile.rows) + 1;
    const std::int64_t left_size = plan.direct ? 0 : tiles * left_width * plan.piece;
    sums_step = padded(plan.block_columns);
    const std::int64_t right_size = p.ldb == 0 ? 0 : sums_step * plan.piece;
    level_size = plan.block_rows * sums_step;
    left = memory;
    right = left + parts_of(left_size, lanes) * lanes;
    sums = right + right_size;
    size = sums + plan.levels * level_size - memory;
  }
};

// ---- one piece of the inner range over one block of the output
// -------------------------------------

struct Block {
  std::int64_t row, rows, column, columns;
};
/// Inner indices [begin, end) of a leaf, and whether the leaf starts and ends there.
struct Piece {
  std::int64_t leaf, begin, end;
  bool first, last;
};
/// Where the block's sums come from and go to: pointers to the block's first element.
struct Flow {
  const float* start;
  std::int64_t start_step;
  float* out;
  std::int64_t out_step;
  std::int64_t joins;
  bool final;
};

Flow flow_of(const Product& p, const Plan& plan, const Scratch& s, const Block& block,
             const Piece& piece) {
  float* c = p.c + block.row * p.ldc + block.column;
  const bool last_leaf = piece.leaf == plan.leaves - 1;
  Flow flow{};
  flow.final = last_leaf && piece.last;
  std::int64_t level = 0;
  while (!last_leaf && (piece.leaf >> level & 1) != 0) ++level;
  if (last_leaf) level = plan.levels > 0 ? plan.levels - 1 : 0;
  // Unfinished sums lie in the output itself where its old contents are not needed any more.
  const bool in_output = last_leaf && p.update == Update::overwrite;
  float* unfinished = in_output ? c : s.sums + level * s.level_size;
  const std::int64_t unfinished_step = in_output ? p.ldc : s.sums_step;
  if (!piece.first || p.resume) {
    flow.start = unfinished;
    flow.start_step = unfinished_step;
  }
  flow.out = flow.final ? c : unfinished;
  flow.out_step = flow.final ? p.ldc : unfinished_step;
  if (piece.last) flow.joins = last_leaf ? levels_of(plan.leaves) : level;
  return flow;
}

/// Packs the left operand of the tiles from `row` on, one after the other.
void pack_left(const Product& p, const Piece& piece, std::int64_t row, const Tiles& tiles,
               float* to) {
  const std::int64_t count = piece.end - piece.begin;
  const float* a = p.a + row * p.a_row + piece.begin * p.a_inner;
  if (p.a_inner != 1) {
    copy_left(to, left_width, a, p.a_inner, tiles, count);
    return;
  }
  for (std::int64_t i = 0; i < tiles.count; ++i) {
    transpose(to + i * left_width * count, left_width, a + tiles.first(i) * p.a_row, p.a_row,
              tiles.rows(i), count, left_width);
  }
}

/// All tiles of `rows` rows from `row` on, relative to the block; columns outside, rows inside, so
/// that a panel of the right operand stays in the L1 cache.
void strip(const Product& p, const Plan& plan, const Scratch& s, const Block& block,
           const Piece& piece, const Flow& flow, std::int64_t row, std::int64_t rows) {
  const Tiles tiles(rows, narrow_tile.rows);
  const bool wide_rows = tiles.rows(0) <= wide_tile.rows;
  const std::int64_t count = piece.end - piece.begin;
  const Left left = plan.direct && p.a_inner == 1 ? Left::rows : Left::inner;
  const SumOrder order = plan.whole ? p.order : SumOrder::chain;
  const bool chain = order == SumOrder::chain && p.matrices == 1;
  if (!plan.direct) pack_left(p, piece, block.row + row, tiles, s.left);
  Tile t{};
  t.a_step = !plan.direct ? left_width : p.a_inner == 1 ? p.a_row : p.a_inner;
  t.b_panel = panel_columns * (p.ldb == 0 ? p.inner : count);
  t.inner = count;
  t.start_step = flow.start_step;
  t.out_step = flow.out_step;
  t.joins = flow.joins;
  t.leaf_bits = levels_of(static_cast<std::int64_t>(order));
  t.sizes = p.sizes;
  t.matrices = p.matrices;
  t.join_step = s.sums_step;
  t.update = flow.final ? p.update : Update::overwrite;
  t.ahead_step = parts_of(panel_columns, tiles.count);
  const float* b =
      p.ldb == 0 ? p.b + block.column * p.inner + piece.begin * panel_columns : s.right;
  std::int64_t vectors = narrow_tile.vectors;
  for (std::int64_t j = 0; j < block.columns; j += vectors * lanes) {
    const bool wide = wide_rows && block.columns - j > narrow_tile.vectors * lanes;
    vectors = wide ? wide_tile.vectors : narrow_tile.vectors;
    t.b = b + j / panel_columns * t.b_panel + j % panel_columns;
    t.columns = least(block.columns - j, vectors * lanes);
    t.bias = flow.final && p.bias != nullptr ? p.bias + block.column + j : nullptr;
    for (std::int64_t i = 0; i < tiles.count; ++i) {
      const std::int64_t at = row + tiles.first(i), tile_rows = tiles.rows(i);
      t.a = plan.direct ? p.a + (block.row + at) * p.a_row + piece.begin * p.a_inner
                        : s.left + i * left_width * count;
      t.start = flow.start == nullptr ? nullptr : flow.start + at * flow.start_step + j;
      const bool last_row = i == tiles.count - 1;
      const std::int64_t next = last_row ? row : at + tile_rows;
      t.next_start = flow.start == nullptr ? nullptr
                                           : flow.start + next * flow.start_step + j +
                                                 (last_row ? vectors * lanes : 0);
      t.ahead = t.b + t.b_panel + i * count * t.ahead_step;
      t.out = flow.out + at * flow.out_step + j;
      for (std::int64_t l = 0; l < flow.joins; ++l) {
        t.join[l] = s.sums + l * s.level_size + at * s.sums_step + j;
      }
      const TileFunction run = wide ? choose<wide_tile>(left, chain, tile_rows)
                                    : choose<narrow_tile>(left, chain, tile_rows);
      run(t);
    }
  }
}

void compute(const Product& p, const Plan& plan, const Scratch& s, const Block& block,
             const Piece& piece) {
  const Flow flow = flow_of(p, plan, s, block, piece);
  if (p.ldb != 0) {
    copy_panels(s.right, p.b + piece.begin * p.ldb + block.column, p.ldb, block.columns,
                piece.end - piece.begin);
  }
  const std::int64_t strips = parts_of(block.rows, plan.strip_rows);
  for (std::int64_t i = 0; i < strips; ++i) {
    const std::int64_t row = i * block.rows / strips;
    strip(p, plan, s, block, piece, flow, row, (i + 1) * block.rows / strips - row);
  }
}

void compute(const Product& p, const Plan& plan, const Scratch& s, const Block& block) {
  for (std::int64_t leaf = 0; leaf < plan.leaves; ++leaf) {
    const std::int64_t begin = leaf * p.inner / plan.leaves;
    const std::int64_t length = (leaf + 1) * p.inner / plan.leaves - begin;
    const std::int64_t pieces = length <= plan.piece ? 1 : parts_of(length, plan.piece);
    for (std::int64_t i = 0; i < pieces; ++i) {
      compute(p, plan, s, block,
              {leaf, begin + i * length / pieces, begin + (i + 1) * length / pieces, i == 0,
               i == pieces - 1});
    }
  }
}

/// The product of one of several matrices, added to those before.
Product matrix_of(const Product& p, std::int64_t matrix) {
  Product one = p;
  for (std::int64_t m = 0; m < matrix; ++m) {
    one.a += p.sizes[m] * p.a_inner;
    one.b += p.sizes[m] * p.ldb;
  }
  one.inner = p.sizes[matrix];
  one.sizes = nullptr;
  one.matrices = 1;
  if (matrix > 0) one.update = Update::add;
  return one;
}

}  // namespace

template <Isa isa>
std::int64_t Matmul<isa>::scratch_size(const Product& p) {
  const Plan plan = plan_for(p);
  if (p.matrices == 1 || plan.whole) return Scratch(p, plan, nullptr).size;
  std::int64_t size = 0;
  for (std::int64_t m = 0; m < p.matrices; ++m) {
    const std::int64_t one = scratch_size(matrix_of(p, m));
    size = one > size ? one : size;
  }
  return size;
}

template <Isa isa>
void Matmul<isa>::product(const Product& p, float* scratch) {
  const Plan plan = plan_for(p);
  if (p.matrices > 1 && !plan.whole) {
    for (std::int64_t m = 0; m < p.matrices; ++m) product(matrix_of(p, m), scratch);
    return;
  }
  const Scratch s(p, plan, scratch);
  for (std::int64_t column = 0; column < p.columns; column += plan.block_columns) {
    for (std::int64_t row = 0; row < p.rows; row += plan.block_rows) {
      compute(p, plan, s,
              {row, least(plan.block_rows, p.rows - row), column,
               least(plan.block_columns, p.columns - column)});
    }
  }
}

template <Isa isa>
void Matmul<isa>::add_rows(float* sum, const float* x, std::int64_t ldx, std::int64_t rows,
                           std::int64_t columns) {
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t j = 0; j < columns; ++j) sum[j] = sum[j] + x[r * ldx + j];
  }
}

template <Isa isa>
void Matmul<isa>::pack_panel(float* packed, const void* weight, Storage storage,
                             std::int64_t columns, std::int64_t k) {
  constexpr std::int64_t block = 64;
  float wide[lanes][block];
  for (std::int64_t half = 0; half < panel_columns; half += lanes) {
    const std::int64_t rows = columns <= half ? 0 : least(columns - half, lanes);
    if (storage == Storage::f32) {
      const float* from = static_cast<const float*>(weight) + (rows == 0 ? 0 : half * k);
      transpose(packed + half, panel_columns, from, k, rows, k, lanes);
      continue;
    }
    const auto* from = static_cast<const std::uint16_t*>(weight) + (rows == 0 ? 0 : half * k);
    for (std::int64_t first = 0; first < k; first += block) {
      const std::int64_t count = least(block, k - first);
      for (std::int64_t r = 0; r < rows; ++r) {
        ElementwiseRow<isa>::widen(wide[r], from + r * k + first, storage, count);
      }
      transpose(packed + first * panel_columns + half, panel_columns, wide[0], block, rows, count,
                lanes);
    }
  }
}

template struct Matmul<Isa::FST_ISA_NS>;

}  // namespace fst::kernels
