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

/// Sums gradient leaves over the replicas of a model in one fixed binary tree (halved at the
/// middle), so that the result does not depend on how many replicas there are; each keeps its shard
/// of the sum (ZeRO-1). Replica r of R computes leaves part_of(leaves, R, r). Holds up to
/// held_gradients(leaves / R): the fewest with which leaves can be joined in order. What this
/// leaves room for waits, so that one pass over memory joins several: with eight leaves {0 1 2 3},
/// {4 5} and then these two with 6 and 7.
///
/// Where several ranks share a replica, each has such a tree over the gradient of its shard of the
/// model, with the ranks of its place in the other units.
class GradientTree {
 public:
  /// Elements of a bucket: of what comes from all replicas, so much is held at a time, or one
  /// element of each partial sum.
  static constexpr std::int64_t default_bucket = std::int64_t{1} << 24;
  /// `unit` as in Qwen3Options. All replicas have the same bucket; it changes no bit.
  GradientTree(const Qwen3Config& config, const Device& device, const Communicator& replicas,
               std::int64_t leaves, const TensorParallel* unit = nullptr,
               std::int64_t bucket_elements = default_bucket);

  /// Adds the gradient of leaf `leaf` to zeroed accumulators.
  using LeafGradient = std::function<void(std::int64_t leaf, Gradients& gradients)>;
  /// This rank's shard of the sum, f32 [shard().size()], valid until the next call. Collective over
  /// the replicas and, as the leaves are, over the unit.
  const Tensor& reduce(const LeafGradient& gradient_of);

  /// Gradients that are held to sum `leaves` of them, at most: 1 + log2(leaves), rounded up.
  static std::int64_t held_gradients(std::int64_t leaves);
  /// Takes at once all that reduce() needs.
  void reserve();
  /// Elements that the exchange of a gradient of `size` between replicas holds beside the
  /// gradients, at most: the shard of the sum and a bucket. For memory plans.
  static std::int64_t exchanged_elements(std::int64_t leaves, std::int64_t replicas,
                                         std::int64_t size);
  /// The elements of a flat parameter vector of `size` that this rank of the replicas updates.
  static Range shard_of(std::int64_t size, const Communicator& replicas) {
    return part_of(size, replicas.size(), replicas.rank());
  }
  std::int64_t leaves() const { return leaves_; }
  Range own_leaves() const;
  /// shard_of() this gradient.
  Range shard() const { return shard_; }
  std::int64_t size() const { return size_; }

 private:
  using Node = std::unique_ptr<Gradients>;
  using Part = std::pair<Range, Node>;
  Node leaf(std::int64_t index, const LeafGradient& gradient_of);
  Node sum_of(Range leaves, std::int64_t room, const LeafGradient& gradient_of);
  static void collect(Range leaves, Range own, std::vector<Range>& nodes);
  Range piece_of(int rank, std::int64_t pieces, std::int64_t piece) const;
  const Tensor& exchange(const std::vector<Node>& nodes);
  Node take();

  Qwen3Config config_;
  Device device_;
  const Communicator* replicas_;
  const TensorParallel* unit_;
  std::int64_t leaves_, size_ = 0, bucket_;
  Range shard_;
  std::vector<Node> spare_;
  Node root_;        // the sum, with one replica; with more:
  Buffer received_;  // a piece of this shard of the nodes
  Buffer result_;    // this shard of the sum
};

}  // namespace fst
