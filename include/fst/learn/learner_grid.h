#pragma once

#include "fst/comm/communicator.h"

namespace fst {

/// The learner ranks as a grid of data parallelism x tensor parallelism: each unit of
/// tensor-parallel ranks computes whole leaves of the gradient, and the ranks with one place in
/// their units, the replicas, hold the same shard of the weights and sum its gradient. Views.
struct LearnerGrid {
  const Communicator* all = nullptr;
  const Communicator* replicas = nullptr;

  LearnerGrid(const Communicator& learners, const Communicator& same_place)
      : all(&learners), replicas(&same_place) {}
  /// Every learner holds the whole model.
  explicit LearnerGrid(const Communicator& learners) : LearnerGrid(learners, learners) {}
};

}  // namespace fst
