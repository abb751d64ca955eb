#include "fst/model/qwen3.h"

#include <cmath>
#include <initializer_list>
#include <string>
#include <utility>

#include "fst/base/error.h"
#include "fst/tensor/host_view.h"

namespace fst {

namespace {

using ops::Sum;
using ops::Write;

constexpr DType f32 = DType::f32;

const Tensor* or_null(const Tensor& tensor) {
  return tensor.empty() ? nullptr : &tensor;
}

/// Copies small tensors one after another into one buffer.
class VectorCopies {
 public:
  explicit VectorCopies(Buffer& buffer) : rest_(buffer.tensor()) {}
  Tensor copy(const Tensor& from) {
    if (from.empty()) return {};
    Tensor to = rest_.rows(0, from.size());
    rest_ = rest_.rows(from.size(), rest_.dim(0));
    ops::convert(to, from);
    return to;
  }

 private:
  Tensor rest_;
};

std::int64_t elements_of_vectors(const Parameters& parameters) {
  std::int64_t elements = 0;
  for (const ParameterSpec& spec : parameters.specs()) {
    if (spec.rank == 1) elements += spec.size();
  }
  return elements;
}

void expect_below(const char* what, const Tensor& values, std::int64_t limit) {
  if (!values.device().on_host()) return;
  const HostView<const std::int32_t> value(values);
  for (std::int64_t i = 0; i < values.size(); ++i) {
    if (value[i] < 0 || value[i] >= limit) {
      throw Error(std::string("forward: ") + what + " " + std::to_string(value[i]) + " of row " +
                  std::to_string(i) + " is not below " + std::to_string(limit));
    }
  }
}

}  // namespace

Qwen3::Qwen3(const Qwen3Config& config, const Device& device, const Qwen3Options& options)
    : config_(config),
      local_(fst::local_config(config, shard_of(options.unit))),
      device_(device),
      options_(options),
      unit_(shard_of(options.unit).degree > 1 ? options.unit : nullptr),
      shard_(shard_of(options.unit)),
      vocab_(vocab_range(config, shard_)),
      leaves_(ops::leaves_of_rank(shard_.degree)) {
  if (options.dtype != f32 && options.dtype != DType::bf16) {
    throw InputError(std::string("arithmetic in ") + name_of(options.dtype) +
                     " is not supported; expected f32 or bf16");
  }
  ops::expect_head_size(device, "the model", config.head_dim);
  if (options.attention == Attention::cudnn) {
    if (options.use != Use::training || options.dtype != DType::bf16) {
      throw InputError("attention by cuDNN is for training in bf16");
    }
    library_attention_.emplace(device_);
  }
  if (options.max_positions < 1) throw Error("a model needs max_positions of at least 1");
  scale_ = static_cast<float>(1.0 / std::sqrt(static_cast<double>(config.head_dim)));
  layers_.resize(static_cast<std::size_t>(config.num_hidden_layers));
  cosine_ = Buffer(device_, f32, {options.max_positions, config.head_dim / 2});
  sine_ = Buffer(device_, f32, {options.max_positions, config.head_dim / 2});
  ops::rope_table(cosine_.tensor(), sine_.tensor(), config.rope_theta);
}

void Qwen3::set_weight(Weight& weight, const Tensor& natural, Sum sum) {
  if (!ops::packs(device_, dtype())) {
    weight.tensor = natural;
    return;
  }
  weight.packed.reserve(device_, dtype(),
                        {ops::packed_size(dtype(), natural.dim(0), natural.dim(1), sum)});
  ops::pack_weight(weight.packed.tensor(), natural, sum);
  weight.tensor = weight.packed.tensor();
}

void Qwen3::set_layer(Layer& layer, const LayerTensors& natural) {
  set_weight(layer.qkv, natural.qkv, Sum::chain);
  set_weight(layer.o, natural.o, leaves_);
  set_weight(layer.gate_up, natural.gate_up, Sum::chain);
  set_weight(layer.down, natural.down, leaves_);
  if (options_.use == Use::training) layer.natural = natural;
}

void Qwen3::set_weights(const Parameters& parameters) {
  if (parameters.config() != config_ || parameters.shard() != shard_) {
    throw Error("set_weights: parameters of another model or shard");
  }
  if (parameters.dtype() != dtype()) {
    throw Error(std::string("set_weights: parameters in ") + name_of(parameters.dtype()) +
                " for a model in " + name_of(dtype()));
  }
  vectors_.reserve(device_, f32, {elements_of_vectors(parameters)});
  VectorCopies copies(vectors_);
  for (std::int64_t l = 0; l < config_.num_hidden_layers; ++l) {
    Layer& layer = layers_[static_cast<std::size_t>(l)];
    const LayerTensors natural = parameters.layer(l);
    layer.vectors.input_norm = copies.copy(natural.input_norm);
    layer.vectors.qkv_bias = copies.copy(natural.qkv_bias);
    layer.vectors.q_norm = copies.copy(natural.q_norm);
    layer.vectors.k_norm = copies.copy(natural.k_norm);
    layer.vectors.post_norm = copies.copy(natural.post_norm);
    set_layer(layer, natural);
  }
  final_norm_ = copies.copy(parameters.final_norm());
  set_weight(head_, parameters.head(), Sum::chain);
  embedding_ = parameters.embedding();
  if (options_.use == Use::training) {
    natural_head_ = parameters.head();
  } else if (ops::packs(device_, dtype())) {
    embedding_copy_.reserve(device_, dtype(), {vocab_.size(), config_.hidden_size});
    ops::convert(embedding_copy_.tensor(), embedding_);
    embedding_ = embedding_copy_.tensor();
  }
  weights_set_ = true;
}

void Qwen3::set_weights(Parameters&& parameters) {
  set_weights(std::as_const(parameters));
  if (reads_in_place()) own_.emplace(std::move(parameters));  // views of it stay valid
}

std::int64_t Qwen3::weight_bytes() const {
  std::int64_t elements =
      embedding_copy_.tensor().size() + head_.packed.tensor().size() + (own_ ? own_->size() : 0);
  for (const Layer& layer : layers_) {
    for (const Weight* weight : {&layer.qkv, &layer.o, &layer.gate_up, &layer.down}) {
      elements += weight->packed.tensor().size();
    }
  }
  const std::int64_t tables = cosine_.tensor().size() + sine_.tensor().size();
  return elements * size_of(dtype()) + (vectors_.tensor().size() + tables) * size_of(f32);
}

void Qwen3::check_ready(const TokenBatch& batch, const KvCache& cache) const {
  if (!weights_set_) throw Error("forward: set_weights comes first");
  if (cache.layers() != config_.num_hidden_layers) throw Error("forward: cache of another model");
  expect_below("token", batch.tokens, config_.vocab_size);
  expect_below("position", batch.positions, options_.max_positions);
}

/// Each token's row comes from the rank that holds it; the others add -0, which changes no bit.
void Qwen3::embed(Tensor& out, const Tensor& tokens) {
  if (unit_ == nullptr) return ops::embedding_forward(out, tokens, embedding_);
  ops::embedding_part_forward(out, tokens, embedding_, vocab_.begin);
  Tensor& partial = scratch().partial.tensor();
  ops::convert(partial, out);
  unit_->sum(partial, "embedding");
  ops::convert(out, partial);
}

/// residual += x weight^T for a weight whose inner dimension the ranks share, then the next norm.
void Qwen3::add_row_parallel(const Tensor& x, const Tensor& weight, const char* what,
                             const NextNorm& next) {
  Tensor& residual = scratch().residual.tensor();
  if (unit_ == nullptr) {
    return ops::linear_add_norm(residual, next.normed, next.rstd, x, weight, Sum::leaves,
                                next.weight, config_.rms_norm_eps);
  }
  Tensor& partial = scratch().partial.tensor();
  ops::linear_forward(partial, x, weight, nullptr, leaves_, Write::overwrite);
  unit_->sum(partial, what);
  ops::add(residual, partial);
  normalise(next);
}

/// Keys of a layer into the scratch, normed and rotated.
void Qwen3::rotate_keys(const Layer& layer, const TokenBatch& batch, const LayerActivations& kept,
                        Tensor& rstd) {
  const std::int64_t q = local_.q_size(), kv = local_.kv_size();
  ops::head_norm_rope_forward(scratch().k.tensor(), rstd, kept.qkv.tensor().columns(q, q + kv),
                              or_null(layer.vectors.k_norm), batch.positions, cosine_.tensor(),
                              sine_.tensor(), config_.rms_norm_eps);
}

/// What library_attention_ reads of a layer whose keys are in the scratch.
PackedHeads Qwen3::heads_of(const TokenBatch& batch, const LayerActivations& kept) const {
  const std::int64_t q = local_.q_size(), kv = local_.kv_size();
  return {kept.q.tensor(), scratch().k.tensor(), kept.qkv.tensor().columns(q + kv, q + 2 * kv),
          batch.first_rows, scale_};
}

void Qwen3::normalise(const NextNorm& next) {
  ops::rms_norm_forward(next.normed, next.rstd, scratch().residual.tensor(), next.weight,
                        config_.rms_norm_eps);
}

/// What a layer begins with.
Qwen3::NextNorm Qwen3::input_norm(const Layer& layer, LayerActivations& kept) {
  return {scratch().normed.tensor(), kept.input_rstd.tensor(), layer.vectors.input_norm};
}

/// q, k, v of input_norm().
void Qwen3::project_heads(const Layer& layer, LayerActivations& kept) {
  ops::linear_forward(kept.qkv.tensor(), scratch().normed.tensor(), layer.qkv.tensor,
                      or_null(layer.vectors.qkv_bias), Sum::chain, Write::overwrite);
}

/// Queries into `kept`, keys into the scratch, both normed and rotated.
void Qwen3::turn_heads(const Layer& layer, const TokenBatch& batch, LayerActivations& kept) {
  const LayerTensors& w = layer.vectors;
  const std::int64_t q = local_.q_size();
  const Tensor& qkv = kept.qkv.tensor();
  ops::head_norm_rope_forward(kept.q.tensor(), kept.q_rstd.tensor(), qkv.columns(0, q),
                              or_null(w.q_norm), batch.positions, cosine_.tensor(), sine_.tensor(),
                              config_.rms_norm_eps);
  rotate_keys(layer, batch, kept, kept.k_rstd.tensor());
}

/// residual += o(attention) over what the cache holds, of whole sequences the same keys and values
/// are in the scratch and in `kept`; then the norm before the MLP.
void Qwen3::attend(const Layer& layer, const TokenBatch& batch, const Tensor& cache,
                   LayerActivations& kept) {
  if (library_attention_ && !batch.first_rows.empty()) {
    library_attention_->forward(kept.attention.tensor(), kept.lse.tensor(), heads_of(batch, kept));
  } else {
    ops::attention_forward(kept.attention.tensor(), kept.lse.tensor(), kept.q.tensor(), cache,
                           batch.attention, scale_);
  }
  add_row_parallel(kept.attention.tensor(), layer.o.tensor, "attention output",
                   {scratch().normed.tensor(), kept.middle_rstd.tensor(), layer.vectors.post_norm});
}

/// The heads of the batch's rows: queries for attention, keys and values into the cache.
void Qwen3::prepare_heads(const Layer& layer, const TokenBatch& batch, Tensor& cache,
                          LayerActivations& kept) {
  ModelScratch& s = scratch();
  const ops::AttentionBatch& sequences = batch.attention;
  if (!sequences.longer && sequences.context.size() == batch.tokens.size()) {  // decoding
    return ops::prepare_heads(
        kept.q.tensor(), kept.q_rstd.tensor(), s.k.tensor(), kept.k_rstd.tensor(), cache,
        kept.qkv.tensor(),
        {or_null(layer.vectors.q_norm), or_null(layer.vectors.k_norm), config_.rms_norm_eps},
        batch.positions, cosine_.tensor(), sine_.tensor(), sequences);
  }
  const std::int64_t q = local_.q_size(), kv = local_.kv_size();
  turn_heads(layer, batch, kept);
  ops::kv_write(cache, s.k.tensor(), kept.qkv.tensor().columns(q + kv, q + 2 * kv), sequences);
}

void Qwen3::attention_block(const Layer& layer, const TokenBatch& batch, Tensor& cache,
                            LayerActivations& kept) {
  project_heads(layer, kept);
  prepare_heads(layer, batch, cache, kept);
  attend(layer, batch, cache, kept);
}

void Qwen3::project_gate_up(const Layer& layer, LayerActivations& kept) {
  ops::linear_forward(kept.gate_up.tensor(), scratch().normed.tensor(), layer.gate_up.tensor,
                      nullptr, Sum::chain, Write::overwrite);
}

/// residual += down(swiglu(gate_up(what attend() has left))); then the next norm.
void Qwen3::mlp_block(const Layer& layer, LayerActivations& kept, const NextNorm& next) {
  ModelScratch& s = scratch();
  if (&kept == &s.layer) {  // which nobody will read
    ops::linear_swiglu(s.mlp.tensor(), kept.gate_up.tensor(), s.normed.tensor(),
                       layer.gate_up.tensor);
  } else {
    project_gate_up(layer, kept);
    ops::swiglu_forward(s.mlp.tensor(), kept.gate_up.tensor());
  }
  add_row_parallel(s.mlp.tensor(), layer.down.tensor, "MLP output", next);
}

/// The activations of a layer once more, from its input; keys and values are still in the cache.
const LayerActivations& Qwen3::recompute(const Layer& layer, const TokenBatch& batch,
                                         const Tensor& cache, const Tensor& input) {
  LayerActivations& kept = scratch().layer;
  ops::convert(kept.input.tensor(), input);
  ops::convert(scratch().residual.tensor(), input);
  normalise(input_norm(layer, kept));
  project_heads(layer, kept);
  turn_heads(layer, batch, kept);
  attend(layer, batch, cache, kept);
  ops::convert(kept.middle.tensor(), scratch().residual.tensor());
  project_gate_up(layer, kept);
  return kept;
}

const Tensor& Qwen3::forward(const TokenBatch& batch, KvCache& cache, Activations* saved) {
  check_ready(batch, cache);
  if (saved != nullptr && options_.use != Use::training) {
    throw Error("forward: activations are saved by a training model only");
  }
  const std::int64_t tokens = batch.tokens.dim(0);
  const bool keeping = saved != nullptr && saved->keep() == Keep::all;
  phase_ = cache.device().phase();
  scratch().reserve_forward(local_, memory(), tokens, dtype(), ranks(),
                            keeping ? Keep::all : Keep::inputs);
  if (saved != nullptr) saved->reserve(local_, memory(), tokens, dtype());
  Tensor& residual = scratch().residual.tensor();
  embed(residual, batch.tokens);
  const auto kept_of = [&](std::size_t i) -> LayerActivations& {
    return keeping ? saved->layers[i] : scratch().layer;
  };
  const NextNorm last{scratch().hidden.tensor(),
                      saved != nullptr ? saved->last_rstd.tensor() : scratch().last_rstd.tensor(),
                      final_norm_};
  const std::size_t layers = layers_.size();
  normalise(layers == 0 ? last : input_norm(layers_[0], kept_of(0)));
  for (std::size_t i = 0; i < layers; ++i) {
    LayerActivations& kept = kept_of(i);
    if (saved != nullptr) ops::convert(saved->layers[i].input.tensor(), residual);
    attention_block(layers_[i], batch, cache.layer(static_cast<std::int64_t>(i)), kept);
    if (keeping) ops::convert(kept.middle.tensor(), residual);
    mlp_block(layers_[i], kept, i + 1 < layers ? input_norm(layers_[i + 1], kept_of(i + 1)) : last);
  }
  if (saved != nullptr) ops::convert(saved->last.tensor(), residual);
  return scratch().hidden.tensor();
}

void Qwen3::local_logits(Tensor& out, const Tensor& hidden) const {
  if (!weights_set_) throw Error("logits: set_weights comes first");
  ops::linear_forward(out, hidden, head_.tensor, nullptr, Sum::chain, Write::overwrite);
}

void Qwen3::logits(Tensor& out, const Tensor& hidden) {
  if (unit_ == nullptr) return local_logits(out, hidden);
  const std::int64_t rows = hidden.dim(0), columns = vocab_.size();
  scratch().reserve_logits(memory(), rows, columns, ranks());
  Buffer &mine = scratch().local_logits, &all = scratch().joined_logits;
  local_logits(mine.tensor(), hidden);
  unit_->gather(all.tensor(), mine.tensor(), "logits");
  for (std::int64_t r = 0; r < shard_.degree; ++r) {
    Tensor to = out.columns(r * columns, (r + 1) * columns);
    ops::copy_rows(to, all.tensor().rows(r, r + 1).view({rows, columns}));
  }
}

}  // namespace fst
