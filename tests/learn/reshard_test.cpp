#include "fst/learn/reshard.h"

#include <gtest/gtest.h>

#include "tiny_model.h"

namespace fst {
namespace {

constexpr float untouched = -7.0f;
constexpr int degrees[] = {1, 2, 4, 8};

/// Eight heads of each kind, so that every degree divides it; other sizes odd.
Qwen3Config shared_config(Family family, bool tied) {
  Qwen3Config config = testing::tiny_config(family, tied);
  config.vocab_size = 104;
  config.hidden_size = 37;
  config.intermediate_size = 56;
  config.num_attention_heads = 8;
  config.num_key_value_heads = 8;
  return config;
}

std::vector<Qwen3Config> configs() {
  return {shared_config(Family::qwen3, true), shared_config(Family::qwen2, false)};
}

/// A model whose elements are their own numbers in the global vector.
std::vector<float> numbered_shard(const ShardSpecs& shard) {
  std::vector<float> flat;
  float begin = 0.0f;
  for (const ParameterSpec& spec : shard.specs) {
    for (std::int64_t r = 0; r < spec.rows; ++r) {
      for (std::int64_t c = 0; c < spec.cols; ++c) {
        const std::int64_t place = (spec.row_begin + r) * spec.global_cols + spec.col_begin + c;
        flat.push_back(begin + static_cast<float>(place));
      }
    }
    begin += static_cast<float>(spec.global_size());
  }
  return flat;
}

/// Moves the blocks of one sender; counts how often each element of the receiver is written.
void move(const ShardSpecs& from, const ShardSpecs& to, const std::vector<RowSlab>& bucket,
          std::vector<float>& received, std::vector<int>& writes) {
  const std::vector<float> sent = numbered_shard(from);
  for (const SharedBlock& block : shared_blocks(from, to, bucket)) {
    for (std::int64_t r = 0; r < block.rows; ++r) {
      for (std::int64_t c = 0; c < block.cols; ++c) {
        const auto place = static_cast<std::size_t>(block.to + r * block.to_stride + c);
        received.at(place) =
            sent.at(static_cast<std::size_t>(block.from + r * block.from_stride + c));
        ++writes.at(place);
      }
    }
  }
}

TEST(Resharding, EveryPairOfDegreesMovesEachElementOnceToItsPlace) {
  for (const Qwen3Config& config : configs()) {
    const auto buckets = buckets_of(parameter_specs(config), 1000);
    ASSERT_GT(buckets.size(), 20u);
    for (const int from : degrees) {
      for (const int to : degrees) {
        for (int place = 0; place < to; ++place) {
          const ShardSpecs receiver(config, {place, to});
          const std::vector<float> expected = numbered_shard(receiver);
          std::vector<float> received(expected.size(), untouched);
          std::vector<int> writes(expected.size(), 0);
          for (const auto& bucket : buckets) {
            for (int p = 0; p < from; ++p) {
              move(ShardSpecs(config, {p, from}), receiver, bucket, received, writes);
            }
          }
          EXPECT_EQ(received, expected) << from << " -> " << to << ", place " << place;
          EXPECT_EQ(writes, std::vector<int>(expected.size(), 1)) << from << " -> " << to;
        }
      }
    }
  }
}

TEST(Resharding, BucketsAreBoundedAndCoverEveryRowInOrder) {
  const Qwen3Config config = shared_config(Family::qwen3, false);
  const auto specs = parameter_specs(config);
  for (const std::int64_t elements : {1, 100, 5000, 1 << 20}) {
    std::size_t parameter = 0;
    std::int64_t row = 0;
    for (const auto& bucket : buckets_of(specs, elements)) {
      std::int64_t size = 0, widest = 0;
      for (const RowSlab& slab : bucket) {
        if (row == specs[parameter].global_rows) {
          ++parameter;
          row = 0;
        }
        EXPECT_EQ(slab.parameter, parameter);
        EXPECT_EQ(slab.rows.begin, row);
        row = slab.rows.end;
        size += slab.rows.size() * specs[parameter].global_cols;
        widest = std::max(widest, specs[parameter].global_cols);
      }
      EXPECT_GT(size, 0);
      EXPECT_LE(size, std::max(elements, widest));
    }
    EXPECT_EQ(parameter, specs.size() - 1);
    EXPECT_EQ(row, specs.back().global_rows);
  }
}

TEST(Resharding, BucketsAreTheSameForEveryShard) {
  const Qwen3Config config = shared_config(Family::qwen3, true);
  const auto whole = buckets_of(parameter_specs(config), 777);
  for (const int degree : degrees) {
    const auto shard = buckets_of(parameter_specs(config, {degree - 1, degree}), 777);
    ASSERT_EQ(shard.size(), whole.size());
    for (std::size_t b = 0; b < whole.size(); ++b) {
      ASSERT_EQ(shard[b].size(), whole[b].size());
      for (std::size_t i = 0; i < whole[b].size(); ++i) {
        EXPECT_EQ(shard[b][i].parameter, whole[b][i].parameter);
        EXPECT_EQ(shard[b][i].rows.begin, whole[b][i].rows.begin);
        EXPECT_EQ(shard[b][i].rows.end, whole[b][i].rows.end);
      }
    }
  }
}

TEST(Resharding, AReceiverIsServedByItsOwnUnitOrInTurn) {
  const Qwen3Config config = shared_config(Family::qwen3, true);
  const Communicator self = Communicator::self();
  // Three learner units of two ranks behind eight rollout ranks in units of two.
  const Resharding apart(config, {2, {8, 9, 10, 11, 12, 13}}, {2, {0, 1, 2, 3, 4, 5, 6, 7}}, self);
  const int units[] = {0, 0, 1, 1, 2, 2, 0, 0};
  for (int member = 0; member < 8; ++member) EXPECT_EQ(apart.source_unit(member), units[member]);
  const Resharding colocated(config, {2, {0, 1, 2, 3}}, {4, {0, 1, 2, 3}}, self);
  for (int member = 0; member < 4; ++member) EXPECT_EQ(colocated.source_unit(member), member / 2);
}

TEST(Resharding, ChainsBringEachShardToEachReceiverOnceBeginningBehindItsOwner) {
  const Qwen3Config config = shared_config(Family::qwen3, true);
  const Communicator self = Communicator::self();
  const Resharding spread(config, {1, {2}}, {1, {0, 1, 3, 4}}, self);
  ASSERT_EQ(spread.chains().size(), 1u);
  EXPECT_EQ(spread.chains()[0].ranks, (std::vector<int>{2, 3, 4, 0, 1}));
  EXPECT_FALSE(spread.chains()[0].own);
  EXPECT_EQ(spread.chains()[0].packed, 0);
  // Two halves of a model, each to the other one's rank: no rank gets what it has.
  const Resharding joined(config, {2, {0, 1}}, {1, {0, 1}}, self);
  ASSERT_EQ(joined.chains().size(), 2u);
  EXPECT_EQ(joined.chains()[0].ranks, (std::vector<int>{0, 1}));
  EXPECT_EQ(joined.chains()[1].ranks, (std::vector<int>{1, 0}));
  EXPECT_TRUE(joined.chains()[0].own && joined.chains()[1].own);
  EXPECT_GT(joined.chains()[0].packed, 0);
  EXPECT_EQ(joined.chains()[1].begin, joined.chains()[0].packed);
}

/// The elements of a global vector of its own numbers that `parts` hold.
void expect_numbered(const std::vector<ArrayPart<float>>& parts, std::vector<int>& writes) {
  for (const ArrayPart<float>& part : parts) {
    for (std::int64_t i = 0; i < part.runs(); ++i) {
      const auto run = part.run(i);
      for (std::size_t c = 0; c < run.size(); ++c) {
        const std::int64_t place = part.begin + i * part.stride + static_cast<std::int64_t>(c);
        ASSERT_EQ(run[c], static_cast<float>(place));
        ++writes.at(static_cast<std::size_t>(place));
      }
    }
  }
}

TEST(GlobalParts, ShardsOfUnitsAndReplicasCoverTheGlobalVectorOnce) {
  for (const Qwen3Config& config : configs()) {
    for (const int degree : degrees) {
      for (const std::int64_t replicas : {1, 3}) {
        std::vector<int> writes(static_cast<std::size_t>(config.parameter_count()), 0);
        for (int place = 0; place < degree; ++place) {
          const ShardSpecs shard(config, {place, degree});
          std::vector<float> flat = numbered_shard(shard);
          for (std::int64_t r = 0; r < replicas; ++r) {
            const Range part = part_of(static_cast<std::int64_t>(flat.size()), replicas, r);
            const auto values = std::span(flat).subspan(static_cast<std::size_t>(part.begin),
                                                        static_cast<std::size_t>(part.size()));
            expect_numbered(global_parts(shard.specs, part, values,
                                         place == 0 ? Replicated::include : Replicated::leave_out),
                            writes);
          }
        }
        EXPECT_EQ(writes, std::vector<int>(writes.size(), 1)) << degree << " x " << replicas;
      }
    }
  }
}

TEST(GlobalParts, OfAShardLieInAscendingOrderInFewPieces) {
  const ShardSpecs shard(shared_config(Family::qwen3, true), {1, 2});
  std::vector<float> flat = numbered_shard(shard);
  const auto parts = global_parts(shard.specs, {0, static_cast<std::int64_t>(flat.size())},
                                  std::span(flat), Replicated::include);
  EXPECT_EQ(parts.size(), shard.specs.size());
  for (std::size_t i = 1; i < parts.size(); ++i) EXPECT_LT(parts[i - 1].end(), parts[i].begin + 1);
}

}  // namespace
}  // namespace fst
