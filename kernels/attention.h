#pragma once

#include <cstdint>

#include "kernels/bf16.h"
#include "kernels/exec.h"

/// Causal attention of packed sequences over a paged cache of keys and values. One function serves
/// training, chunked prefill and decode: the bits of a row depend on its query and on the keys
/// 0 .. position alone. Source of the online softmax: arXiv:1805.02867; of the tiling:
/// arXiv:2205.14135.
///
/// T is float or Bf16, of queries, keys, values, outputs and their gradients alike: what is read is
/// widened exactly, all arithmetic is float32 in the order of the contract, and an output is
/// rounded once, at its end. With Bf16 the factors of a second product, p and ds, are rounded too,
/// so that all products are products of bfloat16 numbers: GPUs take their chains in blocks of 16 by
/// tensor cores, c first (matmul_bf16.h); what is missing in a block is zero. So scores and dout v
/// are chains of blocks of the head's elements, out and dq of cache blocks of keys, and dk and dv
/// of such blocks of rows.
namespace fst::kernels {

inline constexpr std::int64_t attention_block = 16;       // tokens of a cache block: one per lane
inline constexpr std::int64_t attention_tile = 128;       // keys between two updates of the maximum
inline constexpr std::int64_t attention_split = 1024;     // keys with one softmax state
inline constexpr std::int64_t attention_cuda_head = 128;  // the largest head of GPU kernels

/// Where the rows and keys of a packed batch lie. Row r of sequence s (cu_seqlens[s] <= r <
/// cu_seqlens[s + 1]) has position context[s] + r - cu_seqlens[s]. Key j of the sequence is token
/// j % 16 of block block_table[s, j / 16]; block b of `cache` holds, per KV head, K transposed
/// [dim, 16] and then V [16, dim].
struct PagedBatch {
  const std::int32_t* cu_seqlens = nullptr;   // [sequences + 1]
  const std::int32_t* context = nullptr;      // [sequences]
  const std::int32_t* block_table = nullptr;  // [sequences, max_blocks]
  std::int64_t sequences = 0, max_blocks = 0;
  std::int64_t heads = 0, kv_heads = 0, dim = 0;  // heads is a multiple of kv_heads
  // Whether there may be sequences of one row, and of more: a GPU has a schedule for each. Changes
  // no bit.
  bool single = true, longer = true;
};

/// Rows of heads: head h of row r begins at data + r * stride + h * dim.
template <class T>
struct ConstRows {
  const T* data = nullptr;
  std::int64_t stride = 0;
};
template <class T>
struct Rows {
  T* data = nullptr;
  std::int64_t stride = 0;
};

/// What the backward pass writes and what it reads of the forward pass.
template <class T>
struct AttentionGradients {
  Rows<T> dq, dk, dv;          // [rows, heads], [rows, kv_heads] twice
  ConstRows<T> dout, out;      // [rows, heads]
  const float* lse = nullptr;  // [rows, heads]
};

/// Copies the batch's k and v rows (kv_heads each) into the cache.
template <class Exec, class T>
void kv_write(const Exec&, T* cache, ConstRows<T> k, ConstRows<T> v, const PagedBatch& batch);

/// out = softmax(scale q K^T) V per row and head; lse [rows, heads] = log sum_j e^(scale q k_j).
///
/// Score j is one fma chain over the head's elements, times scale. Tiles of 128 keys at absolute
/// positions are taken in ascending order; at each the maximum m is updated and the sum (16 lanes,
/// lane i takes keys i, i+16, ...) and the output (one chain over keys) are rescaled by
/// e^(m_old - m_new). The sum takes p_j = e^(s_j - m) as it is, the output as T holds it. A split
/// of 1024 keys starts anew; split results are joined in ascending order. Keys beyond a row's
/// position are not touched, whatever the blocks hold there.
template <class Exec, class T>
void attention_forward(const Exec&, Rows<T> out, float* lse, ConstRows<T> q, const T* cache,
                       const PagedBatch& batch, float scale);

/// With p_ij = e^(scale q_i k_j - lse_i), D_i = sum_h dout_i out_i (16 lanes), ds_ij = p_ij
/// (dout_i v_j - D_i) scale: dq_i = sum_j ds_ij k_j, dk_j = sum_i ds_ij q_i, dv_j = sum_i p_ij
/// dout_i, with p and ds as T holds them, all overwritten. dq_i is one chain over the keys from 0
/// to the end of its block; dk_j and dv_j are one chain over the query heads of the group and,
/// within each, the rows from the beginning of the key's block, both ascending; masked pairs count
/// as exact zeros. Needs context = 0 everywhere.
template <class Exec, class T>
void attention_backward(const Exec&, const AttentionGradients<T>& gradients, ConstRows<T> q,
                        const T* cache, const PagedBatch& batch, float scale);

}  // namespace fst::kernels
