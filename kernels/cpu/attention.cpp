#include "kernels/attention.h"

#include <algorithm>
#include <atomic>
#include <memory>
#include <new>
#include <vector>

#include "kernels/cpu/attention_isa.h"
#include "kernels/cpu/dispatch.h"
#include "kernels/thread_pool.h"

namespace fst::kernels {

namespace {

// Multiply-adds below which waking a second thread costs more than the work.
constexpr std::int64_t grain_work = 1 << 17;

struct Free {
  void operator()(float* p) const { ::operator delete[](p, std::align_val_t{64}); }
};

/// Calls `f(unit, scratch)` for all units. Threads take the next unit when they are free, because
/// units differ in size; `work` bounds the number of threads.
template <class F>
void for_units(const Cpu& cpu, std::int64_t units, std::int64_t work, std::int64_t scratch_floats,
               F&& f) {
  const std::int64_t threads = cpu.pool == nullptr ? 1 : cpu.pool->threads();
  const std::int64_t parts = std::clamp<std::int64_t>(work / grain_work, 1, threads);
  std::atomic<std::int64_t> next{0};
  parallel_for(cpu, parts, 1, [&](std::int64_t, std::int64_t) {
    const auto bytes = static_cast<std::size_t>(scratch_floats) * sizeof(float);
    const std::unique_ptr<float[], Free> scratch(
        static_cast<float*>(::operator new[](bytes, std::align_val_t{64})));
    for (;;) {
      const std::int64_t unit = next.fetch_add(1, std::memory_order_relaxed);
      if (unit >= units) return;
      f(unit, scratch.get());
    }
  });
}

/// Multiply-adds of one product of the forward pass.
std::int64_t pair_work(const PagedBatch& batch) {
  std::int64_t pairs = 0;
  for (std::int64_t s = 0; s < batch.sequences; ++s) {
    const std::int64_t rows = batch.cu_seqlens[s + 1] - batch.cu_seqlens[s];
    pairs += rows * (batch.context[s] + (rows + 1) / 2);
  }
  return pairs * batch.heads * batch.dim;
}

/// The keys and values of one row, all heads, to token `slot` of a block.
template <class T>
void write_token(T* cache, std::int64_t block, std::int64_t slot, const T* k, const T* v,
                 const PagedBatch& batch) {
  const std::int64_t dim = batch.dim, block_size = attention_block * dim;
  for (std::int64_t head = 0; head < batch.kv_heads; ++head, k += dim, v += dim) {
    T* const keys = cache + (block * batch.kv_heads + head) * 2 * block_size;
    T* const values = keys + block_size + slot * dim;
    for (std::int64_t h = 0; h < dim; ++h) keys[h * attention_block + slot] = k[h];
    for (std::int64_t h = 0; h < dim; ++h) values[h] = v[h];
  }
}

}  // namespace

template <class Exec, class T>
void kv_write(const Exec& cpu, T* cache, ConstRows<T> k, ConstRows<T> v, const PagedBatch& batch) {
  const std::int64_t grain = std::max<std::int64_t>(1, batch.sequences / 16);
  parallel_for(cpu, batch.sequences, grain, [&](std::int64_t s, std::int64_t last) {
    for (; s < last; ++s) {
      for (std::int64_t row = batch.cu_seqlens[s]; row < batch.cu_seqlens[s + 1]; ++row) {
        const std::int64_t position = batch.context[s] + row - batch.cu_seqlens[s];
        const std::int64_t in_table = s * batch.max_blocks + position / attention_block;
        write_token(cache, batch.block_table[in_table], position % attention_block,
                    k.data + row * k.stride, v.data + row * v.stride, batch);
      }
    }
  });
}

template <class Exec, class T>
void attention_forward(const Exec& cpu, Rows<T> out, float* lse, ConstRows<T> q, const T* cache,
                       const PagedBatch& batch, float scale) {
  const std::int64_t group = batch.heads / batch.kv_heads;
  std::vector<ForwardUnit> units;
  for (std::int64_t s = 0; s < batch.sequences; ++s) {
    const std::int64_t pairs = (batch.cu_seqlens[s + 1] - batch.cu_seqlens[s]) * group;
    for (std::int64_t head = 0; head < batch.kv_heads; ++head) {
      for (std::int64_t begin = 0; begin < pairs; begin += attention_pairs) {
        units.push_back({s, head, begin, std::min(begin + attention_pairs, pairs)});
      }
    }
  }
  for_isa(cpu, [&]<Isa isa>() {
    for_units(cpu, static_cast<std::int64_t>(units.size()), 2 * pair_work(batch),
              AttentionForward<isa, T>::scratch(batch.dim), [&](std::int64_t u, float* scratch) {
                AttentionForward<isa, T>::run(out, lse, q, cache, batch, scale,
                                              units[static_cast<std::size_t>(u)], scratch);
              });
  });
}

template <class Exec, class T>
void attention_backward(const Exec& cpu, const AttentionGradients<T>& gradients, ConstRows<T> q,
                        const T* cache, const PagedBatch& batch, float scale) {
  std::int64_t longest = 0;
  for (std::int64_t s = 0; s < batch.sequences; ++s) {
    longest = std::max<std::int64_t>(longest, batch.cu_seqlens[s + 1] - batch.cu_seqlens[s]);
  }
  for_isa(cpu, [&]<Isa isa>() {
    for_units(cpu, batch.sequences * batch.kv_heads, 5 * pair_work(batch),
              AttentionBackward<isa, T>::scratch(batch, longest),
              [&](std::int64_t u, float* scratch) {
                AttentionBackward<isa, T>::run(gradients, q, cache, batch, scale,
                                               u / batch.kv_heads, u % batch.kv_heads, scratch);
              });
  });
}

template void kv_write(const Cpu&, float*, ConstRows<float>, ConstRows<float>, const PagedBatch&);
template void kv_write(const Cpu&, Bf16*, ConstRows<Bf16>, ConstRows<Bf16>, const PagedBatch&);
template void attention_forward(const Cpu&, Rows<float>, float*, ConstRows<float>, const float*,
                                const PagedBatch&, float);
template void attention_forward(const Cpu&, Rows<Bf16>, float*, ConstRows<Bf16>, const Bf16*,
                                const PagedBatch&, float);
template void attention_backward(const Cpu&, const AttentionGradients<float>&, ConstRows<float>,
                                 const float*, const PagedBatch&, float);
template void attention_backward(const Cpu&, const AttentionGradients<Bf16>&, ConstRows<Bf16>,
                                 const Bf16*, const PagedBatch&, float);

}  // namespace fst::kernels
