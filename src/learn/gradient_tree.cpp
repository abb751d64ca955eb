#include "fst/learn/gradient_tree.h"

#include <algorithm>

#include "fst/base/error.h"
#include "fst/tensor/ops.h"

namespace fst {

GradientTree::GradientTree(const Qwen3Config& config, const Device& device,
                           const Communicator& replicas, std::int64_t leaves,
                           const TensorParallel* unit)
    : config_(config), device_(device), replicas_(&replicas), unit_(unit), leaves_(leaves) {
  spare_.push_back(std::make_unique<Gradients>(config_, device_, unit_));
  const auto& last = spare_.front()->specs().back();
  size_ = last.offset + last.size();
  shard_ = part_of(size_, replicas.size(), replicas.rank());
}

Range GradientTree::own_leaves() const {
  return part_of(leaves_, replicas_->size(), replicas_->rank());
}

GradientTree::Node GradientTree::take() {
  if (spare_.empty()) return std::make_unique<Gradients>(config_, device_, unit_);
  Node node = std::move(spare_.back());
  spare_.pop_back();
  return node;
}

GradientTree::Node GradientTree::sum_of(Range leaves, const LeafGradient& gradient_of) {
  if (leaves.size() == 1) {
    Node node = take();
    node->zero();
    gradient_of(leaves.begin, *node);
    node->finish();
    return node;
  }
  const std::int64_t middle = leaves.begin + leaves.size() / 2;
  Node left = sum_of({leaves.begin, middle}, gradient_of);
  Node right = sum_of({middle, leaves.end}, gradient_of);
  Tensor sum = left->finish();
  ops::add(sum, right->finish());
  spare_.push_back(std::move(right));
  return left;
}

/// The largest nodes of the tree whose leaves all lie in `own`, in order.
void GradientTree::collect(Range leaves, Range own, std::vector<Range>& nodes) {
  if (leaves.end <= own.begin || own.end <= leaves.begin) return;
  if (own.begin <= leaves.begin && leaves.end <= own.end) {
    nodes.push_back(leaves);
    return;
  }
  const std::int64_t middle = leaves.begin + leaves.size() / 2;
  collect({leaves.begin, middle}, own, nodes);
  collect({middle, leaves.end}, own, nodes);
}

std::int64_t GradientTree::node_count(std::int64_t leaves, std::int64_t replicas) {
  std::vector<Range> nodes;
  for (std::int64_t r = 0; r < replicas; ++r) {
    collect({0, leaves}, part_of(leaves, replicas, r), nodes);
  }
  return static_cast<std::int64_t>(nodes.size());
}

Tensor GradientTree::join(Range leaves, const std::vector<std::pair<Range, Tensor>>& parts) {
  for (const auto& [range, tensor] : parts) {
    if (range.begin == leaves.begin && range.end == leaves.end) return tensor;
  }
  if (leaves.size() <= 1)
    throw Error("gradient tree: leaf " + std::to_string(leaves.begin) + " is missing");
  const std::int64_t middle = leaves.begin + leaves.size() / 2;
  Tensor left = join({leaves.begin, middle}, parts);
  const Tensor right = join({middle, leaves.end}, parts);
  ops::add(left, right);
  return left;
}

const Tensor& GradientTree::reduce(const LeafGradient& gradient_of) {
  if (root_) spare_.push_back(std::move(root_));
  std::vector<Range> mine;
  collect({0, leaves_}, own_leaves(), mine);
  std::vector<Node> nodes;
  for (const Range& range : mine) nodes.push_back(sum_of(range, gradient_of));
  if (replicas_->size() == 1) {
    root_ = std::move(nodes.front());
    return root_->finish();
  }
  result_ = exchange(nodes);
  for (Node& node : nodes) spare_.push_back(std::move(node));
  return result_;
}

/// Sends each rank its shard of this rank's nodes and joins what came for this shard.
Tensor GradientTree::exchange(const std::vector<Node>& nodes) {
  const int ranks = replicas_->size();
  std::vector<Outgoing> out;
  for (const Node& node : nodes) {
    const float* values = node->finish().data<float>();
    for (int r = 0; r < ranks; ++r) {
      const Range shard = part_of(size_, ranks, r);
      out.push_back({r, std::as_bytes(std::span(values + shard.begin,
                                                static_cast<std::size_t>(shard.size())))});
    }
  }
  std::vector<std::pair<int, Range>> expected;  // by source rank, as sent
  for (int r = 0; r < ranks; ++r) {
    std::vector<Range> theirs;
    collect({0, leaves_}, part_of(leaves_, ranks, r), theirs);
    for (const Range& range : theirs) expected.emplace_back(r, range);
  }
  const std::int64_t width = shard_.size();
  received_.reserve(device_, DType::f32,
                    {static_cast<std::int64_t>(expected.size()), std::max<std::int64_t>(width, 1)});
  std::vector<Incoming> in;
  std::vector<std::pair<Range, Tensor>> parts;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    float* to = received_.data<float>() + static_cast<std::int64_t>(i) * width;
    in.push_back({expected[i].first,
                  std::as_writable_bytes(std::span(to, static_cast<std::size_t>(width)))});
    parts.emplace_back(expected[i].second, Tensor(device_, DType::f32, to, {width}));
  }
  replicas_->transfer(out, in, "gradient leaves");
  return join({0, leaves_}, parts);
}

}  // namespace fst
