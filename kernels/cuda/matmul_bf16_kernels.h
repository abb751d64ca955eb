#pragma once

#include "kernels/cuda/matmul_bf16_product.h"
#include "kernels/cuda/pieces.h"
#include "kernels/cuda/quad.h"

/// What the kernels of bfloat16 products share.
namespace fst::kernels {
namespace gpu {

/// Inner indices of a step of those with many rows, and blocks.
constexpr int step_depth = 64;
constexpr int step_blocks = step_depth / tensor_block;

/// Chain i of all matrices' chains.
DEVICE Range chain_of(const Bf16Product& p, int i) {
  const int matrix = i / p.leaves, leaf = i % p.leaves;
  const int begin = p.starts[matrix];
  const std::int64_t size = p.starts[matrix + 1] - begin;
  return {begin + static_cast<int>(leaf * size / p.leaves),
          begin + static_cast<int>((leaf + 1) * size / p.leaves)};
}

/// Steps of the chains [first, behind) of a product, in order. Empty chains have none.
class ChainSteps {
 public:
  DEVICE ChainSteps(const Bf16Product& p, int first, int behind)
      : p_(p), chain_(first - 1), behind_(behind), rest_{0, 0} {
    advance();
  }
  DEVICE bool more() const { return chain_ < behind_; }
  DEVICE Range take() {
    const int end = rest_.begin + step_depth;
    const Range step{rest_.begin, end < rest_.end ? end : rest_.end};
    rest_.begin = step.end;
    advance();
    return step;
  }

 private:
  DEVICE void advance() {
    while (rest_.begin >= rest_.end && chain_ < behind_) {
      if (++chain_ < behind_) rest_ = chain_of(p_, chain_);
    }
  }
  const Bf16Product& p_;
  int chain_, behind_;
  Range rest_;
};

/// First row and column of a tile, or of a part of it.
struct Origin {
  int row, column;
};
/// Tile number `tile`: tall groups of 16 rows of tiles, so that what runs together shares operands.
template <int height, int width>
DEVICE Origin origin_of_tile(int rows, int columns, int tile) {
  constexpr int group = 16;
  const int across = static_cast<int>(parts_of(columns, width));
  const int down = static_cast<int>(parts_of(rows, height));
  const int first = tile / (group * across) * group, within = tile % (group * across);
  const int tall = down - first < group ? down - first : group;
  return {(first + within % tall) * height, within / tall * width};
}

/// The first `count` of four elements (any count), zeros behind.
DEVICE float4 read4_upto(const Bf16* p, int count) {
  return {count > 0 ? widened(p[0]) : 0.0f, count > 1 ? widened(p[1]) : 0.0f,
          count > 2 ? widened(p[2]) : 0.0f, count > 3 ? widened(p[3]) : 0.0f};
}
DEVICE void write4_upto(Bf16* p, float4 v, int count) {
  const Bf16 x = narrowed(v.x), y = narrowed(v.y), z = narrowed(v.z), w = narrowed(v.w);
  if (count >= 4 && reinterpret_cast<std::uintptr_t>(p) % sizeof(uint2) == 0) {
    *reinterpret_cast<uint2*>(p) = {x.bits | static_cast<unsigned>(y.bits) << 16,
                                    z.bits | static_cast<unsigned>(w.bits) << 16};
    return;
  }
  if (count > 0) p[0] = x;
  if (count > 1) p[1] = y;
  if (count > 2) p[2] = z;
  if (count > 3) p[3] = w;
}

template <class Y>
DEVICE void update4(Y* to, float4 total, int count, bool adds) {
  if (adds) total = gpu::add(read4_upto(to, count), total);
  write4_upto(to, total, count);
}
/// Writes the sums of four columns of a row: bias, old contents, rounding.
DEVICE void finish(const Bf16Product& p, std::int64_t row, int column, float4 total) {
  const int count = p.columns - column;
  if (p.bias != nullptr) total = gpu::add(total, read4_upto(p.bias + column, count));
  const std::int64_t at = row * p.ldc + column;
  if (p.narrow) {
    update4(static_cast<Bf16*>(p.c) + at, total, count, p.add);
  } else {
    update4(static_cast<float*>(p.c) + at, total, count, p.add);
  }
}

/// Writes one sum.
DEVICE void finish(const Bf16Product& p, std::int64_t row, int column, float total) {
  if (p.bias != nullptr) total = total + p.bias[column];
  const std::int64_t at = row * p.ldc + column;
  if (p.narrow) {
    Bf16& to = static_cast<Bf16*>(p.c)[at];
    to = narrowed(p.add ? widened(to) + total : total);
  } else {
    float& to = static_cast<float*>(p.c)[at];
    to = p.add ? to + total : total;
  }
}

}  // namespace gpu
}  // namespace fst::kernels
