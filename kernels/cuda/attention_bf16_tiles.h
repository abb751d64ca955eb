#pragma once

#include "kernels/cuda/attention_work.h"
#include "kernels/cuda/pieces.h"

/// Heads of D elements in shared memory as tensor cores take them: where their pieces of 16 bytes
/// lie, so that neither copies nor ldmatrix meet in a bank; how a warp brings them, with zeros for
/// what does not exist; and the operands of multiply_16x8x16 in them. D is 64 or 128.
namespace fst::kernels::gpu {

DEVICE int lane_of_warp() {
  return static_cast<int>(threadIdx.x % 32);
}
DEVICE int warp_of_block() {
  return uniform(static_cast<int>(threadIdx.x / 32));
}

/// Rows of D elements: queries, values and their gradients. Piece p of row r is at p ^ r % 8: eight
/// rows of one p lie in different banks. `elements` is aligned to 128 bytes.
template <int D>
struct RowTile {
  static constexpr int pieces = D / piece_size;
  Bf16* elements;
  DEVICE Bf16* piece(int r, int p) const {
    return elements + r * D + (p * piece_size ^ (r & 7) * piece_size);
  }
};
/// Keys as cache blocks hold them, [D, 16] each: 32 bytes an element of the head, whose halves
/// change places every four elements, so that eight elements of one half lie in different banks.
template <int D>
struct KeyTile {
  Bf16* elements;
  DEVICE Bf16* piece(int block, int element, int half) const {
    return elements + (block * D + element) * cache_block +
           (half ^ (element >> 2 & 1)) * piece_size;
  }
};

/// The left operand: 16 rows from `row` on, the inner indices being 16 elements from `element` on.
template <int D>
DEVICE void rows_on_the_left(std::uint32_t (&to)[4], RowTile<D> tile, int row, int element) {
  const int lane = lane_of_warp();
  load_matrix_x4(to, tile.piece(row + lane % 16, element / piece_size + lane / 16));
}
/// The left operand: 16 elements from `element` on, the inner indices being 16 rows.
template <int D>
DEVICE void elements_on_the_left(std::uint32_t (&to)[4], RowTile<D> tile, int row, int element) {
  const int lane = lane_of_warp();
  load_matrix_x4_transposed(
      to, tile.piece(row + lane / 16 * 8 + lane % 8, element / piece_size + lane / 8 % 2));
}
/// The left operand: the 16 keys of a block, the inner indices being 16 elements; `element`, a
/// multiple of 16, moves no halves.
template <int D>
DEVICE void rows_on_the_left(std::uint32_t (&to)[4], KeyTile<D> tile, int block, int element) {
  const int lane = lane_of_warp();
  const Bf16* const first = tile.piece(block, lane / 16 * 8 + lane % 8, lane / 8 % 2);
  load_matrix_x4_transposed(to, first + element * cache_block);
}
/// Two right operands: eight elements and the eight behind, the inner indices being 16 rows.
template <int D>
DEVICE void elements_on_the_right(std::uint32_t (&to)[4], RowTile<D> tile, int row, int element) {
  const int lane = lane_of_warp();
  load_matrix_x4_transposed(to, tile.piece(row + lane % 16, element / piece_size + lane / 16));
}
/// Two right operands of the 16 keys of a block: eight keys and the eight behind, the inner indices
/// being 16 elements.
template <int D>
DEVICE void rows_on_the_right(std::uint32_t (&to)[4], KeyTile<D> tile, int block, int element) {
  const int lane = lane_of_warp();
  load_matrix_x4_transposed(to, tile.piece(block, element + lane % 16, lane / 16));
}
/// And eight elements and the eight behind, the inner indices being the keys.
template <int D>
DEVICE void elements_on_the_right(std::uint32_t (&to)[4], KeyTile<D> tile, int block, int element) {
  const int lane = lane_of_warp();
  load_matrix_x4(to, tile.piece(block, element + lane / 16 * 8 + lane % 8, lane / 8 % 2));
}

/// Both products of a left operand with two right ones.
DEVICE void multiply_16x16x16(float (&first)[4], float (&second)[4], const std::uint32_t (&left)[4],
                              const std::uint32_t (&right)[4]) {
  const std::uint32_t right_first[2] = {right[0], right[1]};
  const std::uint32_t right_second[2] = {right[2], right[3]};
  multiply_16x8x16(first, left, right_first);
  multiply_16x8x16(second, left, right_second);
}
/// A left operand of two sums, rounded: what multiply_16x16x16 leaves is, columns becoming inner
/// indices, what the next product takes.
DEVICE void narrowed_operand(std::uint32_t (&to)[4], const float (&first)[4],
                             const float (&second)[4]) {
  to[0] = narrowed_pair(first[0], first[1]);
  to[1] = narrowed_pair(first[2], first[3]);
  to[2] = narrowed_pair(second[0], second[1]);
  to[3] = narrowed_pair(second[2], second[3]);
}

/// A warp brings the keys of a cache block, the elements that the head has. `wide`: the cache
/// begins at a multiple of 16 bytes, and dim is a multiple of 8. Where dim is a constant, no
/// address but the first is computed.
template <bool wide, int D>
DEVICE void bring_keys(KeyTile<D> to, int block, const Bf16* keys, int dim) {
  const int lane = lane_of_warp(), first = lane / 2, half = lane % 2;
#pragma unroll(wide ? D / 16 : 1)
  for (int i = 0; i < D / 16; ++i) {
    const int e = first + 16 * i;
    bring_piece<wide>(to.piece(block, e, half), keys + lane * piece_size + i * 32 * piece_size,
                      e < dim ? piece_size : 0);
  }
}
/// And the first `count` (any count) of its values, which lie behind the keys.
template <bool wide, int D>
DEVICE void bring_values(RowTile<D> to, int row, const Bf16* keys, int dim, int count) {
  constexpr int pieces = RowTile<D>::pieces, rows = 32 / pieces;
  const std::int64_t step = dim;
  const int first = lane_of_warp() / pieces, p = lane_of_warp() % pieces;
  const Bf16* const values = keys + (cache_block + first) * step + p * piece_size;
#pragma unroll(wide ? cache_block / rows : 1)
  for (int i = 0; i < cache_block / rows; ++i) {
    bring_piece<wide>(to.piece(row + first + rows * i, p), values + rows * i * step,
                      first + rows * i < count ? dim - p * piece_size : 0);
  }
}
/// A warp brings 16 rows; row r begins `begin` elements behind `from` in lane r and in lane r + 16,
/// and does not exist where that is negative. Rows may begin anywhere.
template <int D>
DEVICE void bring_rows(RowTile<D> to, int row, const Bf16* from, std::int64_t begin, int dim) {
  constexpr int pieces = RowTile<D>::pieces;
  const int first = lane_of_warp() / pieces, p = lane_of_warp() % pieces;
#pragma unroll
  for (int i = 0; i < D / 16; ++i) {
    const int r = first + 32 / pieces * i;
    const std::int64_t at = shuffle(begin, r);
    const Bf16* const piece = from + at + p * piece_size;
    const int count = at >= 0 ? dim - p * piece_size : 0;
    if (count >= piece_size && aligned16(piece)) {
      bring_piece<true>(to.piece(row + r, p), piece, count);
    } else {
      bring_piece<false>(to.piece(row + r, p), piece, count);
    }
  }
}

}  // namespace fst::kernels::gpu
