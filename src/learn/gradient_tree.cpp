#include "fst/learn/gradient_tree.h"

#include <algorithm>
#include <bit>

#include "fst/base/error.h"
#include "fst/tensor/ops.h"

namespace fst {

namespace {

/// How ops::join sums parts with these ranges of leaves to the node of `leaves`, from part `next`
/// on.
void plan_joins(Range leaves, const std::vector<Range>& parts, std::vector<std::int32_t>& joins) {
  const std::size_t next = joins.size();
  if (next == parts.size() || parts[next].begin != leaves.begin || parts[next].end > leaves.end) {
    throw Error("gradient tree: leaf " + std::to_string(leaves.begin) + " is missing");
  }
  if (parts[next].end == leaves.end) {
    joins.push_back(0);
    return;
  }
  const std::int64_t middle = leaves.begin + leaves.size() / 2;
  plan_joins({leaves.begin, middle}, parts, joins);
  plan_joins({middle, leaves.end}, parts, joins);
  ++joins.back();
}

/// parts[0] = the node of `leaves`, of which the parts, in order, are the ranges.
void join(Range leaves, const std::vector<Range>& ranges, std::vector<Tensor>& parts) {
  if (parts.size() == 1) return;
  std::vector<std::int32_t> joins;
  plan_joins(leaves, ranges, joins);
  ops::join(parts.front(), parts, joins);
}

}  // namespace

GradientTree::GradientTree(const Qwen3Config& config, const Device& device,
                           const Communicator& replicas, std::int64_t leaves,
                           const TensorParallel* unit, std::int64_t bucket_elements)
    : config_(config),
      device_(device),
      replicas_(&replicas),
      unit_(unit),
      leaves_(leaves),
      bucket_(bucket_elements) {
  spare_.push_back(std::make_unique<Gradients>(config_, device_, unit_));
  const auto& last = spare_.front()->specs().back();
  size_ = last.offset + last.size();
  shard_ = shard_of(size_, replicas);
}

Range GradientTree::own_leaves() const {
  return part_of(leaves_, replicas_->size(), replicas_->rank());
}

void GradientTree::reserve() {
  const std::int64_t held = held_gradients(own_leaves().size());
  while (static_cast<std::int64_t>(spare_.size()) < held) {
    spare_.push_back(std::make_unique<Gradients>(config_, device_, unit_));
  }
  if (replicas_->size() == 1) return;
  const std::int64_t widest = size_ / replicas_->size() + 1;
  result_.reserve(device_, DType::f32, {widest});
  received_.reserve(  // pieces of uneven sizes: one more element of each node
      device_, DType::f32,
      {exchanged_elements(leaves_, replicas_->size(), size_) - widest + 2 * leaves_});
}

GradientTree::Node GradientTree::take() {
  if (spare_.empty()) return std::make_unique<Gradients>(config_, device_, unit_);
  Node node = std::move(spare_.back());
  spare_.pop_back();
  return node;
}

std::int64_t GradientTree::held_gradients(std::int64_t leaves) {
  return 1 + std::bit_width(static_cast<std::uint64_t>(std::max<std::int64_t>(leaves, 1) - 1));
}

GradientTree::Node GradientTree::leaf(std::int64_t index, const LeafGradient& gradient_of) {
  Node node = take();
  node->zero();
  gradient_of(index, *node);
  node->finish();
  return node;
}

/// The node of `leaves`, holding at most `room` gradients: where there are more leaves, left halves
/// are summed first, each of which then takes one place.
GradientTree::Node GradientTree::sum_of(Range leaves, std::int64_t room,
                                        const LeafGradient& gradient_of) {
  std::vector<Part> parts;
  Range rest = leaves;
  for (; rest.size() > room; --room) {
    const Range left{rest.begin, rest.begin + rest.size() / 2};
    parts.emplace_back(left, sum_of(left, room, gradient_of));
    rest.begin = left.end;
  }
  for (std::int64_t i = rest.begin; i < rest.end; ++i) {
    parts.emplace_back(Range{i, i + 1}, leaf(i, gradient_of));
  }
  std::vector<Range> ranges;
  std::vector<Tensor> values;
  for (const auto& [range, node] : parts) {
    ranges.push_back(range);
    values.push_back(node->finish());
  }
  join(leaves, ranges, values);
  for (std::size_t i = 1; i < parts.size(); ++i) spare_.push_back(std::move(parts[i].second));
  return std::move(parts.front().second);
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

std::int64_t GradientTree::exchanged_elements(std::int64_t leaves, std::int64_t replicas,
                                              std::int64_t size) {
  if (replicas == 1) return 0;
  std::vector<Range> nodes;
  for (std::int64_t r = 0; r < replicas; ++r) {
    collect({0, leaves}, part_of(leaves, replicas, r), nodes);
  }
  const std::int64_t shard = size / replicas + 1, count = static_cast<std::int64_t>(nodes.size());
  return shard + std::min(count * shard, default_bucket);
}

const Tensor& GradientTree::reduce(const LeafGradient& gradient_of) {
  if (root_) spare_.push_back(std::move(root_));
  std::vector<Range> mine;
  collect({0, leaves_}, own_leaves(), mine);
  std::vector<Node> nodes;
  const std::int64_t room = held_gradients(own_leaves().size());
  for (const Range& range : mine) {
    const auto held = static_cast<std::int64_t>(nodes.size());
    nodes.push_back(
        sum_of(range, std::max(room - held, held_gradients(range.size())), gradient_of));
  }
  if (replicas_->size() == 1) {
    root_ = std::move(nodes.front());
    return root_->finish();
  }
  const Tensor& sum = exchange(nodes);
  for (Node& node : nodes) spare_.push_back(std::move(node));
  return sum;
}

/// Piece `piece` of `pieces` of what replica `rank` keeps.
Range GradientTree::piece_of(int rank, std::int64_t pieces, std::int64_t piece) const {
  const Range shard = part_of(size_, replicas_->size(), rank);
  const Range part = part_of(shard.size(), pieces, piece);
  return {shard.begin + part.begin, shard.begin + part.end};
}

/// Sends each rank its shard of this rank's nodes and joins what came for this shard, in pieces, so
/// that the nodes of all replicas take no more memory than a bucket.
const Tensor& GradientTree::exchange(const std::vector<Node>& nodes) {
  const int ranks = replicas_->size();
  std::vector<std::pair<int, Range>> expected;  // by source rank, as sent
  for (int r = 0; r < ranks; ++r) {
    std::vector<Range> theirs;
    collect({0, leaves_}, part_of(leaves_, ranks, r), theirs);
    for (const Range& range : theirs) expected.emplace_back(r, range);
  }
  const auto count = static_cast<std::int64_t>(expected.size());
  const std::int64_t widest = size_ / ranks + 1;
  const std::int64_t pieces = (widest * count + bucket_ - 1) / bucket_;
  result_.reserve(device_, DType::f32, {shard_.size()});
  for (std::int64_t piece = 0; piece < pieces; ++piece) {
    std::vector<OutgoingTensor> out;
    for (const Node& node : nodes) {
      const Tensor values = node->finish();
      for (int r = 0; r < ranks; ++r) {
        const Range theirs = piece_of(r, pieces, piece);
        out.push_back({{r}, values.rows(theirs.begin, theirs.end)});
      }
    }
    const Range mine = piece_of(replicas_->rank(), pieces, piece);
    received_.reserve(device_, DType::f32, {count, std::max<std::int64_t>(mine.size(), 1)});
    std::vector<IncomingTensor> in;
    std::vector<Range> ranges;
    std::vector<Tensor> parts;
    for (std::int64_t i = 0; i < count; ++i) {
      const auto& [rank, range] = expected[static_cast<std::size_t>(i)];
      parts.push_back(
          received_.tensor().rows(i, i + 1).columns(0, mine.size()).view({mine.size()}));
      in.push_back({rank, parts.back()});
      ranges.push_back(range);
    }
    replicas_->transfer(out, in, "gradient leaves");
    std::vector<std::int32_t> joins;
    plan_joins({0, leaves_}, ranges, joins);
    Tensor joined = result_.tensor().rows(mine.begin - shard_.begin, mine.end - shard_.begin);
    ops::join(joined, parts, joins);
  }
  return result_.tensor();
}

}  // namespace fst
