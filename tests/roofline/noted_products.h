#pragma once

#include "kernels/attention.h"
#include "kernels/linear_norm.h"
#include "kernels/linear_swiglu.h"
#include "kernels/matmul.h"
#include "kernels/matmul_bf16.h"
#include "kernels/prepare_heads.h"
#include "roofline/noted_rows.h"

/// Matrix products and attention; see noted.h. The type of either is that of its factors, which
/// says whether tensor cores multiply.
namespace fst::kernels {

namespace noted {

/// y [rows, n] of `out` bytes an element from factors of `in` bytes.
inline roofline::Work product(std::int64_t rows, std::int64_t n, std::int64_t k, std::int64_t in,
                              std::int64_t out, bool reads_old) {
  const std::int64_t result = rows * n * out;
  return {(rows * k + n * k) * in + (reads_old ? result : 0), result, 2 * rows * n * k};
}

/// Keys and rows of a batch, which only the device knows.
struct BatchSizes {
  std::int64_t rows = 0, keys = 0;
  std::int64_t pairs = 0;  // of a row and a key that it sees
};
inline BatchSizes sizes_of(const PagedBatch& batch) {
  BatchSizes sizes;
  for (std::int64_t s = 0; s < batch.sequences; ++s) {
    const std::int64_t rows = batch.cu_seqlens[s + 1] - batch.cu_seqlens[s];
    const std::int64_t context = batch.context[s];
    if (rows == 0) continue;
    sizes.rows += rows;
    sizes.keys += context + rows;
    sizes.pairs += rows * context + rows * (rows + 1) / 2;
  }
  return sizes;
}
inline std::int64_t tables(const PagedBatch& batch, const BatchSizes& sizes) {
  return (2 * batch.sequences + 1 + sizes.keys / attention_block) * roofline::word;
}

}  // namespace noted

inline void pack_weight(const Cuda& cuda, float* packed, const void* weight, Storage storage,
                        std::int64_t n, std::int64_t k) {
  using namespace roofline;
  const Noted noted("pack_weight", "f32", {{"n", n}, {"k", k}},
                    {n * k * size_of(storage), packed_weight_size(n, k) * word, 0});
  pack_weight<Cuda>(cuda, packed, weight, storage, n, k);
}

inline void linear_forward(const Cuda& cuda, float* y, std::int64_t ldy, const float* x,
                           std::int64_t ldx, const float* packed, const float* bias,
                           std::int64_t rows, std::int64_t n, std::int64_t k, SumOrder order,
                           Update update) {
  using namespace roofline;
  const Noted noted("linear_forward", "f32",
                    {{"rows", rows}, {"n", n}, {"k", k}, {"leaves", std::int64_t(order)}},
                    noted::product(rows, n, k, word, word, update == Update::add));
  linear_forward<Cuda>(cuda, y, ldy, x, ldx, packed, bias, rows, n, k, order, update);
}

/// Beside the product the row's norm is written, and its weight read.
template <class T>
void linear_add_norm(const Cuda& cuda, T* y, T* normed, float* rstd, const T* x, std::int64_t ldx,
                     const T* packed, const float* weight, std::int64_t rows, std::int64_t n,
                     std::int64_t k, SumOrder order, float eps) {
  using namespace roofline;
  Work work = noted::product(rows, n, k, size<T>, size<T>, true);
  work.read += n * word;
  work.written += rows * n * size<T> + rows * word;
  const Noted noted("linear_add_norm", type_name<T>(),
                    {{"rows", rows}, {"n", n}, {"k", k}, {"leaves", std::int64_t(order)}}, work);
  linear_add_norm<Cuda, T>(cuda, y, normed, rstd, x, ldx, packed, weight, rows, n, k, order, eps);
}

/// What gate and up are in between is nobody's.
template <class T>
void linear_swiglu(const Cuda& cuda, T* h, T* gate_up, const T* x, std::int64_t ldx,
                   const T* packed, std::int64_t rows, std::int64_t dim, std::int64_t k) {
  using namespace roofline;
  Work work = noted::product(rows, 2 * dim, k, size<T>, size<T>, false);
  work.written = rows * dim * size<T>;
  const Noted noted("linear_swiglu", type_name<T>(), {{"rows", rows}, {"n", 2 * dim}, {"k", k}},
                    work);
  linear_swiglu<Cuda, T>(cuda, h, gate_up, x, ldx, packed, rows, dim, k);
}

inline void linear_backward_input(const Cuda& cuda, float* dx, std::int64_t lddx, const float* dy,
                                  std::int64_t lddy, const float* weight, std::int64_t ldw,
                                  std::int64_t rows, std::int64_t n, std::int64_t k, SumOrder order,
                                  Update update) {
  using namespace roofline;
  const Noted noted("linear_backward_input", "f32",
                    {{"rows", rows}, {"n", n}, {"k", k}, {"leaves", std::int64_t(order)}},
                    noted::product(rows, k, n, word, word, update == Update::add));
  linear_backward_input<Cuda>(cuda, dx, lddx, dy, lddy, weight, ldw, rows, n, k, order, update);
}

inline void linear_backward_input(const Cuda& cuda, float* dx, std::int64_t lddx, const float* dy,
                                  std::int64_t lddy, const float* weight, std::int64_t ldw,
                                  std::int64_t rows, const std::int64_t* sizes,
                                  std::int64_t matrices, std::int64_t k, SumOrder order,
                                  Update update) {
  using namespace roofline;
  std::int64_t n = 0;
  for (std::int64_t i = 0; i < matrices; ++i) n += sizes[i];
  const Noted noted(
      "linear_backward_inputs", "f32",
      {{"rows", rows}, {"n", n}, {"k", k}, {"leaves", std::int64_t(order)}, {"matrices", matrices}},
      noted::product(rows, k, n, word, word, update == Update::add));
  linear_backward_input<Cuda>(cuda, dx, lddx, dy, lddy, weight, ldw, rows, sizes, matrices, k,
                              order, update);
}

inline void linear_backward_weight(const Cuda& cuda, float* dweight, std::int64_t lddw,
                                   const float* dy, std::int64_t lddy, const float* x,
                                   std::int64_t ldx, std::int64_t rows, std::int64_t n,
                                   std::int64_t k, Chain chain) {
  using namespace roofline;
  const Noted noted("linear_backward_weight", "f32",
                    {{"rows", rows}, {"n", n}, {"k", k}, {"resume", chain == Chain::resume}},
                    noted::product(n, k, rows, word, word, chain == Chain::resume));
  linear_backward_weight<Cuda>(cuda, dweight, lddw, dy, lddy, x, ldx, rows, n, k, chain);
}

inline void bias_backward(const Cuda& cuda, float* dbias, const float* dy, std::int64_t lddy,
                          std::int64_t rows, std::int64_t n) {
  using namespace roofline;
  const Noted noted("bias_backward", "f32", {{"rows", rows}, {"n", n}},
                    {(rows + 1) * n * word, n * word, rows * n});
  bias_backward<Cuda>(cuda, dbias, dy, lddy, rows, n);
}

inline void pack_weight(const Cuda& cuda, Bf16* packed, const Bf16* weight, std::int64_t n,
                        std::int64_t k, SumOrder order) {
  using namespace roofline;
  const std::int64_t bytes = n * k * size<Bf16>;
  const Noted noted("pack_weight", "bf16", {{"n", n}, {"k", k}}, {bytes, bytes, 0});
  pack_weight<Cuda>(cuda, packed, weight, n, k, order);
}

template <class Y>
void linear_forward(const Cuda& cuda, Y* y, std::int64_t ldy, const Bf16* x, std::int64_t ldx,
                    const Bf16* packed, const float* bias, std::int64_t rows, std::int64_t n,
                    std::int64_t k, SumOrder order, Update update) {
  using namespace roofline;
  const Noted noted("linear_forward", "bf16",
                    {{"rows", rows}, {"n", n}, {"k", k}, {"leaves", std::int64_t(order)}},
                    noted::product(rows, n, k, size<Bf16>, size<Y>, update == Update::add));
  linear_forward<Cuda, Y>(cuda, y, ldy, x, ldx, packed, bias, rows, n, k, order, update);
}

template <class Y>
void linear_backward_input(const Cuda& cuda, Y* dx, std::int64_t lddx, const Bf16* dy,
                           std::int64_t lddy, const Bf16* weight, std::int64_t ldw,
                           std::int64_t rows, std::int64_t n, std::int64_t k, SumOrder order,
                           Update update) {
  using namespace roofline;
  const Noted noted("linear_backward_input", "bf16",
                    {{"rows", rows}, {"n", n}, {"k", k}, {"leaves", std::int64_t(order)}},
                    noted::product(rows, k, n, size<Bf16>, size<Y>, update == Update::add));
  linear_backward_input<Cuda, Y>(cuda, dx, lddx, dy, lddy, weight, ldw, rows, n, k, order, update);
}

template <class Y>
void linear_backward_input(const Cuda& cuda, Y* dx, std::int64_t lddx, const Bf16* dy,
                           std::int64_t lddy, const Bf16* weight, std::int64_t ldw,
                           std::int64_t rows, const std::int64_t* sizes, std::int64_t matrices,
                           std::int64_t k, SumOrder order, Update update) {
  using namespace roofline;
  std::int64_t n = 0;
  for (std::int64_t i = 0; i < matrices; ++i) n += sizes[i];
  const Noted noted(
      "linear_backward_inputs", "bf16",
      {{"rows", rows}, {"n", n}, {"k", k}, {"leaves", std::int64_t(order)}, {"matrices", matrices}},
      noted::product(rows, k, n, size<Bf16>, size<Y>, update == Update::add));
  linear_backward_input<Cuda, Y>(cuda, dx, lddx, dy, lddy, weight, ldw, rows, sizes, matrices, k,
                                 order, update);
}

inline void linear_backward_weight(const Cuda& cuda, float* dweight, std::int64_t lddw,
                                   const Bf16* dy, std::int64_t lddy, const Bf16* x,
                                   std::int64_t ldx, const std::int32_t* cu_seqlens,
                                   std::int64_t sequences, std::int64_t n, std::int64_t k,
                                   Chain chain) {
  using namespace roofline;
  const std::int64_t rows = cu_seqlens[sequences];
  const Noted noted("linear_backward_weight", "bf16",
                    {{"rows", rows}, {"n", n}, {"k", k}, {"resume", chain == Chain::resume}},
                    noted::product(n, k, rows, size<Bf16>, word, chain == Chain::resume));
  linear_backward_weight<Cuda>(cuda, dweight, lddw, dy, lddy, x, ldx, cu_seqlens, sequences, n, k,
                               chain);
}

inline void bias_backward(const Cuda& cuda, float* dbias, const Bf16* dy, std::int64_t lddy,
                          std::int64_t rows, std::int64_t n) {
  using namespace roofline;
  const Noted noted("bias_backward", "bf16", {{"rows", rows}, {"n", n}},
                    {rows * n * size<Bf16> + n * word, n * word, rows * n});
  bias_backward<Cuda>(cuda, dbias, dy, lddy, rows, n);
}

template <class T>
void kv_write(const Cuda& cuda, T* cache, ConstRows<T> k, ConstRows<T> v, const PagedBatch& batch) {
  using namespace roofline;
  const auto least = [batch]() -> Work {
    const noted::BatchSizes sizes = noted::sizes_of(batch);
    const std::int64_t bytes = 2 * sizes.rows * batch.kv_heads * batch.dim * size<T>;
    return {bytes + (2 * batch.sequences + 1) * word, bytes, 0};
  };
  const Noted noted("kv_write", type_name<T>(),
                    {{"sequences", batch.sequences}, {"heads", batch.kv_heads}, {"dim", batch.dim}},
                    least);
  kv_write<Cuda, T>(cuda, cache, k, v, batch);
}

/// Rows are sequences, so sizes say all; the tables of angles, context and blocks are counted once.
template <class T>
void prepare_heads(const Cuda& cuda, const PreparedHeads<T>& to, ConstRows<T> qkv, float eps,
                   const HeadRows& queries, const HeadRows& keys, const PagedBatch& batch) {
  using namespace roofline;
  const std::int64_t rows = queries.rows, dim = queries.dim;
  const std::int64_t norms = queries.weight == nullptr ? 0 : rows * (queries.heads + keys.heads);
  const Noted noted(
      "prepare_heads", type_name<T>(),
      {{"rows", rows}, {"heads", queries.heads}, {"kv_heads", keys.heads}, {"dim", dim}},
      {rows * (queries.heads + 2 * keys.heads) * dim * size<T> + noted::tables(queries) +
           2 * rows * word,
       rows * (queries.heads + 3 * keys.heads) * dim * size<T> + norms * word,
       7 * rows * (queries.heads + keys.heads) * dim});
  prepare_heads<Cuda, T>(cuda, to, qkv, eps, queries, keys, batch);
}

template <class T>
void attention_forward(const Cuda& cuda, Rows<T> out, float* lse, ConstRows<T> q, const T* cache,
                       const PagedBatch& batch, float scale) {
  using namespace roofline;
  const auto least = [batch]() -> Work {
    const noted::BatchSizes sizes = noted::sizes_of(batch);
    const std::int64_t rows = sizes.rows * batch.heads * batch.dim * size<T>;
    const std::int64_t keys = 2 * sizes.keys * batch.kv_heads * batch.dim * size<T>;
    return {rows + keys + noted::tables(batch, sizes), rows + sizes.rows * batch.heads * word,
            4 * sizes.pairs * batch.heads * batch.dim};
  };
  const Noted noted("attention_forward", type_name<T>(),
                    {{"sequences", batch.sequences},
                     {"heads", batch.heads},
                     {"kv_heads", batch.kv_heads},
                     {"dim", batch.dim},
                     {"most_keys", batch.max_blocks * attention_block}},
                    least);
  attention_forward<Cuda, T>(cuda, out, lse, q, cache, batch, scale);
}

template <class T>
void attention_backward(const Cuda& cuda, const AttentionGradients<T>& gradients, ConstRows<T> q,
                        const T* cache, const PagedBatch& batch, float scale) {
  using namespace roofline;
  const auto least = [batch]() -> Work {
    const noted::BatchSizes sizes = noted::sizes_of(batch);
    const std::int64_t rows = sizes.rows * batch.heads * batch.dim * size<T>;
    const std::int64_t keys = 2 * sizes.keys * batch.kv_heads * batch.dim * size<T>;
    const std::int64_t vectors = sizes.rows * batch.heads * word;
    return {3 * rows + keys + vectors + noted::tables(batch, sizes), rows + keys,
            10 * sizes.pairs * batch.heads * batch.dim};  // five products of a pair
  };
  const Noted noted("attention_backward", type_name<T>(),
                    {{"sequences", batch.sequences},
                     {"heads", batch.heads},
                     {"kv_heads", batch.kv_heads},
                     {"dim", batch.dim},
                     {"most_keys", batch.max_blocks * attention_block}},
                    least);
  attention_backward<Cuda, T>(cuda, gradients, q, cache, batch, scale);
}

}  // namespace fst::kernels
