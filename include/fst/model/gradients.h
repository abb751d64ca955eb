#pragma once

#include "fst/model/parameters.h"

namespace fst {

/// Accumulators of one gradient leaf, f32. Like Parameters but for sums whose order must not depend
/// on tensor parallelism or on the order of uses: q_norm and k_norm have one row per head, and a
/// tied embedding has two accumulators. The canonical flat vector lies in place: finish() only
/// joins the parts into it, so a leaf costs little more memory than its parameters.
class Gradients {
 public:
  Gradients(const Qwen3Config& config, const Device& device);

  /// Back to zero, ready to accumulate.
  void zero();
  /// Accumulators of a layer; q_norm [N, H], k_norm [K, H]. Throws Error after finish().
  LayerTensors layer(std::int64_t index) const;
  Tensor embedding() const;   // [V, D], the look-up's use only
  Tensor final_norm() const;  // [D]
  Tensor head() const;        // [V, D], the head's use only

  /// Joins heads by the halving tree and a tied embedding as (look-up + head), once. Returns the
  /// gradient [n] in the order of parameter_specs(), valid until zero(); a second call returns the
  /// same.
  const Tensor& finish();
  /// View of one parameter's finished gradient. Throws Error before finish().
  Tensor at(const std::string& name) const;

  const std::vector<ParameterSpec>& specs() const { return flat_.specs(); }
  std::int64_t bytes() const;

 private:
  void expect_open() const;
  Parameters flat_;
  Buffer head_norms_;  // [layers, (N + K) * H], or empty
  Buffer tied_head_;   // [V, D], or empty
  bool finished_ = false;
};

}  // namespace fst
