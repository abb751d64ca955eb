#include "fst/learn/optimizer.h"

#include "mpi_main.h"
#include "optimizer_fixture.h"

namespace fst {
namespace {

std::vector<float> part(const std::vector<float>& x, Range range) {
  return {x.begin() + range.begin, x.begin() + range.end};
}

/// Three steps of both with the same gradients, of which the optimizer gets its shard; looks after
/// each.
template <class Look>
void step_both(Optimizer& optimizer, test::PlainAdamW& plain, Range shard, Look look) {
  const Device device = Device::cpu();
  for (std::uint32_t t = 1; t <= 3; ++t) {
    const auto size = static_cast<std::int64_t>(plain.p.size());
    const auto gradient = test::some_gradient(size, t);
    plain.step(gradient, 0.01 * t);
    auto mine = part(gradient, shard);
    const Tensor tensor(device, DType::f32, mine.data(), {shard.size()});
    EXPECT_EQ(optimizer.step(tensor, 0.01 * t), plain.norm);
    look();
  }
}

TEST(Optimizer, ShardsOfTheLearnersTogetherArePlainAdamW) {
  const Device device = Device::cpu();
  const Communicator& learners = test::world().all();
  Parameters parameters = testing::random_parameters(testing::tiny_config(), device, 3);
  const AdamWOptions options{0.8, 0.95, 1e-7, 0.1, 0.5, 3.0};
  test::PlainAdamW plain(parameters, options);
  const Range shard = part_of(parameters.size(), learners.size(), learners.rank());
  Optimizer optimizer(parameters, shard, LearnerGrid(learners), options);
  step_both(optimizer, plain, shard,
            [&] { EXPECT_EQ(test::differing(test::values_of(parameters.flat()), plain.p), 0); });
  EXPECT_EQ(test::differing(test::values_of(optimizer.m()), part(plain.m, shard)), 0);
  EXPECT_EQ(test::differing(test::values_of(optimizer.v()), part(plain.v, shard)), 0);
}

TEST(Optimizer, InBf16MovesMastersOfItsShardAndEveryRankHasThemRounded) {
  const Device device = Device::cpu();
  const Communicator& learners = test::world().all();
  const Qwen3Config config = testing::tiny_config();
  const AdamWOptions options{0.8, 0.95, 1e-7, 0.1, 0.5, 3.0};
  test::PlainAdamW plain(testing::random_parameters(config, device, 3), options);
  const Range shard = GradientTree::shard_of(config.parameter_count(), learners);
  Parameters parameters = testing::random_parameters(config, device, 3, {DType::bf16, shard});
  Optimizer optimizer(parameters, shard, LearnerGrid(learners), options);
  step_both(optimizer, plain, shard, [&] {
    EXPECT_EQ(test::differing(test::values_of(parameters.masters(shard)), part(plain.p, shard)), 0);
    std::vector<float> rounded = plain.p;
    for (float& x : rounded) x = kernels::widened(kernels::narrowed(x));
    EXPECT_EQ(test::differing(test::values_of(parameters.flat()), rounded), 0);
  });
}

TEST(Optimizer, RefusesParametersWithoutMastersOfItsShard) {
  const Device device = Device::cpu();
  Parameters parameters(testing::tiny_config(), device, {}, {DType::bf16, {0, 100}});
  const Communicator& learners = test::world().all();
  EXPECT_NO_THROW(Optimizer(parameters, {40, 100}, LearnerGrid(learners), {}));
  EXPECT_THROW(Optimizer(parameters, {40, 101}, LearnerGrid(learners), {}), Error);
}

}  // namespace
}  // namespace fst
