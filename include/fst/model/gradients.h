#pragma once

#include <vector>

#include "fst/model/parameters.h"
#include "fst/tensor/ops.h"

namespace fst {

/// Accumulators of one gradient leaf, f32. Like Parameters but for sums whose order must not depend
/// on tensor parallelism or on the order of uses: q_norm and k_norm have one row per head, and a
/// tied embedding has two accumulators. The canonical flat vector lies in place: finish() only
/// joins the parts into it, so a leaf costs little more memory than its parameters.
///
/// Of a model that several ranks share these are the gradients of this rank's shard. Those of the
/// norms are the same on every rank: finish() gathers the heads' parts of q_norm and k_norm, the
/// others come out so by themselves.
class Gradients {
 public:
  /// `config`: the whole model's. `unit` as in Qwen3Options; must outlive this.
  Gradients(const Qwen3Config& config, const Device& device, const TensorParallel* unit = nullptr);

  /// Back to zero, ready to accumulate. Most of it, the matrices, becomes zero only where somebody
  /// reads it before a backward pass writes it.
  void zero();
  /// Accumulators of a layer; q_norm [N, H], k_norm [K, H], this rank's heads. Throws Error after
  /// finish().
  LayerTensors layer(std::int64_t index);
  Tensor embedding() const;   // [V, D], the look-up's use only
  Tensor final_norm() const;  // [D]
  Tensor head();              // [V, D], the head's use only

  /// The same for the backward pass, which adds a whole product to each of qkv, o, gate_up and down
  /// (to the head). `chain` says how: where it begins they are not zero but hold old numbers.
  LayerTensors layer(std::int64_t index, ops::Chain& chain);
  Tensor head(ops::Chain& chain);

  /// Joins heads by the halving tree and a tied embedding as (look-up + head), once. Returns the
  /// gradient [n] in the order of specs(), valid until zero(); a second call returns the same.
  /// Collective over the unit.
  const Tensor& finish();
  /// View of one parameter's finished gradient. Throws Error before finish().
  Tensor at(const std::string& name) const;

  const std::vector<ParameterSpec>& specs() const { return flat_.specs(); }
  std::int64_t bytes() const;

 private:
  void expect_open() const;
  void zero_matrices(std::int64_t layer);
  void join_head_norms();
  Parameters flat_;
  Qwen3Config local_;              // heads of this rank
  const TensorParallel* unit_;     // nullptr where nothing is shared
  Buffer head_norms_;              // [layers, (N + K) * H], or empty
  Buffer gathered_norms_;          // those of all ranks, one after the other
  Buffer tied_head_;               // [V, D], or empty
  std::vector<bool> layer_begun_;  // the matrices hold sums, else what they held before zero()
  bool head_begun_ = false;
  bool finished_ = false;
};

}  // namespace fst
