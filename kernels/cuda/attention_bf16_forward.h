#pragma once

#include "kernels/cuda/attention_bf16_tiles.h"
#include "kernels/cuda/attention_unit.h"

/// How tiles of keys and values come to a block of the forward pass by tensor cores: in turn,
/// through a ring of three, two of them under way while one is used.
namespace fst::kernels::gpu::forward {

inline constexpr int unit_warps = most_pairs / 16;
inline constexpr int unit_threads = 32 * unit_warps;
inline constexpr int ring_tiles = 3;

template <int D>
struct alignas(128) TileRing {
  Bf16 tiles[ring_tiles][tile_keys * D];
};

/// The tile that is used, and the one that is filled next.
template <int D>
class Turn {
 public:
  DEVICE explicit Turn(TileRing<D>& ring) : ring_(ring), at_(0) {}
  /// The next tile, which all threads have filled and may read until they call this again.
  DEVICE Bf16* take() {
    copy_async_wait<ring_tiles - 2>();
    sync_block();  // the copies of all are there, and nobody reads the tile that is filled next
    Bf16* const tile = ring_.tiles[at_];
    at_ = at_ + 1 == ring_tiles ? 0 : at_ + 1;
    return tile;
  }
  /// The tile used before the one that is.
  DEVICE Bf16* free() const { return ring_.tiles[at_ + 1 == ring_tiles ? 0 : at_ + 1]; }

 private:
  TileRing<D>& ring_;
  int at_;
};

/// Elements of a head: a constant where the cache is wide.
template <int D, bool wide>
DEVICE int dim_of(const Arguments<Bf16>& a) {
  return wide ? D : static_cast<int>(a.batch.dim);
}

/// A warp's part of the tiles of a unit: two of the eight cache blocks. Where the first one begins
/// behind the unit's keys, neither is brought; where only the second does, it is zeros.
template <int D, bool wide>
class Feed {
 public:
  static constexpr int count = tile_blocks / unit_warps;

  DEVICE Feed(const Arguments<Bf16>& a, const Unit& unit, int warp)
      : a_(a), unit_(unit), first_(count * warp), key_(first_ * cache_block) {
    look_up();
  }
  DEVICE void bring_keys(Bf16* to) const {
    if (key_ < unit_.last) {
#pragma unroll
      for (int i = 0; i < count; ++i) {
        gpu::bring_keys<wide>(KeyTile<D>{to}, first_ + i, keys(i), exists(i) ? dim() : 0);
      }
    }
    copy_async_commit();
  }
  /// Those of the same keys, and goes on to the next tile.
  DEVICE void bring_values(Bf16* to) {
    if (key_ < unit_.last) {
#pragma unroll
      for (int i = 0; i < count; ++i) {
        gpu::bring_values<wide>(RowTile<D>{to}, (first_ + i) * cache_block, keys(i), dim(),
                                unit_.last - key_ - i * cache_block);
      }
    }
    copy_async_commit();
    key_ += tile_keys;
    look_up();
  }

 private:
  DEVICE int dim() const {
    return dim_of<D, wide>(a_);
  }
  DEVICE bool exists(int i) const {
    return key_ + i * cache_block < unit_.last;
  }
  DEVICE const Bf16* keys(int i) const {
    const std::int64_t head = blocks_[i] * a_.batch.kv_heads + unit_.kv_head;
    return a_.cache + head * (2 * cache_block * dim());
  }
  /// The next tile's blocks, early: their numbers are there when it is brought.
  DEVICE void look_up() {
#pragma unroll
    for (int i = 0; i < count; ++i) {
      blocks_[i] = exists(i) ? unit_.sequence.table[key_ / cache_block + i] : 0;
    }
  }
  const Arguments<Bf16>& a_;
  const Unit& unit_;
  int first_, key_;
  std::int32_t blocks_[count];
};

}  // namespace fst::kernels::gpu::forward
