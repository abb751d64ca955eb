#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "fst/base/range.h"
#include "fst/comm/communicator.h"
#include "fst/model/gradients.h"

namespace fst {

/// Sums gradient leaves over the learners in one fixed binary tree (halved at the middle), so that
/// the result does not depend on how many learners there are; each learner keeps its shard of the
/// sum (ZeRO-1). Rank r of R computes leaves part_of(leaves, R, r). Holds up to 1 + log2(leaves /
/// R) gradients.
class GradientTree {
 public:
  GradientTree(const Qwen3Config& config, const Device& device, const Communicator& learners,
               std::int64_t leaves);

  /// Adds the gradient of leaf `leaf` to zeroed accumulators.
  using LeafGradient = std::function<void(std::int64_t leaf, Gradients& gradients)>;
  /// This rank's shard of the sum, f32 [shard().size()], valid until the next call. Collective over
  /// the learners.
  const Tensor& reduce(const LeafGradient& gradient_of);

  std::int64_t leaves() const { return leaves_; }
  Range own_leaves() const;
  /// Elements of the flat parameter vector that this rank updates.
  Range shard() const { return shard_; }
  std::int64_t size() const { return size_; }

 private:
  using Node = std::unique_ptr<Gradients>;
  Node sum_of(Range leaves, const LeafGradient& gradient_of);
  void collect(Range leaves, Range own, std::vector<Range>& nodes) const;
  Tensor join(Range leaves, const std::vector<std::pair<Range, Tensor>>& parts);
  Tensor exchange(const std::vector<Node>& nodes);
  Node take();

  Qwen3Config config_;
  Device device_;
  const Communicator* learners_;
  std::int64_t leaves_, size_;
  Range shard_;
  std::vector<Node> spare_;
  Node root_;        // the sum, with one learner
  Buffer received_;  // nodes for this shard, with more
  Tensor result_;
};

}  // namespace fst
