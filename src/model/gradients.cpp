#include "fst/model/gradients.h"

#include <algorithm>

#include "fst/base/error.h"
#include "fst/tensor/ops.h"

namespace fst {

namespace {

/// Halves at the middle, recursively: the contract's tree for any count. `parts` [count, stride].
float tree_sum(const float* parts, std::int64_t begin, std::int64_t end, std::int64_t stride) {
  if (end - begin == 1) return parts[begin * stride];
  const std::int64_t middle = begin + (end - begin) / 2;
  return tree_sum(parts, begin, middle, stride) + tree_sum(parts, middle, end, stride);
}

void join_heads(Tensor& joined, const Tensor& parts) {
  const std::int64_t heads = parts.dim(0), size = parts.dim(1);
  for (std::int64_t i = 0; i < size; ++i) {
    joined.data<float>()[i] = tree_sum(parts.data<float>() + i, 0, heads, size);
  }
}

}  // namespace

Gradients::Gradients(const Qwen3Config& config, const Device& device) : flat_(config, device) {
  if (config.qk_norm()) {
    const std::int64_t heads = config.num_attention_heads + config.num_key_value_heads;
    head_norms_ = Buffer(device, DType::f32, {config.num_hidden_layers, heads * config.head_dim});
  }
  if (config.tie_word_embeddings) {
    tied_head_ = Buffer(device, DType::f32, {config.vocab_size, config.hidden_size});
  }
}

void Gradients::zero() {
  ops::fill(flat_.flat(), 0.0f);
  if (!head_norms_.tensor().empty()) ops::fill(head_norms_.tensor(), 0.0f);
  if (!tied_head_.tensor().empty()) ops::fill(tied_head_.tensor(), 0.0f);
  finished_ = false;
}

void Gradients::expect_open() const {
  if (finished_) throw Error("gradients: finished; zero() comes before more is added");
}

LayerTensors Gradients::layer(std::int64_t index) const {
  expect_open();
  LayerTensors layer = flat_.layer(index);
  const Qwen3Config& config = flat_.config();
  if (config.qk_norm()) {
    const Tensor all =
        head_norms_.tensor()
            .rows(index, index + 1)
            .view({config.num_attention_heads + config.num_key_value_heads, config.head_dim});
    layer.q_norm = all.rows(0, config.num_attention_heads);
    layer.k_norm = all.rows(config.num_attention_heads, all.dim(0));
  }
  return layer;
}

Tensor Gradients::embedding() const {
  expect_open();
  return flat_.embedding();
}

Tensor Gradients::final_norm() const {
  expect_open();
  return flat_.final_norm();
}

Tensor Gradients::head() const {
  expect_open();
  return flat_.config().tie_word_embeddings ? tied_head_.tensor() : flat_.head();
}

const Tensor& Gradients::finish() {
  if (finished_) return flat_.flat();
  const Qwen3Config& config = flat_.config();
  for (std::int64_t l = 0; config.qk_norm() && l < config.num_hidden_layers; ++l) {
    const LayerTensors parts = layer(l);
    LayerTensors joined = flat_.layer(l);
    join_heads(joined.q_norm, parts.q_norm);
    join_heads(joined.k_norm, parts.k_norm);
  }
  if (config.tie_word_embeddings) {
    Tensor embedding = flat_.embedding();
    ops::add(embedding, tied_head_.tensor());
  }
  finished_ = true;
  return flat_.flat();
}

Tensor Gradients::at(const std::string& name) const {
  if (!finished_) throw Error("gradients: finish() comes before " + name + " is read");
  return flat_.at(name);
}

std::int64_t Gradients::bytes() const {
  const std::int64_t elements =
      flat_.size() + head_norms_.tensor().size() + tied_head_.tensor().size();
  return elements * size_of(DType::f32);
}

}  // namespace fst
