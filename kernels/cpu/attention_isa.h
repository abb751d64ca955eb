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

template <Isa isa>
struct Attention {
  static std::int64_t forward_scratch(std::int64_t dim);  // floats, aligned to 64 bytes
  static void forward(Rows<float> out, float* lse, ConstRows<float> q, const float* cache,
                      const PagedBatch& batch, float scale, const ForwardUnit& unit,
                      float* scratch);
  static std::int64_t backward_scratch(std::int64_t dim);
  /// One sequence and KV head.
  static void backward(const AttentionGradients<float>& gradients, ConstRows<float> q,
                       const float* cache, const PagedBatch& batch, float scale,
                       std::int64_t sequence, std::int64_t kv_head, float* scratch);
};

}  // namespace fst::kernels
