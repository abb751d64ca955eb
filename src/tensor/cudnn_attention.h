#pragma once

#include <cstdint>
#include <tuple>

#include "cudnn_graph.h"

/// Causal attention of packed bfloat16 sequences as graphs for cuDNN, forward and backward.
namespace fst::cudnn {

/// What a plan is made for. Sequences lie one after the other; a row of q is `q_stride` elements
/// behind the one before, and so on; out, dout and dq lie as q, dk as k and dv as v.
struct AttentionShape {
  std::int64_t sequences = 0;  // exactly
  std::int64_t rows = 0;       // at most, of a sequence
  std::int64_t heads = 0, kv_heads = 0, dim = 0;
  std::int64_t q_stride = 0, k_stride = 0, v_stride = 0;
  std::int64_t stats_stride = 0;  // elements of lse from row to row

  auto operator<=>(const AttentionShape&) const = default;
};

/// Names of the tensors that a plan is executed with. Lengths are i32 [sequences]; offsets are i32
/// [sequences + 1], the elements at which sequences begin; scale, one and lowest are numbers in
/// host memory; row_sums f32 [sequences, heads, rows] is working memory.
enum Id : std::int64_t {
  id_q = 1,
  id_k,
  id_v,
  id_out,
  id_stats,
  id_dout,
  id_dq,
  id_dk,
  id_dv,
  id_lengths_q,
  id_lengths_k,
  id_offsets_q,
  id_offsets_k,
  id_offsets_v,
  id_offsets_stats,
  id_scale,
  id_one,
  id_lowest,
  id_row_sums,
};

/// out = softmax(scale q k^T) v and stats = log sum_j e^(scale q k_j), over keys j up to the row's
/// own: q, k, v -> out, stats. Inputs besides: lengths, offsets, scale, lowest.
Plan forward_plan(const AttentionShape& shape, const Target& target);

/// Its gradient, dq, dk and dv, from dout, out and stats; the same bits in every run. Its workspace
/// takes sequences * heads * rows^2 * 2 bytes (rows rounded up to 128). Inputs besides: as of
/// forward, and one, row_sums.
Plan backward_plan(const AttentionShape& shape, const Target& target);

}  // namespace fst::cudnn
