#include "fst/model/activations.h"

namespace fst {

void reserve_layer(LayerActivations& layer, const Qwen3Config& config, const Device& device,
                   std::int64_t tokens) {
  const DType f32 = DType::f32;
  layer.input_rstd.reserve(device, f32, {tokens});
  layer.qkv.reserve(device, f32, {tokens, config.qkv_size()});
  layer.q_rstd.reserve(device, f32, {tokens, config.num_attention_heads});
  layer.k_rstd.reserve(device, f32, {tokens, config.num_key_value_heads});
  layer.q.reserve(device, f32, {tokens, config.q_size()});
  layer.attention.reserve(device, f32, {tokens, config.q_size()});
  layer.lse.reserve(device, f32, {tokens, config.num_attention_heads});
  layer.middle_rstd.reserve(device, f32, {tokens});
  layer.gate_up.reserve(device, f32, {tokens, 2 * config.intermediate_size});
}

void Activations::reserve(const Qwen3Config& config, const Device& device, std::int64_t tokens) {
  layers.resize(static_cast<std::size_t>(config.num_hidden_layers));
  for (LayerActivations& layer : layers) {
    reserve_layer(layer, config, device, tokens);
    layer.input.reserve(device, DType::f32, {tokens, config.hidden_size});
    layer.middle.reserve(device, DType::f32, {tokens, config.hidden_size});
  }
  last.reserve(device, DType::f32, {tokens, config.hidden_size});
  last_rstd.reserve(device, DType::f32, {tokens});
}

std::int64_t Activations::bytes_per_token(const Qwen3Config& config) {
  const std::int64_t heads = 2 * config.num_attention_heads + config.num_key_value_heads;
  const std::int64_t layer = 2 * (config.hidden_size + 1) + config.qkv_size() +
                             2 * config.q_size() + heads + 2 * config.intermediate_size;
  return size_of(DType::f32) * (config.num_hidden_layers * layer + config.hidden_size + 1);
}

}  // namespace fst
