#pragma once

#include "kernels/cuda/attention_work.h"

/// What a block of the forward pass takes at a time.
namespace fst::kernels::gpu::forward {

inline constexpr int most_pairs = 64;
inline constexpr int tile_keys = static_cast<int>(attention_tile);
inline constexpr int split_keys = static_cast<int>(attention_split);
inline constexpr int tile_blocks = tile_keys / cache_block;

template <class T>
struct Arguments {
  Rows<T> out;
  float* lse;
  ConstRows<T> q;
  const T* cache;
  PagedBatch batch;
  float scale;
  std::int64_t splits;  // that a sequence can have
  float* values;        // [sequences, heads, splits, dim] and
  float* states;        // [sequences, heads, splits, 2]: m and sum, of sequences with one row
  float* joined;        // of the others, for each block: what its splits so far are joined to
};

/// Pairs [begin, begin + pairs) of a sequence and KV head, pair i being row i / group, query head
/// i % group; and the keys [0, last) that this block walks.
struct Unit {
  Sequence sequence;
  int kv_head, group, begin, pairs, last;

  DEVICE int row(int i) const { return (begin + i) / group; }
  DEVICE int head(int i) const { return kv_head * group + (begin + i) % group; }
  /// Keys that pair i sees.
  DEVICE int visible(int i) const { return i < pairs ? sequence.context + row(i) + 1 : 0; }
};

/// Unit `i` of block column x; no pairs where there are no more. All rows of a sequence that has
/// two or more, in groups of pairs, those with most keys first.
DEVICE void find_unit(Unit& unit, const PagedBatch& batch, int i) {
  const int kv_heads = static_cast<int>(batch.kv_heads);
  unit.kv_head = static_cast<int>(blockIdx.x) % kv_heads;
  unit.sequence = sequence_of(batch, blockIdx.x / kv_heads);
  unit.group = static_cast<int>(batch.heads) / kv_heads;
  const int pairs = unit.sequence.rows * unit.group;
  const int groups = (pairs + most_pairs - 1) / most_pairs;
  unit.pairs = 0;
  if (unit.sequence.rows == 1 || i >= groups) return;
  unit.begin = (groups - 1 - i) * most_pairs;
  unit.pairs = pairs - unit.begin < most_pairs ? pairs - unit.begin : most_pairs;
  unit.last = unit.visible(unit.pairs - 1);
}

/// The units of a block, one after the other.
class Units {
 public:
  static constexpr bool several = true;  // units of a block, splits of a unit

  struct Shared {
    Unit unit;
    int next;       // unit of the block
    float* joined;  // the block's part of the arguments' array: not in registers, which are full
  };

  /// `joined_floats`: that a block takes of the arguments' array.
  template <class T>
  DEVICE Units(Shared& s, const Arguments<T>& a, int joined_floats) : s_(s), batch_(a.batch) {
    if (threadIdx.x != 0) return;
    s.next = static_cast<int>(blockIdx.y);
    const std::int64_t block = static_cast<std::int64_t>(blockIdx.y) * gridDim.x + blockIdx.x;
    s.joined = a.joined + block * joined_floats;
  }
  DEVICE bool next() {
    sync_block();  // nobody needs the unit before
    if (threadIdx.x == 0) {
      find_unit(s_.unit, batch_, s_.next);
      s_.next += static_cast<int>(gridDim.y);
    }
    sync_block();
    return s_.unit.pairs != 0;
  }
  DEVICE int first() const { return 0; }
  DEVICE int keys() const { return s_.unit.last; }

  /// Columns are KV heads of sequences, with at most as many units as their longest could have.
  template <class T>
  static dim3 grid(const Arguments<T>& a) {
    const PagedBatch& batch = a.batch;
    const std::int64_t longest = batch.max_blocks * attention_block;
    return attention_grid(batch.sequences * batch.kv_heads,
                          parts_of(longest * (batch.heads / batch.kv_heads), most_pairs));
  }

 private:
  Shared& s_;
  const PagedBatch& batch_;
};

}  // namespace fst::kernels::gpu::forward
