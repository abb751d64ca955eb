#include "kernels/cuda/attention_work.h"
#include "kernels/cuda/heads.h"
#include "kernels/prepare_heads.h"

namespace fst::kernels {

namespace {

using namespace gpu;

/// A half-warp takes a head of a row: a query, a key or a value, in this order.
template <class T>
KERNEL(head_threads, 8)
prepare_kernel(PreparedHeads<T> to, ConstRows<T> qkv, float eps, HeadRows queries, HeadRows keys,
               PagedBatch batch) {
  const std::int64_t index =
      static_cast<std::int64_t>(blockIdx.x) * heads_per_block + half_warp_of();
  const std::int64_t all = queries.heads + 2 * keys.heads, dim = queries.dim;
  const bool inside = index < queries.rows * all;
  const std::int64_t row = inside ? index / all : 0, head = inside ? index % all : 0;
  const bool query = head < queries.heads, value = head >= queries.heads + keys.heads;
  const T* const in = qkv.data + row * qkv.stride + head * dim;
  const float* const weight = query ? queries.weight : keys.weight;
  const std::int64_t kv_head = query ? 0 : (head - queries.heads) % keys.heads;
  float r = 1.0f;
  if (queries.weight != nullptr) {
    r = head_rstd(in, inside && !value ? dim : 0, dim, eps);
    if (inside && !value && lane_of() == 0) {
      (query ? to.q_rstd[row * queries.heads + head] : to.k_rstd[row * keys.heads + kv_head]) = r;
    }
  }
  if (!inside) return;
  const std::int64_t table = queries.positions[row] * (dim / 2);
  if (query) {
    T* const q = to.q + (row * queries.heads + head) * dim;
    for (std::int64_t i = lane_of(); i < dim / 2; i += lanes) {
      store_pair(q, turned(in, r, weight, queries, table, i), i, dim / 2);
    }
    return;
  }
  const int place = batch.context[row], slot = place % cache_block;
  const std::int64_t block = batch.block_table[row * batch.max_blocks + place / cache_block];
  T* const cached = to.cache + (block * batch.kv_heads + kv_head) * 2 * cache_block * dim;
  if (value) {
    T* const v = cached + (cache_block + slot) * dim;
    for (std::int64_t i = lane_of(); i < dim; i += lanes) v[i] = in[i];
    return;
  }
  T* const k = to.k + (row * keys.heads + kv_head) * dim;
  for (std::int64_t i = lane_of(); i < dim / 2; i += lanes) {
    const Pair p = turned(in, r, weight, keys, table, i);
    store_pair(k, p, i, dim / 2);
    cached[i * cache_block + slot] = narrowed_to<T>(p.one);
    cached[(dim / 2 + i) * cache_block + slot] = narrowed_to<T>(p.two);
  }
}

template <class T>
void prepare(const Cuda& cuda, const PreparedHeads<T>& to, ConstRows<T> qkv, float eps,
             const HeadRows& queries, const HeadRows& keys, const PagedBatch& batch) {
  if (queries.rows == 0) return;
  const unsigned blocks = head_blocks(queries.rows * (queries.heads + 2 * keys.heads));
  launch(prepare_kernel<T>, dim3(blocks), dim3(head_threads), 0, cuda.stream, to, qkv, eps, queries,
         keys, batch);
}

}  // namespace

template <>
void prepare_heads(const Cuda& cuda, const PreparedHeads<float>& to, ConstRows<float> qkv,
                   float eps, const HeadRows& queries, const HeadRows& keys,
                   const PagedBatch& batch) {
  prepare(cuda, to, qkv, eps, queries, keys, batch);
}

template <>
void prepare_heads(const Cuda& cuda, const PreparedHeads<Bf16>& to, ConstRows<Bf16> qkv, float eps,
                   const HeadRows& queries, const HeadRows& keys, const PagedBatch& batch) {
  prepare(cuda, to, qkv, eps, queries, keys, batch);
}

}  // namespace fst::kernels
