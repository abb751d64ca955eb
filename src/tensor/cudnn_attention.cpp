#include "cudnn_attention.h"

#include <string>
#include <utility>

namespace fst::cudnn {

namespace {

using Tensor = Graph::Tensor;

constexpr std::int64_t row_axis = 2, column_axis = 3;

/// The tensors of a shape in a graph. Stores of ragged tensors have the strides of one sequence;
/// where each begins is the offsets' to say.
class Parts {
 public:
  Parts(Graph& graph, const AttentionShape& shape) : graph_(graph), shape_(shape) {
    const Dims one_each{shape.sequences, 1, 1, 1}, strides{1, 1, 1, 1};
    lengths_q = &graph.given({id_lengths_q, Type::i32, one_each, strides});
    lengths_k = &graph.given({id_lengths_k, Type::i32, one_each, strides});
    const Dims bounds{shape.sequences + 1, 1, 1, 1};
    offsets_q_ = &graph.given({id_offsets_q, Type::i32, bounds, strides});
    offsets_k_ = &graph.given({id_offsets_k, Type::i32, bounds, strides});
    offsets_v_ = &graph.given({id_offsets_v, Type::i32, bounds, strides});
    offsets_stats_ = &graph.given({id_offsets_stats, Type::i32, bounds, strides});
    scale = &graph.number(id_scale);
    lowest = &graph.number(id_lowest);
  }

  const Tensor& as_q(Id id) { return rows(id, shape_.heads, shape_.q_stride, offsets_q_); }
  const Tensor& as_k(Id id) { return rows(id, shape_.kv_heads, shape_.k_stride, offsets_k_); }
  const Tensor& as_v(Id id) { return rows(id, shape_.kv_heads, shape_.v_stride, offsets_v_); }
  const Tensor& as_k_transposed(Id id) { return columns(id, shape_.k_stride, offsets_k_); }
  const Tensor& as_v_transposed(Id id) { return columns(id, shape_.v_stride, offsets_v_); }
  const Tensor& stats() {
    const std::int64_t stride = shape_.stats_stride;
    return graph_.given({id_stats,
                         Type::f32,
                         {shape_.sequences, shape_.heads, shape_.rows, 1},
                         {shape_.rows * stride, 1, stride, 1},
                         &offsets_stats_->descriptor});
  }

  /// A product over rows of queries and rows of keys, or over one of them.
  Extent queries_by_keys() const {
    return {&lengths_q->descriptor, &lengths_k->descriptor, nullptr};
  }
  Extent queries_over_keys() const {
    return {&lengths_q->descriptor, nullptr, &lengths_k->descriptor};
  }
  Extent keys_over_queries() const {
    return {&lengths_k->descriptor, nullptr, &lengths_q->descriptor};
  }

  const Tensor *lengths_q, *lengths_k, *scale, *lowest;

 private:
  const Tensor& rows(Id id, std::int64_t heads, std::int64_t stride, const Tensor* offsets) {
    return graph_.given({id,
                         Type::bf16,
                         {shape_.sequences, heads, shape_.rows, shape_.dim},
                         {shape_.rows * stride, shape_.dim, stride, 1},
                         &offsets->descriptor});
  }
  const Tensor& columns(Id id, std::int64_t stride, const Tensor* offsets) {
    return graph_.given({id,
                         Type::bf16,
                         {shape_.sequences, shape_.kv_heads, shape_.dim, shape_.rows},
                         {shape_.rows * stride, shape_.dim, 1, stride},
                         &offsets->descriptor});
  }

  Graph& graph_;
  const AttentionShape& shape_;
  const Tensor *offsets_q_, *offsets_k_, *offsets_v_, *offsets_stats_;
};

/// Scores, with the lowest number where a row or a key is behind its sequence's end.
const Tensor& within_lengths(Graph& g, const Parts& parts, const Tensor& scores) {
  const Tensor& row = g.index(scores, row_axis);
  const Tensor& column = g.index(scores, column_axis);
  const Tensor& row_counts = g.compute(Pointwise::less, row, parts.lengths_q, Type::boolean);
  const Tensor& column_counts = g.compute(Pointwise::less, column, parts.lengths_k, Type::boolean);
  const Tensor& counts =
      g.compute(Pointwise::logical_and, row_counts, &column_counts, Type::boolean);
  return g.compute(Pointwise::select, scores, parts.lowest, Type::f32, &counts);
}

/// Scores, with the lowest number where the key comes after the row.
const Tensor& causal(Graph& g, const Parts& parts, const Tensor& scores) {
  const Tensor& row = g.index(scores, row_axis);
  const Tensor& column = g.index(scores, column_axis);
  const Tensor& seen = g.compute(Pointwise::greater_or_equal, row, &column, Type::boolean);
  return g.compute(Pointwise::select, scores, parts.lowest, Type::f32, &seen);
}

std::string text_of(const AttentionShape& shape) {
  return " of " + std::to_string(shape.sequences) + " x " + std::to_string(shape.rows) + " rows, " +
         std::to_string(shape.heads) + "/" + std::to_string(shape.kv_heads) + " heads of " +
         std::to_string(shape.dim);
}

}  // namespace

Plan forward_plan(const AttentionShape& shape, const Target& target) {
  Graph g;
  Parts parts(g, shape);
  const Tensor& raw =
      g.multiply(parts.as_q(id_q), parts.as_k_transposed(id_k), parts.queries_by_keys(), Type::f32);
  const Tensor& scaled = g.compute(Pointwise::mul, raw, parts.scale, Type::f32);
  const Tensor& scores = causal(g, parts, within_lengths(g, parts, scaled));
  const Tensor& maximum = g.reduce(Reduction::max, scores);
  const Tensor& shifted = g.compute(Pointwise::sub, scores, &maximum, Type::f32);
  const Tensor& weights = g.compute(Pointwise::exp, shifted, nullptr, Type::f32);
  const Tensor& sum = g.reduce(Reduction::add, weights);
  const Tensor& log_sum = g.compute(Pointwise::log, sum, nullptr, Type::f32);
  g.compute(Pointwise::add, maximum, &log_sum, Type::f32, nullptr, &parts.stats());
  const Tensor& law = g.compute(Pointwise::div, weights, &sum, Type::bf16);
  g.multiply(law, parts.as_v(id_v), parts.queries_over_keys(), Type::bf16, &parts.as_q(id_out));
  return {std::move(g), target, "attention" + text_of(shape)};
}

// With p = e^(scale q k - stats): dv = p^T dout, ds = p (dout v^T - row_sums) scale, dk = ds^T q,
// dq = ds k, where row_sums = sum dout out. The heads of a group are summed after they are rounded
// to bf16. dq straight from its product is what makes cuDNN take no atomic additions.
Plan backward_plan(const AttentionShape& shape, const Target& target) {
  Graph g;
  Parts parts(g, shape);
  const Tensor &q = parts.as_q(id_q), &dout = parts.as_q(id_dout);
  const Tensor& k_transposed = parts.as_k_transposed(id_k);
  const Tensor& products = g.compute(Pointwise::mul, dout, &parts.as_q(id_out), Type::f32);
  const Tensor& sums = g.reduce(Reduction::add, products);
  const Tensor& row_sums = g.given({id_row_sums, Type::f32, sums.dims, sums.strides});
  g.compute(Pointwise::mul, sums, &g.number(id_one), Type::f32, nullptr, &row_sums);

  const Tensor& raw = g.multiply(q, k_transposed, parts.queries_by_keys(), Type::f32);
  const Tensor& scaled = g.compute(Pointwise::mul, raw, parts.scale, Type::f32);
  const Tensor& shifted = g.compute(Pointwise::sub, scaled, &parts.stats(), Type::f32);
  const Tensor& logs = causal(g, parts, within_lengths(g, parts, shifted));
  const Tensor& law = g.compute(Pointwise::exp, logs, nullptr, Type::f32);
  const auto of_keys = [&](const Tensor& weights, const Tensor& rows, const Tensor& into) {
    const Tensor& weights_t = g.transpose(weights, Type::bf16);
    if (shape.heads == shape.kv_heads) {
      g.multiply(weights_t, rows, parts.keys_over_queries(), Type::bf16, &into);
      return;
    }
    const Tensor& all = g.multiply(weights_t, rows, parts.keys_over_queries(), Type::bf16);
    g.reduce(Reduction::add, all, &into);
  };
  of_keys(law, dout, parts.as_v(id_dv));

  const Tensor& dlaw =
      g.multiply(dout, parts.as_v_transposed(id_v), parts.queries_by_keys(), Type::f32);
  const Tensor& centred = g.compute(Pointwise::sub, dlaw, &row_sums, Type::f32);
  const Tensor& dscores = g.compute(Pointwise::mul, centred, &law, Type::f32);
  const Tensor& dscaled = g.compute(Pointwise::mul, dscores, parts.scale, Type::f32);
  of_keys(dscaled, q, parts.as_k(id_dk));
  const Tensor& k = g.transpose(k_transposed, Type::f32);
  g.multiply(dscaled, k, parts.queries_over_keys(), Type::bf16, &parts.as_q(id_dq));
  return {std::move(g), target, "the gradient of attention" + text_of(shape)};
}

}  // namespace fst::cudnn
