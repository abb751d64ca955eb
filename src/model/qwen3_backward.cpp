#include <array>
#include <span>
#include <string>

#include "fst/base/error.h"
#include "fst/model/qwen3.h"
#include "fst/tensor/host_view.h"

// The gradient of qwen3.cpp, block by block in reverse. The scratch tensor `dresidual` is the
// gradient of the residual stream: each block adds its own to it, after the part that passes by.
namespace fst {

namespace {

using ops::Sum;
using ops::Write;

constexpr DType f32 = DType::f32;

const Tensor* or_null(const Tensor& tensor) {
  return tensor.empty() ? nullptr : &tensor;
}
Tensor* or_null(Tensor& tensor) {
  return tensor.empty() ? nullptr : &tensor;
}

void expect_no_context(const TokenBatch& batch) {
  const Tensor& context = batch.attention.context;
  if (!context.device().on_host()) return;
  const HostView<const std::int32_t> at(context);
  for (std::int64_t s = 0; s < context.size(); ++s) {
    if (at[s] != 0) {
      throw Error("backward: sequence " + std::to_string(s) + " has context in the cache");
    }
  }
}

}  // namespace

/// dx [T, D] of several matrices that share their input: eight leaves over each matrix's own output
/// columns, the matrices' results added in order, then rounded to the model's dtype. `sizes`: rows
/// of each matrix in `weight`, columns in `dy`. Several ranks have some leaves of every matrix:
/// these are joined over the ranks first, in one go for all matrices. Valid until the next call.
Tensor Qwen3::fused_backward_input(const Tensor& dy, const Tensor& weight,
                                   std::span<const std::int64_t> sizes, const char* what) {
  const std::int64_t tokens = dy.dim(0);
  const auto matrices = static_cast<std::int64_t>(sizes.size());
  Buffer& dnormed = scratch().dnormed;
  if (unit_ == nullptr) {
    ops::linear_backward_inputs(dnormed.tensor(), dy, weight, sizes, leaves_);
    return dnormed.tensor();
  }
  Buffer& parts = scratch().whole;
  parts.reserve(memory(), f32, {matrices * tokens, config_.hidden_size});
  const auto part = [&](std::int64_t i) {
    return parts.tensor().rows(i * tokens, (i + 1) * tokens);
  };
  std::int64_t begin = 0, index = 0;
  for (const std::int64_t size : sizes) {
    Tensor dx = part(index);
    ops::linear_backward_input(dx, dy.columns(begin, begin + size),
                               weight.rows(begin, begin + size), leaves_, Write::overwrite);
    begin += size;
    ++index;
  }
  Tensor sum = part(0);
  unit_->sum(parts.tensor(), what);
  for (std::int64_t i = 1; i < matrices; ++i) ops::add(sum, part(i));
  ops::convert(dnormed.tensor(), sum);
  return dnormed.tensor();
}

void Qwen3::mlp_block_backward(const Layer& layer, const TokenBatch& batch,
                               const LayerActivations& kept, LayerTensors& gradient,
                               ops::Chain chain) {
  ModelScratch& s = scratch();
  const std::int64_t size = local_.intermediate_size;
  ops::swiglu_forward(s.mlp.tensor(), kept.gate_up.tensor());
  ops::linear_backward_weight(gradient.down, s.dresidual.tensor(), s.mlp.tensor(), chain,
                              batch.first_rows);
  ops::linear_backward_input(s.dmlp.tensor(), s.dresidual.tensor(), layer.natural.down, Sum::chain,
                             Write::overwrite);
  ops::swiglu_backward(s.dgate_up.tensor(), s.dmlp.tensor(), kept.gate_up.tensor());
  ops::rms_norm_forward(s.normed.tensor(), s.rstd.tensor(), kept.middle.tensor(),
                        layer.vectors.post_norm, config_.rms_norm_eps);
  ops::linear_backward_weight(gradient.gate_up, s.dgate_up.tensor(), s.normed.tensor(), chain,
                              batch.first_rows);
  const Tensor dnormed = fused_backward_input(s.dgate_up.tensor(), layer.natural.gate_up,
                                              std::array{size, size}, "MLP gradient");
  ops::rms_norm_backward(s.dresidual.tensor(), gradient.post_norm, dnormed, kept.middle.tensor(),
                         kept.middle_rstd.tensor(), layer.vectors.post_norm, Write::add);
}

/// dq, dk and, in its columns of dqkv, dv. cuDNN reads the keys as rows, which the scratch holds of
/// the last layer only: they are made again.
void Qwen3::heads_backward(const Layer& layer, const TokenBatch& batch, const Tensor& cache,
                           const LayerActivations& kept) {
  ModelScratch& s = scratch();
  const std::int64_t q = local_.q_size(), kv = local_.kv_size();
  Tensor dv = s.dqkv.tensor().columns(q + kv, q + 2 * kv);
  const Tensor &out = kept.attention.tensor(), &lse = kept.lse.tensor();
  if (!library_attention_) {
    return ops::attention_backward(s.dq.tensor(), s.dk.tensor(), dv, s.dattention.tensor(), out,
                                   lse, kept.q.tensor(), cache, batch.attention, scale_);
  }
  s.k_rstd.reserve(memory(), f32, {batch.tokens.dim(0), local_.num_key_value_heads});
  rotate_keys(layer, batch, kept, s.k_rstd.tensor());
  library_attention_->backward(s.dq.tensor(), s.dk.tensor(), dv, s.dattention.tensor(), out, lse,
                               heads_of(batch, kept));
}

void Qwen3::attention_block_backward(const Layer& layer, const TokenBatch& batch,
                                     const Tensor& cache, const LayerActivations& kept,
                                     LayerTensors& gradient, ops::Chain chain) {
  ModelScratch& s = scratch();
  const LayerTensors& w = layer.vectors;
  const std::int64_t q = local_.q_size(), kv = local_.kv_size();
  ops::linear_backward_weight(gradient.o, s.dresidual.tensor(), kept.attention.tensor(), chain,
                              batch.first_rows);
  ops::linear_backward_input(s.dattention.tensor(), s.dresidual.tensor(), layer.natural.o,
                             Sum::chain, Write::overwrite);
  heads_backward(layer, batch, cache, kept);
  const Tensor& qkv = kept.qkv.tensor();
  Tensor dq_raw = s.dqkv.tensor().columns(0, q), dk_raw = s.dqkv.tensor().columns(q, q + kv);
  ops::head_norm_rope_backward(dq_raw, or_null(gradient.q_norm), s.dq.tensor(), qkv.columns(0, q),
                               kept.q_rstd.tensor(), or_null(w.q_norm), batch.positions,
                               cosine_.tensor(), sine_.tensor());
  ops::head_norm_rope_backward(dk_raw, or_null(gradient.k_norm), s.dk.tensor(),
                               qkv.columns(q, q + kv), kept.k_rstd.tensor(), or_null(w.k_norm),
                               batch.positions, cosine_.tensor(), sine_.tensor());
  if (config_.qkv_bias()) ops::bias_backward(gradient.qkv_bias, s.dqkv.tensor());
  ops::rms_norm_forward(s.normed.tensor(), s.rstd.tensor(), kept.input.tensor(), w.input_norm,
                        config_.rms_norm_eps);
  ops::linear_backward_weight(gradient.qkv, s.dqkv.tensor(), s.normed.tensor(), chain,
                              batch.first_rows);
  const Tensor dnormed = fused_backward_input(s.dqkv.tensor(), layer.natural.qkv,
                                              std::array{q, kv, kv}, "attention gradient");
  ops::rms_norm_backward(s.dresidual.tensor(), gradient.input_norm, dnormed, kept.input.tensor(),
                         kept.input_rstd.tensor(), w.input_norm, Write::add);
}

void Qwen3::backward(const TokenBatch& batch, const KvCache& cache, const Activations& saved,
                     const Tensor& dhidden, Gradients& gradients) {
  if (options_.use != Use::training) throw Error("backward: the model was made for inference");
  check_ready(batch, cache);
  expect_no_context(batch);
  const std::int64_t tokens = batch.tokens.dim(0);
  if (saved.tokens() != tokens) {
    throw Error("backward: activations of " + std::to_string(saved.tokens()) +
                " tokens, batch of " + std::to_string(tokens));
  }
  scratch().reserve_backward(local_, memory(), tokens, dtype(), ranks(), saved.keep());
  Tensor& dresidual = scratch().dresidual.tensor();
  Tensor dfinal_norm = gradients.final_norm();
  ops::rms_norm_backward(dresidual, dfinal_norm, dhidden, saved.last.tensor(),
                         saved.last_rstd.tensor(), final_norm_, Write::overwrite);
  for (std::int64_t l = config_.num_hidden_layers - 1; l >= 0; --l) {
    const auto i = static_cast<std::size_t>(l);
    ops::Chain chain{};
    LayerTensors gradient = gradients.layer(l, chain);
    const LayerActivations& kept =
        saved.keep() == Keep::all
            ? saved.layers[i]
            : recompute(layers_[i], batch, cache.layer(l), saved.layers[i].input.tensor());
    mlp_block_backward(layers_[i], batch, kept, gradient, chain);
    attention_block_backward(layers_[i], batch, cache.layer(l), kept, gradient, chain);
  }
  Tensor dembedding = gradients.embedding();
  ops::embedding_part_backward(dembedding, dresidual, batch.tokens, vocab_.begin);
}

void Qwen3::logits_backward(Tensor& dhidden, Gradients& gradients, const Tensor& dlogits,
                            const Tensor& hidden, std::span<const std::int32_t> first_rows) {
  if (options_.use != Use::training) throw Error("backward: the model was made for inference");
  if (unit_ == nullptr) {
    ops::linear_backward_input(dhidden, dlogits, natural_head_, leaves_, Write::overwrite);
  } else {
    Buffer& whole = scratch().whole;
    whole.reserve(memory(), f32, {dhidden.dim(0), dhidden.dim(1)});
    ops::linear_backward_input(whole.tensor(), dlogits, natural_head_, leaves_, Write::overwrite);
    unit_->sum(whole.tensor(), "gradient of the head");
    ops::convert(dhidden, whole.tensor());
  }
  ops::Chain chain{};
  Tensor dhead = gradients.head(chain);
  ops::linear_backward_weight(dhead, dlogits, hidden, chain, first_rows);
}

}  // namespace fst
