#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <vector>

#include "fst/model/activations.h"
#include "fst/model/gradients.h"
#include "fst/model/kv_cache.h"
#include "fst/model/model_scratch.h"
#include "fst/model/parameters.h"
#include "fst/model/token_batch.h"
#include "fst/tensor/library_attention.h"
#include "fst/tensor/ops.h"

namespace fst {

/// What a model will be asked for. training: forward and backward; inference: forward only, and the
/// weights are held once, packed.
enum class Use { inference, training };

/// Whose attention a training model's passes over whole sequences (PackedSequences) use: our own,
/// or cuDNN's, whose bits may depend on the batch (tensor/library_attention.h). What is sampled, in
/// chunks and token by token, always uses our own.
enum class Attention { own, cudnn };

struct Qwen3Options {
  Use use = Use::inference;
  /// Length of the rotary table: every position must be below it.
  std::int64_t max_positions = 0;
  /// How weights and activations are stored, f32 or bf16; sums are float32 (tensor/ops.h).
  DType dtype = DType::f32;
  /// cudnn: training in bf16 on a GPU only.
  Attention attention = Attention::own;
  /// The ranks that share the model, each with its shard; nullptr or one rank: the whole model, and
  /// nothing is communicated. Must outlive the model.
  const TensorParallel* unit = nullptr;
};

/// The decoder, forward and backward; one implementation for sampling, scoring and training.
///
/// Every row of the result is a function of its own sequence alone: no bit depends on the batch,
/// the packing, the chunking of a prefill, the threads or the instruction set. Orders of sums are
/// the contract of kernels/README.md; the gradient of the residual stream is (gradient from above)
/// + (gradient through the norm), at each of the two norms of a layer.
///
/// With a unit of more than one rank forward, backward, logits and logits_backward are collective
/// over it: all ranks pass the same batch, each its own shard of weights, cache, activations and
/// gradients, and hidden states and their gradients are whole and the same on all. Every degree
/// gives the bits of degree 1. Column-parallel: q, k, v, gate, up (whole heads, MLP columns) and
/// the head (vocabulary rows); row-parallel: o and down, whose leaves are joined over the ranks.
class Qwen3 {
 public:
  /// `config`: the whole model's. Throws InputError if the unit's degree does not divide it.
  Qwen3(const Qwen3Config& config, const Device& device, const Qwen3Options& options);

  /// Takes the weights, which are of dtype(), and packs them where the device's products want them
  /// packed. Where they are read in place `parameters` must outlive the model, and after any change
  /// to them set_weights comes before the next call; else they are copied and `parameters` may go.
  void set_weights(const Parameters& parameters);
  /// The same for weights that nobody else holds: kept where they are read in place, else let go.
  void set_weights(Parameters&& parameters);
  /// Whether forward or backward read the parameters: in training, and where products take weights
  /// as they are (ops::packs()).
  bool reads_in_place() const {
    return options_.use == Use::training || !ops::packs(device_, dtype());
  }

  /// Hidden states after the final norm, [T, D], valid until the next forward. What the model
  /// works on, the result included, is memory of the phase that the cache's is. Appends the batch's
  /// keys and values to `cache` and attends to what is there. With `saved` keeps what backward
  /// needs (context 0 for every sequence; training only). Throws Error for tokens outside the
  /// vocabulary, positions outside the table and blocks outside the cache.
  const Tensor& forward(const TokenBatch& batch, KvCache& cache, Activations* saved = nullptr);
  /// logits [R, V] = hidden [R, D] * head^T, all of them on every rank.
  void logits(Tensor& out, const Tensor& hidden);
  /// This rank's columns vocab() of them; not collective. out [R, vocab().size()].
  void local_logits(Tensor& out, const Tensor& hidden) const;

  /// Adds to `gradients` the gradient of all parameters but the head, given dhidden [T, D] = dL /
  /// d(result of forward). `batch`, `cache` and `saved` as forward left them.
  void backward(const TokenBatch& batch, const KvCache& cache, const Activations& saved,
                const Tensor& dhidden, Gradients& gradients);
  /// The head's part: dhidden [R, D] (overwritten) and the head's weight gradient, continued over
  /// the rows in order. dlogits [R, vocab().size()], hidden [R, D], all of dtype(). `first_rows`:
  /// where sequences begin among the rows (linear_backward_weight() in tensor/ops.h).
  void logits_backward(Tensor& dhidden, Gradients& gradients, const Tensor& dlogits,
                       const Tensor& hidden, std::span<const std::int32_t> first_rows = {});

  /// The whole model's.
  const Qwen3Config& config() const { return config_; }
  /// What this rank computes; its KvCache and Activations are made from it.
  const Qwen3Config& local_config() const { return local_; }
  const Shard& shard() const { return shard_; }
  /// Rows of the embedding and the head on this rank.
  const Range& vocab() const { return vocab_; }
  /// nullptr unless the model is shared by several ranks.
  const TensorParallel* unit() const { return unit_; }
  const Device& device() const { return device_; }
  DType dtype() const { return options_.dtype; }
  std::int64_t max_positions() const { return options_.max_positions; }
  std::int64_t ranks() const { return shard_.degree; }
  /// What the model works on where the cache is of that phase.
  ModelScratch& scratch(MemoryPhase phase) { return scratch_[static_cast<std::size_t>(phase)]; }
  /// Weights held by this object; scratch and others' Parameters it reads in place come on top.
  std::int64_t weight_bytes() const;

 private:
  /// A matrix as linear_forward takes it: packed, or as it is (ops::packs()).
  struct Weight {
    Buffer packed;
    Tensor tensor;
  };
  struct Layer {
    LayerTensors vectors;  // norms and biases, copied
    LayerTensors natural;  // training: views of the Parameters
    Weight qkv, o, gate_up, down;
  };
  /// What is made of the residual when a product has been added to it.
  struct NextNorm {
    Tensor &normed, &rstd;
    const Tensor& weight;
  };

  void check_ready(const TokenBatch& batch, const KvCache& cache) const;
  /// Where the last forward worked: in the phase of its cache.
  ModelScratch& scratch() { return scratch_[static_cast<std::size_t>(phase_)]; }
  const ModelScratch& scratch() const { return scratch_[static_cast<std::size_t>(phase_)]; }
  Device memory() const { return device_.during(phase_); }
  void project_heads(const Layer& layer, LayerActivations& kept);
  void turn_heads(const Layer& layer, const TokenBatch& batch, LayerActivations& kept);
  void prepare_heads(const Layer& layer, const TokenBatch& batch, Tensor& cache,
                     LayerActivations& kept);
  void attend(const Layer& layer, const TokenBatch& batch, const Tensor& cache,
              LayerActivations& kept);
  void attention_block(const Layer& layer, const TokenBatch& batch, Tensor& cache,
                       LayerActivations& kept);
  PackedHeads heads_of(const TokenBatch& batch, const LayerActivations& kept) const;
  void rotate_keys(const Layer& layer, const TokenBatch& batch, const LayerActivations& kept,
                   Tensor& rstd);
  void heads_backward(const Layer& layer, const TokenBatch& batch, const Tensor& cache,
                      const LayerActivations& kept);
  void project_gate_up(const Layer& layer, LayerActivations& kept);
  void mlp_block(const Layer& layer, LayerActivations& kept, const NextNorm& next);
  const LayerActivations& recompute(const Layer& layer, const TokenBatch& batch,
                                    const Tensor& cache, const Tensor& input);
  void set_layer(Layer& layer, const LayerTensors& natural);
  void set_weight(Weight& weight, const Tensor& natural, ops::Sum sum);
  void embed(Tensor& out, const Tensor& tokens);
  void add_row_parallel(const Tensor& x, const Tensor& weight, const char* what,
                        const NextNorm& next);
  void normalise(const NextNorm& next);
  NextNorm input_norm(const Layer& layer, LayerActivations& kept);
  Tensor fused_backward_input(const Tensor& dy, const Tensor& weight,
                              std::span<const std::int64_t> sizes, const char* what);
  void attention_block_backward(const Layer& layer, const TokenBatch& batch, const Tensor& cache,
                                const LayerActivations& kept, LayerTensors& gradient,
                                ops::Chain chain);
  void mlp_block_backward(const Layer& layer, const TokenBatch& batch, const LayerActivations& kept,
                          LayerTensors& gradient, ops::Chain chain);

  Qwen3Config config_, local_;
  Device device_;
  Qwen3Options options_;
  const TensorParallel* unit_;  // nullptr where nothing is shared
  Shard shard_;
  Range vocab_;
  ops::Sum leaves_;  // of a sum that the ranks share
  float scale_ = 1.0f;
  bool weights_set_ = false;
  std::vector<Layer> layers_;
  Buffer vectors_;                 // f32 copies of all norms and biases
  std::optional<Parameters> own_;  // read in place, and nobody else's
  Buffer embedding_copy_;          // inference only
  Tensor embedding_;               // [V, D], this rank's rows
  Tensor natural_head_;            // the same, training only
  Tensor final_norm_;
  Weight head_;
  Buffer cosine_, sine_;  // [max_positions, H / 2]
  std::array<ModelScratch, phase_count> scratch_;
  MemoryPhase phase_ = MemoryPhase::always;
  std::optional<LibraryAttention> library_attention_;  // none: our own
};

}  // namespace fst
