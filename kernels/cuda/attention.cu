#include "kernels/attention.h"
#include "kernels/cuda/attention_work.h"

namespace fst::kernels {

namespace {

using namespace gpu;

constexpr int threads = 128;

/// Block (x, y): sequence x, and of the cache blocks that its rows touch and the KV heads, item y,
/// y + gridDim.y, ... Sixteen tokens at a time, so that K is written in whole lines.
template <class T>
KERNEL(threads, 8)
write_kernel(T* cache, ConstRows<T> k, ConstRows<T> v, PagedBatch batch) {
  const Sequence sequence = sequence_of(batch, blockIdx.x);
  if (sequence.rows == 0) return;
  const std::int64_t dim = batch.dim;
  const int first = sequence.context / cache_block;
  const int blocks = (sequence.context + sequence.rows - 1) / cache_block - first + 1;
  const std::int64_t items = blocks * batch.kv_heads;
  for (std::int64_t item = blockIdx.y; item < items; item += gridDim.y) {
    const std::int64_t block = first + item / batch.kv_heads, head = item % batch.kv_heads;
    // Row of the batch that slot 0 would hold, and the slots that rows of the batch go to.
    const std::int64_t row = sequence.first_row + block * cache_block - sequence.context;
    const std::int64_t behind = sequence.first_row + sequence.rows - row;
    const std::int64_t begin = row < sequence.first_row ? sequence.first_row - row : 0;
    const std::int64_t slots = (behind < cache_block ? behind : cache_block) - begin;
    const std::int64_t place = sequence.table[block] * batch.kv_heads + head;
    T* const keys = cache + place * 2 * cache_block * dim;
    T* const values = keys + cache_block * dim;
    for (std::int64_t i = threadIdx.x; i < slots * dim; i += threads) {
      const std::int64_t slot = begin + i % slots, column = i / slots;
      keys[column * cache_block + slot] = k.data[(row + slot) * k.stride + head * dim + column];
    }
    for (std::int64_t i = threadIdx.x; i < slots * dim; i += threads) {
      const std::int64_t slot = begin + i / dim, column = i % dim;
      values[slot * dim + column] = v.data[(row + slot) * v.stride + head * dim + column];
    }
  }
}

template <class T>
void write(const Cuda& cuda, T* cache, ConstRows<T> k, ConstRows<T> v, const PagedBatch& batch) {
  if (batch.sequences <= 0 || batch.max_blocks <= 0) return;
  launch(write_kernel<T>, attention_grid(batch.sequences, batch.max_blocks * batch.kv_heads),
         dim3(threads), 0, cuda.stream, cache, k, v, batch);
}

}  // namespace

template <>
void kv_write(const Cuda& cuda, float* cache, ConstRows<float> k, ConstRows<float> v,
              const PagedBatch& batch) {
  write(cuda, cache, k, v, batch);
}

template <>
void kv_write(const Cuda& cuda, Bf16* cache, ConstRows<Bf16> k, ConstRows<Bf16> v,
              const PagedBatch& batch) {
  write(cuda, cache, k, v, batch);
}

}  // namespace fst::kernels
