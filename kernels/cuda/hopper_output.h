#pragma once

#include "kernels/cuda/hopper_tiles.h"

/// What warp groups do with their tiles' sums.
namespace fst::kernels::gpu {

/// First row of a thread's sums within its tile; the others are eight below.
DEVICE int row_of_thread() {
  return static_cast<int>(threadIdx.x) / 32 * 16 + static_cast<int>(threadIdx.x) % 32 / 4;
}

/// visit(row, column, four sums of neighbouring columns) for all of the thread's sums, in rows and
/// columns of the tile.
template <class Sums, class Visit>
DEVICE void each_quad_of_group(Sums& sum, Visit visit) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int row = row_of_thread() + lane % 2 * 8, column = lane % 4 / 2 * 4;
#pragma unroll
  for (int i = 0; i < Sums::count; i += 4) {
    const float v[4] = {sum.at(i), sum.at(i + 1), sum.at(i + 2), sum.at(i + 3)};
    visit(row, column + 2 * i, quad_of(v));
  }
}

/// Word i of lane q of four lanes becomes word q of lane i.
DEVICE void transpose(std::uint32_t (&words)[4]) {
  const bool odd = threadIdx.x % 2 == 1, high = threadIdx.x % 4 >= 2;
#pragma unroll
  for (int i = 0; i < 4; i += 2) {
    const std::uint32_t other = shuffle_xor(odd ? words[i] : words[i + 1], 1);
    words[i] = odd ? other : words[i];
    words[i + 1] = odd ? words[i + 1] : other;
  }
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const std::uint32_t other = shuffle_xor(high ? words[i] : words[i + 2], 2);
    words[i] = high ? other : words[i];
    words[i + 2] = high ? words[i + 2] : other;
  }
}

/// Whether eight elements can be accessed at once; where all outputs of a tile can, it is known for
/// those that exist.
template <bool whole>
DEVICE bool at_once(const Bf16* p, int count) {
  return count >= 8 && (whole || aligned16(p));
}
/// The first `count` of eight elements (any count; `whole`: 0 or more than 7) as pairs, zeros
/// behind.
template <bool whole>
DEVICE void read_pairs(std::uint32_t (&to)[4], const Bf16* from, int count) {
  if (at_once<whole>(from, count)) {
    const uint4 all = *reinterpret_cast<const uint4*>(from);
    to[0] = all.x, to[1] = all.y, to[2] = all.z, to[3] = all.w;
    return;
  }
  if constexpr (!whole) {
#pragma unroll 1
    for (int i = 7; i >= 0; --i) {  // pushes one in from below
#pragma unroll
      for (int w = 3; w > 0; --w) to[w] = to[w] << 16 | to[w - 1] >> 16;
      to[0] = to[0] << 16 | (i < count ? from[i].bits : 0u);
    }
  }
}
template <bool whole>
DEVICE void write_pairs(Bf16* to, std::uint32_t (&from)[4], int count) {
  if (at_once<whole>(to, count)) {
    *reinterpret_cast<uint4*>(to) = {from[0], from[1], from[2], from[3]};
    return;
  }
  if constexpr (!whole) {
#pragma unroll 1
    for (int i = 0; i < 8 && i < count; ++i) {  // takes one out from below
      to[i] = Bf16{static_cast<std::uint16_t>(from[0])};
#pragma unroll
      for (int w = 0; w < 4; ++w) from[w] = from[w] >> 16 | (w < 3 ? from[w + 1] << 16 : 0u);
    }
  }
}

/// Four pairs of sums of a row, eight columns apart from `column` on, with bias, old contents
/// (which are in `words`) and rounding: sums first, first + 4, ...
template <bool whole, class Sums>
DEVICE void finish_pairs(std::uint32_t (&words)[4], Sums& sum, int first, const Bf16Product& p,
                         int column) {
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    float low = sum.at(first + 4 * i), high = sum.at(first + 4 * i + 1);
    const int at = column + 8 * i;
    if (p.bias != nullptr) {
      low = low + (whole || at < p.columns ? p.bias[at] : 0.0f);
      high = high + (whole || at + 1 < p.columns ? p.bias[at + 1] : 0.0f);
    }
    if (p.add) {
      low = float_of(words[i] << 16) + low;
      high = float_of(words[i] & 0xffff0000u) + high;
    }
    words[i] = narrowed_pair(low, high);
  }
}

/// Writes a tile of bfloat16 outputs. Four lanes have pairs of the same 32 columns of a row; they
/// exchange, so that each writes eight columns side by side.
template <bool whole, class Sums>
DEVICE void finish_narrow_tile(Sums& sum, const Bf16Product& p, Origin at) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int row = at.row + row_of_thread() + 8 * half, column = at.column + lane % 4 * 8;
    Bf16* const to = static_cast<Bf16*>(p.c) + row * p.ldc + column;
    const int count = row < p.rows ? p.columns - column : 0;
    // Constants where the tile is whole.
    const auto left = [&](int i) { return whole && count > 0 ? 8 : count - 2 * i; };
#pragma unroll
    for (int i = 0; i < Sums::count; i += 16) {
      std::uint32_t words[4] = {};
      if (p.add) {
        read_pairs<whole>(words, to + 2 * i, left(i));
        transpose(words);
      }
      finish_pairs<whole>(words, sum, i + 2 * half, p, at.column + 2 * i + lane % 4 * 2);
      transpose(words);
      write_pairs<whole>(to + 2 * i, words, left(i));
    }
  }
}

template <bool whole, class Sums>
DEVICE void finish_wide_tile(Sums& sum, const Bf16Product& p, Origin at) {
  each_quad_of_group(sum, [&](int row, int column, float4 total) {
    row += at.row, column += at.column;
    if (row >= p.rows) return;
    if constexpr (whole) {
      float* const to = static_cast<float*>(p.c) + row * p.ldc + column;
      if (p.bias != nullptr) total = gpu::add(total, read4_upto(p.bias + column, 4));
      write4(to, p.add ? gpu::add(read4(to), total) : total);
    } else {
      finish(p, row, column, total);
    }
  });
}

template <bool whole, class Sums>
DEVICE void finish_group_tile(Sums& sum, const Bf16Product& p, Origin at) {
  p.narrow ? finish_narrow_tile<whole>(sum, p, at) : finish_wide_tile<whole>(sum, p, at);
}
/// Writes a tile of 128 x n outputs. Most have all columns, and rows that accesses of 16 bytes fit.
template <int n>
DEVICE void finish_group_tile(GroupSums<n>& sum, const Bf16Product& p, Origin at) {
  const bool whole = at.column + n <= p.columns && p.ldc % 8 == 0 && aligned16(p.c);
  whole ? finish_group_tile<true>(sum, p, at) : finish_group_tile<false>(sum, p, at);
}

}  // namespace fst::kernels::gpu
