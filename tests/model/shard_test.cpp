#include "fst/model/shard.h"

#include <gtest/gtest.h>

#include "fst/base/error.h"

#include "model/sharded_fixture.h"
#include "support/temporary_folder.h"
#include "support/thread_unit.h"

namespace fst {
namespace {

const Device cpu = Device::cpu();

TEST(Shard, NamesWhatADegreeDoesNotDivide) {
  const Qwen3Config config = testing::tiny_config();  // 4 heads, 2 KV heads, 52, 101
  EXPECT_TRUE(shard_problems(config, 1).empty());
  const auto two = shard_problems(config, 2);
  ASSERT_EQ(two.size(), 1u);
  EXPECT_EQ(two[0], "vocab_size 101 cannot be shared by 2 ranks; the nearest that can is 1");
  const auto eight = shard_problems(config, 8);
  ASSERT_EQ(eight.size(), 4u);
  EXPECT_EQ(eight[0],
            "num_attention_heads 4 cannot be shared by 8 ranks; the nearest that can is 4");
  EXPECT_EQ(eight[1],
            "num_key_value_heads 2 cannot be shared by 8 ranks; the nearest that can is 2");
  EXPECT_EQ(eight[2],
            "intermediate_size 52 cannot be shared by 8 ranks; the nearest that can is 4");
  EXPECT_EQ(shard_problems(config, 3).size(), 1u);
  EXPECT_THROW(Parameters(config, cpu, {0, 2}), InputError);
}

TEST(Shard, OwnsWholeLeavesOfTheContract) {
  for (const std::int64_t n : {8, 12, 52, 108, 120, 1000, 151936}) {
    for (const std::int64_t degree : {1, 2, 4, 8}) {
      if (n % degree != 0) continue;
      const std::int64_t leaves = 8 / degree;
      for (std::int64_t leaf = 0; leaf < 8; ++leaf) {
        const Range global = part_of(n, 8, leaf), shard = part_of(n, degree, leaf / leaves);
        const Range local = part_of(shard.size(), leaves, leaf % leaves);
        EXPECT_EQ(shard.begin + local.begin, global.begin);
        EXPECT_EQ(shard.begin + local.end, global.end);
      }
    }
  }
}

TEST(Shard, BlocksOfAllRanksCoverEveryParameterOnce) {
  for (const Family family : {Family::qwen3, Family::qwen2, Family::llama}) {
    const Qwen3Config config = testing::shared_config(family, family == Family::llama);
    const auto whole = parameter_specs(config);
    for (const int degree : {1, 2, 4, 8}) {
      std::vector<int> owners(static_cast<std::size_t>(parameter_count(config, {})));
      for (int rank = 0; rank < degree; ++rank) {
        const auto mine = parameter_specs(config, {rank, degree});
        std::int64_t next = 0;
        for (std::size_t i = 0; i < whole.size(); ++i) {
          EXPECT_EQ(mine[i].name, whole[i].name);
          EXPECT_EQ(mine[i].global_size(), whole[i].size());
          EXPECT_EQ(mine[i].offset, next);
          EXPECT_EQ(mine[i].replicated, mine[i].name.ends_with("norm.weight"));
          next += mine[i].size();
          if (mine[i].replicated && rank != 0) continue;
          testing::for_elements(mine[i], whole[i], [&](std::int64_t, std::int64_t at) {
            ++owners[static_cast<std::size_t>(at)];
          });
        }
        EXPECT_EQ(next, parameter_count(config, {rank, degree}));
      }
      EXPECT_EQ(std::count(owners.begin(), owners.end(), 1),
                static_cast<std::int64_t>(owners.size()));
    }
  }
}

TEST(Shard, IsReadAndInitialisedAsThePartOfTheWhole) {
  const testing::TemporaryFolder folder;
  const Qwen3Config config = testing::shared_config(Family::qwen2, false);
  const Parameters whole = testing::random_parameters(config, cpu, 51);
  Parameters fresh(config, cpu);
  initialise(fresh, 52);
  for (const DType storage : {DType::f32, DType::bf16}) {
    write_model_folder(folder.path(), whole, storage, {});
    const Parameters stored = load_parameters(folder.path(), config, cpu);
    for (const int degree : {2, 8}) {
      for (int rank = 0; rank < degree; ++rank) {
        const Shard shard{rank, degree};
        const Parameters read = load_parameters(folder.path(), config, cpu, shard);
        Parameters made(config, cpu, shard);
        initialise(made, 52);
        EXPECT_EQ(testing::differing_bits(
                      testing::values_of(read.flat()),
                      testing::values_of(testing::shard_of_parameters(stored, shard).flat())),
                  0);
        EXPECT_EQ(testing::differing_bits(
                      testing::values_of(made.flat()),
                      testing::values_of(testing::shard_of_parameters(fresh, shard).flat())),
                  0);
      }
    }
  }
  EXPECT_THROW(write_model_folder(folder.path(), Parameters(config, cpu, {1, 2}), DType::f32, {}),
               Error);
}

TEST(Shard, HasTheIdentityOfTheWholeModel) {
  for (const Qwen3Config& config :
       {testing::shared_config(), testing::shared_config(Family::qwen2, false)}) {
    const Parameters whole = testing::random_parameters(config, cpu, 53);
    const std::uint64_t identity = testing::identity_of(whole);
    for (const int degree : {2, 4, 8}) {
      std::uint64_t shares = 0;
      for (int rank = 0; rank < degree; ++rank) {
        shares +=
            testing::identity_of_shard(testing::shard_of_parameters(whole, {rank, degree})).share();
      }
      EXPECT_EQ(shares, identity);
    }
    testing::run_ranks(4, [&](const TensorParallel& unit) {
      const Parameters mine = testing::shard_of_parameters(whole, shard_of(&unit));
      EXPECT_EQ(testing::identity_of(mine, &unit), identity);
      EXPECT_THROW(testing::identity_of(mine), Error);
    });
  }
}

TEST(Shard, IdentityKnowsTheOrderOfRowsAndColumns) {
  const Qwen3Config config = testing::shared_config();
  Parameters parameters = testing::random_parameters(config, cpu, 54);
  const std::uint64_t identity = testing::identity_of(parameters);
  const Tensor down = parameters.at("model.layers.1.mlp.down_proj.weight");
  float* values = down.data<float>();
  const auto swapped = [&](std::int64_t a, std::int64_t b) {
    std::swap_ranges(values + a, values + a + 13, values + b);  // an eighth of a row
    const std::uint64_t other = testing::identity_of(parameters);
    std::swap_ranges(values + a, values + a + 13, values + b);
    return other;
  };
  EXPECT_NE(swapped(0, 13), identity);
  EXPECT_NE(swapped(0, down.dim(1)), identity);
  EXPECT_EQ(testing::identity_of(parameters), identity);
}

}  // namespace
}  // namespace fst
