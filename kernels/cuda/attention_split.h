#pragma once

#include "kernels/cuda/attention_unit.h"

/// What the kernels of decoding share: a block's part of a sequence with a single row, one split of
/// the keys and some query heads of one KV head, and where its result goes.
namespace fst::kernels::gpu::forward {

inline constexpr int split_blocks = split_keys / cache_block;

/// Keys [first, last) and heads [head, head + count). Nothing where first >= last, or where the
/// sequence has another number of rows than one.
struct Part {
  Sequence sequence;
  int index, kv_head, head, count, first, last, visible;
};

/// G: query heads of a block, of which the last ones may not exist.
template <int G, class T>
dim3 grid_of_parts(const Arguments<T>& a) {
  const PagedBatch& batch = a.batch;
  const std::int64_t chunks = parts_of(batch.heads / batch.kv_heads, G);
  return dim3(static_cast<unsigned>(batch.sequences * batch.kv_heads),
              static_cast<unsigned>(a.splits * chunks));
}
template <int G, class T>
DEVICE Part part_of_block(const Arguments<T>& a) {
  const int kv_heads = static_cast<int>(a.batch.kv_heads);
  const int group = static_cast<int>(a.batch.heads) / kv_heads, chunks = (group + G - 1) / G;
  const int block = static_cast<int>(blockIdx.x), other = static_cast<int>(blockIdx.y);
  const int chunk = other % chunks, rest = group - chunk * G;
  Part part{};
  part.index = block / kv_heads;
  part.kv_head = block % kv_heads;
  part.sequence = sequence_of(a.batch, part.index);
  part.head = part.kv_head * group + chunk * G;
  part.count = rest < G ? rest : G;
  part.visible = part.sequence.context + 1;
  part.first = other / chunks * split_keys;
  part.last = part.visible < part.first + split_keys ? part.visible : part.first + split_keys;
  return part;
}
/// Element 0 of the first head's query.
template <class T>
DEVICE const T* queries_of(const Arguments<T>& a, const Part& part) {
  return a.q.data + part.sequence.first_row * a.q.stride + part.head * a.batch.dim;
}

/// Element h of head part.head + g, and with element 0 what there is of the head's softmax.
template <class T>
DEVICE void keep_output(float out, float m, float total, const Arguments<T>& a, const Part& part,
                        int h, int g) {
  const std::int64_t row = part.sequence.first_row, dim = a.batch.dim, head = part.head + g;
  if (part.visible <= split_keys) {
    a.out.data[row * a.out.stride + head * dim + h] = narrowed_to<T>(out * (1.0f / total));
    if (h == 0) a.lse[row * a.batch.heads + head] = m + log(total);
    return;
  }
  const std::int64_t slot =
      (part.index * a.batch.heads + head) * a.splits + part.first / split_keys;
  a.values[slot * dim + h] = out;
  if (h != 0) return;
  a.states[2 * slot] = m;
  a.states[2 * slot + 1] = total;
}

}  // namespace fst::kernels::gpu::forward
