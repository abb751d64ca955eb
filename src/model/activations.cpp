#include "fst/model/activations.h"

namespace fst {

void reserve_layer(LayerActivations& layer, const Qwen3Config& config, const Device& device,
                   std::int64_t tokens, DType dtype) {
  const DType f32 = DType::f32;
  layer.input_rstd.reserve(device, f32, {tokens});
  layer.qkv.reserve(device, dtype, {tokens, config.qkv_size()});
  layer.q_rstd.reserve(device, f32, {tokens, config.num_attention_heads});
  layer.k_rstd.reserve(device, f32, {tokens, config.num_key_value_heads});
  layer.q.reserve(device, dtype, {tokens, config.q_size()});
  layer.attention.reserve(device, dtype, {tokens, config.q_size()});
  layer.lse.reserve(device, f32, {tokens, config.num_attention_heads});
  layer.middle_rstd.reserve(device, f32, {tokens});
  layer.gate_up.reserve(device, dtype, {tokens, 2 * config.intermediate_size});
}

void Activations::reserve(const Qwen3Config& config, const Device& device, std::int64_t tokens,
                          DType dtype) {
  layers.resize(static_cast<std::size_t>(config.num_hidden_layers));
  for (LayerActivations& layer : layers) {
    layer.input.reserve(device, dtype, {tokens, config.hidden_size});
    if (keep_ == Keep::inputs) continue;
    reserve_layer(layer, config, device, tokens, dtype);
    layer.middle.reserve(device, dtype, {tokens, config.hidden_size});
  }
  last.reserve(device, dtype, {tokens, config.hidden_size});
  last_rstd.reserve(device, DType::f32, {tokens});
}

std::int64_t Activations::bytes_per_token(const Qwen3Config& config, DType dtype, Keep keep) {
  const std::int64_t stream = size_of(dtype) * config.hidden_size, f32 = size_of(DType::f32);
  const std::int64_t row_sums = 2 + 2 * config.num_attention_heads + config.num_key_value_heads;
  const std::int64_t layer = size_of(dtype) * (config.hidden_size + config.qkv_size() +
                                               2 * config.q_size() + 2 * config.intermediate_size) +
                             f32 * row_sums;
  const std::int64_t layers = config.num_hidden_layers;
  return stream * (layers + 1) + f32 + layer * (keep == Keep::all ? layers : 0);
}

}  // namespace fst
