#include "fst/tensor/ops.h"

#include "check.h"
#include "head_rows.h"
#include "kernels/attention.h"
#include "kernels/prepare_heads.h"

namespace fst::ops {

static_assert(kv_block_tokens == kernels::attention_block);

namespace {

/// Blocks that hold keys of the batch must exist; everything is checked here once, not per kernel.
void expect_blocks(const char* what, const kernels::PagedBatch& paged, std::int64_t blocks) {
  for (std::int64_t s = 0; s < paged.sequences; ++s) {
    const std::int64_t rows = paged.cu_seqlens[s + 1] - paged.cu_seqlens[s];
    if (rows < 0 || paged.context[s] < 0) {
      throw Error(std::string(what) + ": sequence " + std::to_string(s) + " has " +
                  std::to_string(rows) + " rows after " + std::to_string(paged.context[s]) +
                  " keys");
    }
    if (rows == 0) continue;
    const std::int64_t needed = (paged.context[s] + rows + kv_block_tokens - 1) / kv_block_tokens;
    if (needed > paged.max_blocks) {
      throw Error(std::string(what) + ": sequence " + std::to_string(s) + " needs " +
                  std::to_string(needed) + " blocks, its table has " +
                  std::to_string(paged.max_blocks));
    }
    for (std::int64_t b = 0; b < needed; ++b) {
      const std::int64_t block = paged.block_table[s * paged.max_blocks + b];
      if (block < 0 || block >= blocks) {
        throw Error(std::string(what) + ": block " + std::to_string(b) + " of sequence " +
                    std::to_string(s) + " is " + std::to_string(block) + ", the cache has " +
                    std::to_string(blocks));
      }
    }
  }
}

/// The batch of `rows` rows with `width` = heads * dim columns over `cache`.
kernels::PagedBatch paged_batch(const char* what, const Tensor& cache, const AttentionBatch& batch,
                                std::int64_t rows, std::int64_t width) {
  if (cache.rank() != 4 || cache.dim(2) != 2 || cache.dim(3) == 0 ||
      cache.dim(3) % kv_block_tokens != 0) {
    wrong_shape(what, "a cache [blocks, KV heads, 2, 16 * head size]", cache);
  }
  expect_contiguous(what, cache);
  kernels::PagedBatch paged;
  paged.kv_heads = cache.dim(1);
  paged.dim = cache.dim(3) / kv_block_tokens;
  paged.heads = width / paged.dim;
  if (paged.heads * paged.dim != width || paged.kv_heads == 0 ||
      paged.heads % paged.kv_heads != 0) {
    throw Error(std::string(what) + ": " + std::to_string(width) +
                " columns are no multiple of the KV heads in " + cache.shape());
  }
  paged.sequences = batch.context.size();
  expect_elements(what, batch.cu_seqlens, paged.sequences + 1);
  expect_matrix(what, batch.block_table);
  expect_row_count(what, batch.block_table, paged.sequences);
  expect_contiguous(what, batch.block_table);
  paged.max_blocks = batch.block_table.dim(1);
  paged.cu_seqlens = batch.cu_seqlens.data<std::int32_t>();
  paged.context = batch.context.data<std::int32_t>();
  paged.block_table = batch.block_table.data<std::int32_t>();
  paged.single = batch.single;
  paged.longer = batch.longer;
  if (!cache.device().on_host()) return paged;  // as expect_indices()
  if (paged.cu_seqlens[0] != 0 || paged.cu_seqlens[paged.sequences] != rows) {
    throw Error(std::string(what) + ": cu_seqlens goes from " +
                std::to_string(paged.cu_seqlens[0]) + " to " +
                std::to_string(paged.cu_seqlens[paged.sequences]) + ", the batch has " +
                std::to_string(rows) + " rows");
  }
  expect_blocks(what, paged, cache.dim(0));
  return paged;
}

template <class T>
kernels::ConstRows<T> rows_of(const Tensor& x) {
  return {x.data<T>(), x.row_stride()};
}
template <class T>
kernels::Rows<T> rows_of(Tensor& x) {
  return {x.data<T>(), x.row_stride()};
}

}  // namespace

void expect_head_size(const Device& device, const std::string& model, std::int64_t head) {
  if (device.on_host() || head <= kernels::attention_cuda_head) return;
  throw InputError(model + ": heads of " + std::to_string(head) +
                   " elements: device cuda has attention for " +
                   std::to_string(kernels::attention_cuda_head) + " at most; use device cpu");
}

void kv_write(Tensor& cache, const Tensor& k, const Tensor& v, const AttentionBatch& batch) {
  expect_matrix("kv_write: k", k);
  expect_matrix("kv_write: v", v, k.dim(0), k.dim(1));
  const auto paged = paged_batch("kv_write", cache, batch, k.dim(0), k.dim(1));
  if (paged.heads != paged.kv_heads) wrong_shape("kv_write: k", "the cache's KV heads", k);
  run_typed("kv_write: cache", cache, [&](const auto& exec, auto type) {
    using T = decltype(type);
    return kernels::kv_write(exec, cache.data<T>(), rows_of<T>(k), rows_of<T>(v), paged);
  });
}

void prepare_heads(Tensor& q, Tensor& q_rstd, Tensor& k, Tensor& k_rstd, Tensor& cache,
                   const Tensor& qkv, const HeadNorms& norms, const Tensor& positions,
                   const Tensor& cosine, const Tensor& sine, const AttentionBatch& batch) {
  const char* const what = "prepare_heads";
  const auto queries = head_rows(what, q, norms.q_weight, positions, cosine, sine);
  const auto keys = head_rows(what, k, norms.k_weight, positions, cosine, sine);
  const std::int64_t rows = queries.rows;
  const auto paged = paged_batch(what, cache, batch, rows, q.dim(1));
  expect_matrix("prepare_heads: k", k, rows, paged.kv_heads * paged.dim);
  expect_matrix("prepare_heads: qkv", qkv, rows, q.dim(1) + 2 * k.dim(1));
  expect_contiguous("prepare_heads: q", q);
  expect_contiguous("prepare_heads: k", k);
  if (queries.dim != paged.dim) wrong_shape(what, "heads of the rotary table's size", cache);
  if (batch.longer || paged.sequences != rows) {
    throw Error("prepare_heads: " + std::to_string(rows) + " rows of " +
                std::to_string(paged.sequences) + " sequences, expected one row of each");
  }
  const bool normed = norms.q_weight != nullptr;
  if (normed != (norms.k_weight != nullptr)) throw Error("prepare_heads: norms of both or of none");
  if (normed) {
    expect_elements("prepare_heads: q_rstd", q_rstd, rows * queries.heads);
    expect_elements("prepare_heads: k_rstd", k_rstd, rows * keys.heads);
  }
  run_typed("prepare_heads: q", q, [&](const auto& exec, auto type) {
    using T = decltype(type);
    const kernels::PreparedHeads<T> to{q.data<T>(), k.data<T>(),
                                       normed ? q_rstd.data<float>() : nullptr,
                                       normed ? k_rstd.data<float>() : nullptr, cache.data<T>()};
    kernels::prepare_heads(exec, to, rows_of<T>(qkv), norms.eps, queries, keys, paged);
  });
}

void attention_forward(Tensor& out, Tensor& lse, const Tensor& q, const Tensor& cache,
                       const AttentionBatch& batch, float scale) {
  expect_matrix("attention_forward: q", q);
  expect_matrix("attention_forward: out", out, q.dim(0), q.dim(1));
  const auto paged = paged_batch("attention_forward", cache, batch, q.dim(0), q.dim(1));
  expect_elements("attention_forward: lse", lse, q.dim(0) * paged.heads);
  run_typed("attention_forward: q", q, [&](const auto& exec, auto type) {
    using T = decltype(type);
    return kernels::attention_forward(exec, rows_of<T>(out), lse.data<float>(), rows_of<T>(q),
                                      cache.data<T>(), paged, scale);
  });
}

void attention_backward(Tensor& dq, Tensor& dk, Tensor& dv, const Tensor& dout, const Tensor& out,
                        const Tensor& lse, const Tensor& q, const Tensor& cache,
                        const AttentionBatch& batch, float scale) {
  expect_matrix("attention_backward: q", q);
  const std::int64_t rows = q.dim(0), width = q.dim(1);
  const auto paged = paged_batch("attention_backward", cache, batch, rows, width);
  expect_matrix("attention_backward: dq", dq, rows, width);
  expect_matrix("attention_backward: dout", dout, rows, width);
  expect_matrix("attention_backward: out", out, rows, width);
  expect_matrix("attention_backward: dk", dk, rows, paged.kv_heads * paged.dim);
  expect_matrix("attention_backward: dv", dv, rows, paged.kv_heads * paged.dim);
  expect_elements("attention_backward: lse", lse, rows * paged.heads);
  for (std::int64_t s = 0; cache.device().on_host() && s < paged.sequences; ++s) {
    if (paged.context[s] != 0) {
      throw Error("attention_backward: sequence " + std::to_string(s) + " has " +
                  std::to_string(paged.context[s]) + " keys before its first row, expected none");
    }
  }
  run_typed("attention_backward: q", q, [&](const auto& exec, auto type) {
    using T = decltype(type);
    const kernels::AttentionGradients<T> gradients{rows_of<T>(dq),  rows_of<T>(dk),
                                                   rows_of<T>(dv),  rows_of<T>(dout),
                                                   rows_of<T>(out), lse.data<float>()};
    return kernels::attention_backward(exec, gradients, rows_of<T>(q), cache.data<T>(), paged,
                                       scale);
  });
}

}  // namespace fst::ops
