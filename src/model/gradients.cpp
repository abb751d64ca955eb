#include "fst/model/gradients.h"

#include <algorithm>

#include "fst/base/error.h"
#include "fst/tensor/host_view.h"
#include "fst/tensor/ops.h"

namespace fst {

namespace {

/// Where the head-wise parts of one norm's gradient lie: those of head i of rank r at data +
/// r * rank_stride + i * size.
struct HeadParts {
  const float* data;
  std::int64_t heads_per_rank, rank_stride, size;

  float at(std::int64_t head, std::int64_t element) const {
    const std::int64_t rank = head / heads_per_rank, own = head % heads_per_rank;
    return data[rank * rank_stride + own * size + element];
  }
};

/// Halves at the middle, recursively: the contract's tree for any count.
float tree_sum(const HeadParts& parts, std::int64_t element, std::int64_t begin, std::int64_t end) {
  if (end - begin == 1) return parts.at(begin, element);
  const std::int64_t middle = begin + (end - begin) / 2;
  return tree_sum(parts, element, begin, middle) + tree_sum(parts, element, middle, end);
}

void join_heads(const Tensor& joined, const HeadParts& parts, std::int64_t heads) {
  HostView<float> sums(joined, Contents::undefined);
  for (std::int64_t i = 0; i < parts.size; ++i) sums[i] = tree_sum(parts, i, 0, heads);
  sums.store();
}

}  // namespace

Gradients::Gradients(const Qwen3Config& config, const Device& device, const TensorParallel* unit)
    : flat_(config, device, shard_of(unit)),
      local_(local_config(config, flat_.shard())),
      unit_(flat_.shard().degree > 1 ? unit : nullptr),
      layer_begun_(static_cast<std::size_t>(config.num_hidden_layers), false) {
  if (config.qk_norm()) {
    const std::int64_t heads = local_.num_attention_heads + local_.num_key_value_heads;
    head_norms_ = Buffer(device, DType::f32, {config.num_hidden_layers, heads * config.head_dim});
    if (unit_ != nullptr) {
      gathered_norms_ =
          Buffer(device, DType::f32, {flat_.shard().degree, head_norms_.tensor().size()});
    }
  }
  if (config.tie_word_embeddings) {
    const std::int64_t rows = vocab_range(config, flat_.shard()).size();
    tied_head_ = Buffer(device, DType::f32, {rows, config.hidden_size});
  }
}

void Gradients::zero() {
  for (const ParameterSpec& spec : flat_.specs()) {
    if (spec.rank != 1) continue;
    Tensor vector = flat_.at(spec);
    ops::fill(vector, 0.0f);
  }
  Tensor embedding = flat_.embedding();
  ops::fill(embedding, 0.0f);
  if (!head_norms_.tensor().empty()) ops::fill(head_norms_.tensor(), 0.0f);
  layer_begun_.assign(layer_begun_.size(), false);
  head_begun_ = false;
  finished_ = false;
}

void Gradients::zero_matrices(std::int64_t layer) {
  const LayerTensors tensors = flat_.layer(layer);
  for (Tensor matrix : {tensors.qkv, tensors.o, tensors.gate_up, tensors.down}) {
    ops::fill(matrix, 0.0f);
  }
}

void Gradients::expect_open() const {
  if (finished_) throw Error("gradients: finished; zero() comes before more is added");
}

LayerTensors Gradients::layer(std::int64_t index) {
  ops::Chain chain{};
  const LayerTensors tensors = layer(index, chain);
  if (chain == ops::Chain::begin) zero_matrices(index);
  return tensors;
}

LayerTensors Gradients::layer(std::int64_t index, ops::Chain& chain) {
  expect_open();
  const auto at = static_cast<std::size_t>(index);
  chain = layer_begun_.at(at) ? ops::Chain::resume : ops::Chain::begin;
  layer_begun_[at] = true;
  LayerTensors layer = flat_.layer(index);
  if (local_.qk_norm()) {
    const std::int64_t queries = local_.num_attention_heads, keys = local_.num_key_value_heads;
    const Tensor all =
        head_norms_.tensor().rows(index, index + 1).view({queries + keys, local_.head_dim});
    layer.q_norm = all.rows(0, queries);
    layer.k_norm = all.rows(queries, queries + keys);
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

Tensor Gradients::head() {
  ops::Chain chain{};
  Tensor sums = head(chain);
  if (chain == ops::Chain::begin) ops::fill(sums, 0.0f);
  return sums;
}

Tensor Gradients::head(ops::Chain& chain) {
  expect_open();
  chain = head_begun_ ? ops::Chain::resume : ops::Chain::begin;
  head_begun_ = true;
  return flat_.config().tie_word_embeddings ? tied_head_.tensor() : flat_.head();
}

/// The halving tree runs over the heads of the whole model, whichever rank holds them.
void Gradients::join_head_norms() {
  Tensor all = head_norms_.tensor();
  if (unit_ != nullptr) {
    all = gathered_norms_.tensor();
    unit_->gather(all, head_norms_.tensor(), "gradients of q_norm and k_norm");
  }
  const Qwen3Config& config = flat_.config();
  const std::int64_t queries = local_.num_attention_heads, keys = local_.num_key_value_heads;
  const std::int64_t size = config.head_dim, rank_stride = head_norms_.tensor().size();
  const HostView<const float> parts(all);
  for (std::int64_t l = 0; l < config.num_hidden_layers; ++l) {
    const float* layer = parts.data() + l * (queries + keys) * size;
    const LayerTensors joined = flat_.layer(l);
    join_heads(joined.q_norm, {layer, queries, rank_stride, size}, config.num_attention_heads);
    join_heads(joined.k_norm, {layer + queries * size, keys, rank_stride, size},
               config.num_key_value_heads);
  }
}

const Tensor& Gradients::finish() {
  if (finished_) return flat_.flat();
  for (std::int64_t l = 0; l < local_.num_hidden_layers; ++l) {
    if (!layer_begun_[static_cast<std::size_t>(l)]) zero_matrices(l);
  }
  if (!head_begun_) head();
  if (local_.qk_norm()) join_head_norms();
  if (local_.tie_word_embeddings) {
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
  const std::int64_t elements = flat_.size() + head_norms_.tensor().size() +
                                gathered_norms_.tensor().size() + tied_head_.tensor().size();
  return elements * size_of(DType::f32);
}

}  // namespace fst
