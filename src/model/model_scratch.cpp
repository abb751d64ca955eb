#include "fst/model/model_scratch.h"

namespace fst {

namespace {

constexpr DType f32 = DType::f32;
// q, k and v: the most matrices whose parts of a gradient are joined over the ranks in one go.
constexpr std::int64_t most_matrices = 3;

}  // namespace

void ModelScratch::reserve_forward(const Qwen3Config& local, const Device& device,
                                   std::int64_t tokens, DType dtype, std::int64_t ranks,
                                   Keep keep) {
  if (keep == Keep::inputs) reserve_layer(layer, local, device, tokens, dtype);
  residual.reserve(device, dtype, {tokens, local.hidden_size});
  normed.reserve(device, dtype, {tokens, local.hidden_size});
  k.reserve(device, dtype, {tokens, local.kv_size()});
  mlp.reserve(device, dtype, {tokens, local.intermediate_size});
  hidden.reserve(device, dtype, {tokens, local.hidden_size});
  last_rstd.reserve(device, f32, {tokens});
  if (ranks > 1) partial.reserve(device, f32, {tokens, local.hidden_size});
}

void ModelScratch::reserve_backward(const Qwen3Config& local, const Device& device,
                                    std::int64_t tokens, DType dtype, std::int64_t ranks,
                                    Keep keep) {
  if (keep == Keep::inputs) {
    reserve_layer(layer, local, device, tokens, dtype);
    layer.input.reserve(device, dtype, {tokens, local.hidden_size});
    layer.middle.reserve(device, dtype, {tokens, local.hidden_size});
  }
  dresidual.reserve(device, dtype, {tokens, local.hidden_size});
  dnormed.reserve(device, dtype, {tokens, local.hidden_size});
  normed.reserve(device, dtype, {tokens, local.hidden_size});
  dqkv.reserve(device, dtype, {tokens, local.qkv_size()});
  dq.reserve(device, dtype, {tokens, local.q_size()});
  dk.reserve(device, dtype, {tokens, local.kv_size()});
  dattention.reserve(device, dtype, {tokens, local.q_size()});
  dgate_up.reserve(device, dtype, {tokens, 2 * local.intermediate_size});
  mlp.reserve(device, dtype, {tokens, local.intermediate_size});
  dmlp.reserve(device, dtype, {tokens, local.intermediate_size});
  rstd.reserve(device, f32, {tokens});
  k_rstd.reserve(device, f32, {tokens, local.num_key_value_heads});
  if (ranks > 1) whole.reserve(device, f32, {most_matrices * tokens, local.hidden_size});
}

void ModelScratch::reserve_logits(const Device& device, std::int64_t rows, std::int64_t columns,
                                  std::int64_t ranks) {
  if (ranks <= 1) return;
  local_logits.reserve(device, f32, {rows, columns});
  joined_logits.reserve(device, f32, {ranks, rows * columns});
}

}  // namespace fst
