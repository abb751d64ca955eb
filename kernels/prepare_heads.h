#pragma once

#include "kernels/attention.h"
#include "kernels/rope.h"

namespace fst::kernels {

/// Where prepare_heads() puts what it makes of `rows` rows.
template <class T>
struct PreparedHeads {
  T *q = nullptr, *k = nullptr;                // [rows, heads * dim] of queries, of keys
  float *q_rstd = nullptr, *k_rstd = nullptr;  // [rows, heads] of each, if there are norms
  T* cache = nullptr;                          // as in attention.h
};

/// What decoding does between the product q, k, v and attention, in one pass: the
/// head_norm_rope_forward() of the queries and of the keys, and kv_write() of the keys and the
/// values; their bits.
///
/// @param qkv            [rows, queries.heads + 2 keys.heads, dim], rows of qkv.stride
/// @param queries, keys  their rows, positions and tables are the same; both have a norm, or none
/// @param batch          row r is the one row of sequence r; its kv_heads are keys.heads
template <class Exec, class T>
void prepare_heads(const Exec&, const PreparedHeads<T>& to, ConstRows<T> qkv, float eps,
                   const HeadRows& queries, const HeadRows& keys, const PagedBatch& batch);

}  // namespace fst::kernels
