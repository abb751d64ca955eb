#include <array>

#include "fst/learn/gradient_tree.h"

#include "learn_fixture.h"
#include "mpi_main.h"

namespace fst {
namespace {

using Values = std::vector<float>;

const Qwen3Config config = testing::tiny_config();

/// Adds numbers of very different size, so that another order of additions shows.
void add_leaf(std::int64_t leaf, Gradients& gradients) {
  test::Noise noise(static_cast<std::uint32_t>(100 + leaf));
  const auto add = [&](const Tensor& x) {
    for (std::int64_t i = 0; !x.empty() && i < x.size(); ++i) {
      const auto scale = static_cast<float>(std::int64_t{1} << noise.below(20));
      x.data<float>()[i] += scale * static_cast<float>(noise.uniform() - 0.5);
    }
  };
  add(gradients.embedding());
  add(gradients.final_norm());
  add(gradients.head());
  for (std::int64_t l = 0; l < config.num_hidden_layers; ++l) {
    const LayerTensors layer = gradients.layer(l);
    for (const Tensor& x : {layer.input_norm, layer.qkv, layer.q_norm, layer.k_norm, layer.o,
                            layer.post_norm, layer.gate_up, layer.down}) {
      add(x);
    }
  }
}

std::vector<Values> leaf_values(std::int64_t leaves) {
  std::vector<Values> all;
  for (std::int64_t leaf = 0; leaf < leaves; ++leaf) {
    Gradients gradients(config, Device::cpu());
    add_leaf(leaf, gradients);
    all.push_back(test::values_of(gradients.finish()));
  }
  return all;
}

Values sum(const Values& a, const Values& b) {
  Values c(a.size());
  for (std::size_t i = 0; i < a.size(); ++i) c[i] = a[i] + b[i];
  return c;
}

/// The order of the contract, written down once more: halved at the middle.
Values halving(const std::vector<Values>& leaves, std::size_t begin, std::size_t end) {
  if (end - begin == 1) return leaves[begin];
  const std::size_t middle = begin + (end - begin) / 2;
  return sum(halving(leaves, begin, middle), halving(leaves, middle, end));
}

/// What a join by rank would give: each rank's leaves, then the ranks in turn.
Values by_rank(const std::vector<Values>& leaves, std::int64_t ranks) {
  Values total(leaves.front().size(), 0.0f);
  for (std::int64_t r = 0; r < ranks; ++r) {
    const Range own = part_of(static_cast<std::int64_t>(leaves.size()), ranks, r);
    for (std::int64_t i = own.begin; i < own.end; ++i) {
      total = sum(total, leaves[static_cast<std::size_t>(i)]);
    }
  }
  return total;
}

Values part(const Values& x, Range range) {
  return {x.begin() + range.begin, x.begin() + range.end};
}

class GradientTreeTest : public ::testing::TestWithParam<std::int64_t> {};

// 8 and 5: a full tree and a lopsided one. 3 and 1: fewer leaves than there may be ranks.
INSTANTIATE_TEST_SUITE_P(Leaves, GradientTreeTest, ::testing::Values<std::int64_t>(8, 5, 3, 1));

TEST_P(GradientTreeTest, EveryRankHoldsItsShardOfTheOneRankSumBitForBit) {
  const Communicator& learners = test::world().all();
  const auto leaves = leaf_values(GetParam());
  const Values expected = halving(leaves, 0, leaves.size());

  const Communicator self = Communicator::self();
  GradientTree alone(config, Device::cpu(), self, GetParam());
  EXPECT_EQ(test::differing(test::values_of(alone.reduce(add_leaf)), expected), 0);

  GradientTree tree(config, Device::cpu(), learners, GetParam());
  EXPECT_EQ(tree.size(), static_cast<std::int64_t>(expected.size()));
  for (int repetition = 0; repetition < 2; ++repetition) {  // accumulators are used again
    const Values shard = test::values_of(tree.reduce(add_leaf));
    EXPECT_EQ(test::differing(shard, part(expected, tree.shard())), 0);
  }
}

TEST_P(GradientTreeTest, BitsDoNotDependOnTheBuckets) {
  const Communicator& learners = test::world().all();
  GradientTree whole(config, Device::cpu(), learners, GetParam());
  const Values expected = test::values_of(whole.reduce(add_leaf));
  // Pieces of uneven sizes, and so small that most are of one element or none.
  for (const std::int64_t bucket : {whole.size() / 3 + 1, std::int64_t{997}}) {
    GradientTree tree(config, Device::cpu(), learners, GetParam(), nullptr, bucket);
    EXPECT_EQ(test::differing(test::values_of(tree.reduce(add_leaf)), expected), 0) << bucket;
  }
}

TEST_P(GradientTreeTest, AnotherOrderOfTheJoinWouldBeNoticed) {
  if (GetParam() < 3) {  // one or two leaves have one order only
    const auto leaves = leaf_values(GetParam());
    EXPECT_EQ(by_rank(leaves, 1), halving(leaves, 0, leaves.size()));
    return;
  }
  const auto leaves = leaf_values(GetParam());
  const Values planted = by_rank(leaves, test::world().all().size());
  const Communicator& learners = test::world().all();
  GradientTree tree(config, Device::cpu(), learners, GetParam());
  const Values shard = test::values_of(tree.reduce(add_leaf));
  EXPECT_GT(test::differing(shard, part(planted, tree.shard())), 0);
}

TEST_P(GradientTreeTest, EveryLeafIsComputedOnceByTheRankThatOwnsIt) {
  const Communicator& learners = test::world().all();
  GradientTree tree(config, Device::cpu(), learners, GetParam());
  std::array<std::int64_t, 8> computed{};
  tree.reduce([&](std::int64_t leaf, Gradients&) {
    EXPECT_LE(tree.own_leaves().begin, leaf);
    EXPECT_LT(leaf, tree.own_leaves().end);
    ++computed[static_cast<std::size_t>(leaf)];
  });
  learners.all_reduce_sum(std::span(computed), "leaves computed");
  for (std::size_t leaf = 0; leaf < computed.size(); ++leaf) {
    EXPECT_EQ(computed[leaf], static_cast<std::int64_t>(leaf) < GetParam() ? 1 : 0) << leaf;
  }
}

}  // namespace
}  // namespace fst
