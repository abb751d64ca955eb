#pragma once

#include "kernels/attention.h"

namespace fst::kernels {

/// Row-head pairs of one KV head that a unit of the forward pass handles together, so that a tile
/// of keys and values is read from the outer caches once for all of them.
inline constexpr std::int64_t attention_pairs = 32;

/// One unit of the forward pass: the pairs [begin, end) of a sequence and KV head; pair i is row
/// i / group, query head i % group of the KV head's group.
struct ForwardUnit {
  std::int64_t sequence = 0, kv_head = 0, begin = 0, end = 0;
};

template <Isa isa, class T>
struct AttentionForward {
  static std::int64_t scratch(std::int64_t dim);  // floats, aligned to 64 bytes
  static void run(Rows<T> out, float* lse, ConstRows<T> q, const T* cache, const PagedBatch& batch,
                  float scale, const ForwardUnit& unit, float* scratch);
};

template <Isa isa, class T>
struct AttentionBackward {
  /// For a batch whose longest sequence has `longest` rows.
  static std::int64_t scratch(const PagedBatch& batch, std::int64_t longest);
  /// One sequence and KV head.
  static void run(const AttentionGradients<T>& gradients, ConstRows<T> q, const T* cache,
                  const PagedBatch& batch, float scale, std::int64_t sequence, std::int64_t kv_head,
                  float* scratch);
};

}  // namespace fst::kernels
