#pragma once

#include "kernels/cuda/attention_softmax.h"
#include "kernels/cuda/attention_unit.h"

/// What the schedules of decoding share: a block's part of a sequence with a single row, one split
/// of the keys and some query heads of one KV head, and where its result goes.
namespace fst::kernels::gpu::forward {

inline constexpr int split_blocks = split_keys / cache_block;

/// `keys` keys from `first` on, and the heads [head, head + count). Nothing where there are no
/// keys, or where the sequence has another number of rows than one.
struct Part {
  Sequence sequence;
  int index, kv_head, head, count, first, keys, visible;
};

/// The part of a block. G: query heads, of which the last ones may not exist.
template <int G>
class Parts {
 public:
  static constexpr bool several = false;  // a block has one part, its keys lie within a split

  template <class T>
  DEVICE explicit Parts(const Arguments<T>& a) {
    const int kv_heads = static_cast<int>(a.batch.kv_heads);
    const int group = static_cast<int>(a.batch.heads) / kv_heads, chunks = (group + G - 1) / G;
    const int block = static_cast<int>(blockIdx.x), other = static_cast<int>(blockIdx.y);
    const int chunk = other % chunks, rest = group - chunk * G;
    part_.index = block / kv_heads;
    part_.kv_head = block % kv_heads;
    part_.sequence = sequence_of(a.batch, part_.index);
    part_.head = part_.kv_head * group + chunk * G;
    part_.count = rest < G ? rest : G;
    part_.visible = part_.sequence.context + 1;
    part_.first = other / chunks * split_keys;
    const int left = part_.visible - part_.first;
    part_.keys = left < split_keys ? left : split_keys;
  }
  DEVICE bool next() const { return part_.sequence.rows == 1 && part_.keys > 0; }
  DEVICE int first() const { return part_.first; }
  DEVICE int keys() const { return part_.keys; }
  DEVICE const Part& part() const { return part_; }

  template <class T>
  static dim3 grid(const Arguments<T>& a) {
    const PagedBatch& batch = a.batch;
    const std::int64_t chunks = parts_of(batch.heads / batch.kv_heads, G);
    return dim3(static_cast<unsigned>(batch.sequences * batch.kv_heads),
                static_cast<unsigned>(a.splits * chunks));
  }

 private:
  Part part_{};
};
/// Element 0 of the first head's query.
template <class T>
DEVICE const T* queries_of(const Arguments<T>& a, const Part& part) {
  return a.q.data + part.sequence.first_row * a.q.stride + part.head * a.batch.dim;
}

/// Element h of head part.head + g, and with element 0 what there is of the head's softmax.
template <class T>
DEVICE void keep_output(float out, const Softmax& softmax, const Arguments<T>& a, const Part& part,
                        int h, int g) {
  const std::int64_t row = part.sequence.first_row, dim = a.batch.dim, head = part.head + g;
  if (part.visible <= split_keys) {
    a.out.data[row * a.out.stride + head * dim + h] = narrowed_to<T>(out * softmax.normal());
    if (h == 0) a.lse[row * a.batch.heads + head] = softmax.log_sum();
    return;
  }
  const std::int64_t slot =
      (part.index * a.batch.heads + head) * a.splits + part.first / split_keys;
  a.values[slot * dim + h] = out;
  if (h != 0) return;
  a.states[2 * slot] = softmax.m;
  a.states[2 * slot + 1] = softmax.sum;
}

}  // namespace fst::kernels::gpu::forward
