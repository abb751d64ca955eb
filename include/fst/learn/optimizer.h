#pragma once

#include <cstdint>
#include <vector>

#include "fst/comm/communicator.h"
#include "fst/learn/gradient_tree.h"
#include "fst/learn/learner_grid.h"
#include "fst/model/parameters.h"

namespace fst {

struct AdamWOptions {
  double beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weight_decay = 0.0;
  double clip = 1.0;           // limit of the global gradient norm; 0: none
  double gain_lr_scale = 1.0;  // factor on the rate of q_norm and k_norm
};

/// AdamW on this rank's shard of its flat parameter vector (ZeRO-1): moments and float32 masters
/// exist once across the replicas, and new weights travel as they are held. What every rank of a
/// unit holds, the norms, each of them updates, to the same bits.
class Optimizer {
 public:
  /// Throws Error unless `parameters` hold masters of the shard.
  Optimizer(Parameters& parameters, Range shard, const LearnerGrid& grid,
            const AdamWOptions& options);

  /// One update with the shard of the gradient; then every learner has all parameters of its place.
  /// Returns the norm of the whole gradient before clipping, from an exact sum of squares in which
  /// each element counts once. Throws Error if it is not finite. Collective over the grid.
  double step(const Tensor& gradient_shard, double lr);

  /// Updates made; the t of Adam's bias correction.
  std::int64_t steps() const { return steps_; }
  void set_steps(std::int64_t steps) { steps_ = steps; }
  Range shard() const { return shard_; }
  Tensor& m() { return m_.tensor(); }  // [shard]
  Tensor& v() { return v_.tensor(); }  // [shard]

 private:
  double norm_of(const Tensor& gradient_shard) const;
  void gather();
  Parameters* parameters_;
  Range shard_;
  LearnerGrid grid_;
  AdamWOptions options_;
  std::int64_t steps_ = 0;
  Buffer m_, v_;
};

}  // namespace fst
