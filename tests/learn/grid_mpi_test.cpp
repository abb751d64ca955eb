// The learner ranks as a grid of data parallelism x tensor parallelism, and weights on their way
// from its shards to others.
#include "fst/comm/unit.h"
#include "fst/learn/learner.h"
#include "fst/learn/reshard.h"

#include "learn_fixture.h"
#include "mpi_main.h"

namespace fst {
namespace {

World& world() {
  return test::world();
}

/// Eight KV heads: degrees up to 8 divide it. Other sizes odd where they may be.
Qwen3Config shared_config() {
  Qwen3Config config = testing::tiny_config();
  config.vocab_size = 104;
  config.intermediate_size = 56;
  config.num_attention_heads = 8;
  config.num_key_value_heads = 8;
  config.head_dim = 6;
  return config;
}

/// A shard of `whole`, which is in f32.
void take_shard(Parameters& shard, const Parameters& whole) {
  for (const ParameterSpec& spec : shard.specs()) {
    const Tensor from = whole.at(spec.name);
    std::int64_t to = spec.offset;
    for (std::int64_t r = 0; r < spec.rows; ++r, to += spec.cols) {
      const float* row =
          from.data<float>() + (spec.row_begin + r) * spec.global_cols + spec.col_begin;
      shard.put(to, {row, static_cast<std::size_t>(spec.cols)});
    }
  }
}

/// This rank's shard of a policy and of a base that differs from it.
struct Models {
  Models(const Unit& unit, const Communicator& replicas, DType dtype)
      : device(Device::cpu()),
        parameters(shared_config(), device, shard_of(&unit),
                   {dtype, GradientTree::shard_of(parameter_count(shared_config(), shard_of(&unit)),
                                                  replicas)}),
        base_parameters(shared_config(), device, shard_of(&unit), {dtype}),
        policy(shared_config(), device,
               {.use = Use::training, .max_positions = 32, .dtype = dtype, .unit = &unit}),
        base(shared_config(), device,
             {.use = Use::inference, .max_positions = 32, .dtype = dtype, .unit = &unit}) {
    take_shard(parameters, testing::random_parameters(shared_config(), device, 5));
    take_shard(base_parameters, testing::random_parameters(shared_config(), device, 6));
    policy.set_weights(parameters);
    base.set_weights(base_parameters);
  }
  Device device;
  Parameters parameters, base_parameters;
  Qwen3 policy, base;
};

/// Two steps, on-policy and off-policy, of a grid; `whole` has the global vectors of a learner
/// alone.
struct Learnt {
  StepStats first, second;
  std::vector<float> weights, masters, m, v;
};

/// Writes this rank's parts into global vectors.
void scatter(std::vector<float>& global, const Parameters& parameters, Range part,
             const Tensor& values) {
  const HostFloats floats(values);
  for (const auto& piece :
       global_parts(parameters.specs(), part, floats.span(), Replicated::include)) {
    for (std::int64_t i = 0; i < piece.runs(); ++i) {
      const auto run = piece.run(i);
      std::copy(run.begin(), run.end(), global.begin() + piece.begin + i * piece.stride);
    }
  }
}

constexpr float absent = -1234.5f;

Learnt learn_twice(const Communicator& all, const Communicator& unit_ranks,
                   const Communicator& replicas, std::int64_t leaves, DType dtype) {
  const Unit unit(unit_ranks);
  Models models(unit, replicas, dtype);
  LearnerOptions options = test::all_terms();
  options.gradient_leaves = leaves;
  constexpr std::int64_t groups = 5;
  auto sequences = test::some_sequences(groups, 3);
  test::sample_behaviour(sequences, models.policy, options.law);
  auto anchors = test::some_anchors(groups);
  const auto is_mine = [&](const auto& s) {
    return Learner::owner_of(s.group, groups, leaves, replicas.size()) == replicas.rank();
  };
  std::erase_if(sequences, [&](const auto& s) { return !is_mine(s); });
  std::erase_if(anchors, [&](const auto& s) { return !is_mine(s); });
  Learner learner(models.policy, models.parameters, &models.base, LearnerGrid(all, replicas),
                  options);
  Learnt learnt;
  learnt.first = learner.step(groups, sequences, anchors);
  for (LearnerSequence& s : sequences) s.on_policy = false;
  learnt.second = learner.step(groups, sequences, anchors);
  const auto size = static_cast<std::size_t>(shared_config().parameter_count());
  for (auto* x : {&learnt.weights, &learnt.masters, &learnt.m, &learnt.v}) x->assign(size, absent);
  const Parameters& parameters = models.parameters;
  scatter(learnt.weights, parameters, {0, parameters.size()}, parameters.flat());
  const Range shard = learner.optimizer().shard();
  scatter(learnt.masters, parameters, shard, parameters.masters(shard));
  scatter(learnt.m, parameters, learner.optimizer().shard(), learner.optimizer().m());
  scatter(learnt.v, parameters, learner.optimizer().shard(), learner.optimizer().v());
  return learnt;
}

/// Elements of `part` that are there and differ from `whole`; counts those that are there.
std::int64_t differing(const std::vector<float>& part, const std::vector<float>& whole,
                       std::int64_t& there) {
  std::int64_t count = 0;
  there = 0;
  for (std::size_t i = 0; i < part.size(); ++i) {
    if (part[i] == absent) continue;
    ++there;
    count += std::bit_cast<std::uint32_t>(part[i]) != std::bit_cast<std::uint32_t>(whole[i]);
  }
  return count;
}

class Grid : public ::testing::TestWithParam<std::tuple<std::int64_t, DType>> {};

INSTANTIATE_TEST_SUITE_P(Leaves, Grid,
                         ::testing::Combine(::testing::Values<std::int64_t>(8, 5),
                                            ::testing::ValuesIn(test::arithmetics)));

TEST_P(Grid, EveryShapeLearnsTheBitsOfOneRank) {
  const Communicator self = Communicator::self();
  const auto [leaves, dtype] = GetParam();
  const Learnt alone = learn_twice(self, self, self, leaves, dtype);
  EXPECT_NE(alone.second.ratio_mean, 1.0);
  const int ranks = world().all().size();
  for (const int tp : {1, 2, 4}) {
    if (ranks % tp != 0) continue;
    world().split({{0, 1}, {0, 1}, {0, tp}});
    const Learnt learnt = learn_twice(world().learner(), world().unit(Role::learner),
                                      world().across(Role::learner), leaves, dtype);
    EXPECT_EQ(test::numbers_of(learnt.first), test::numbers_of(alone.first)) << "tp " << tp;
    EXPECT_EQ(test::numbers_of(learnt.second), test::numbers_of(alone.second)) << "tp " << tp;
    std::int64_t there = 0;
    EXPECT_EQ(differing(learnt.weights, alone.weights, there), 0) << "tp " << tp;
    EXPECT_GE(there * tp, static_cast<std::int64_t>(alone.weights.size()));
    EXPECT_EQ(differing(learnt.masters, alone.masters, there), 0) << "tp " << tp;
    EXPECT_EQ(differing(learnt.m, alone.m, there), 0) << "tp " << tp;
    EXPECT_EQ(differing(learnt.v, alone.v, there), 0) << "tp " << tp;
    // ZeRO-1: no rank holds much more than its share of the moments, the norms apart.
    EXPECT_LT(there, static_cast<std::int64_t>(alone.v.size()) / ranks + 400) << "tp " << tp;
  }
}

/// Learner shards full of a model, rollout shards full of nothing, brought together.
void expect_adopted(const RankPlan& plan, DType dtype) {
  world().split(plan);
  const Device device = Device::cpu();
  const Qwen3Config config = shared_config();
  const Parameters whole = testing::random_parameters(config, device, 11);
  const Unit learner_unit(world().unit(Role::learner)), rollout_unit(world().unit(Role::rollout));
  Parameters from(config, device, shard_of(&learner_unit), {dtype});
  Parameters to(config, device, shard_of(&rollout_unit), {dtype});
  take_shard(from, whole);
  if (world().policy().member()) {
    const Resharding resharding(config, {plan.learner.tp, world().policy_ranks(Role::learner)},
                                {plan.rollout.tp, world().policy_ranks(Role::rollout)},
                                world().policy(), 9000);
    resharding.run(world().learner().member() ? &from : nullptr,
                   world().rollout().member() ? &to : nullptr);
  }
  Parameters expected(config, device, shard_of(&rollout_unit), {dtype});
  take_shard(expected, whole);
  const auto expect_adopted = [&] {
    if (!world().rollout().member()) return;
    EXPECT_EQ(test::differing(test::values_of(to.flat()), test::values_of(expected.flat())), 0)
        << world().layout();
  };
  expect_adopted();
  if (!world().copies().member()) return;
  to = Parameters(config, device, shard_of(&rollout_unit), {dtype});
  broadcast_weights(world().learner().member() ? from : to, world().copies(), 9000);
  expect_adopted();
}

class Adoption : public ::testing::TestWithParam<DType> {};

INSTANTIATE_TEST_SUITE_P(Arithmetic, Adoption, ::testing::ValuesIn(test::arithmetics),
                         test::arithmetic_name);

TEST_P(Adoption, BringsEveryRolloutRankItsShard) {
  const int ranks = world().all().size();
  for (const int from : {1, 2, 4}) {
    for (const int to : {1, 2, 4}) {
      if (ranks % from == 0 && ranks % to == 0)
        expect_adopted({{0, to}, {0, 1}, {0, from}}, GetParam());
    }
  }
  if (ranks == 2) expect_adopted({{1, 1}, {0, 1}, {1, 1}}, GetParam());
  if (ranks == 3) expect_adopted({{1, 1}, {0, 1}, {2, 2}}, GetParam());
  if (ranks == 3) expect_adopted({{1, 1}, {1, 1}, {1, 1}}, GetParam());
  if (ranks == 4) expect_adopted({{2, 2}, {0, 1}, {2, 1}}, GetParam());
  if (ranks == 4) expect_adopted({{2, 2}, {0, 1}, {2, 2}}, GetParam());
  if (ranks == 4) expect_adopted({{2, 2}, {1, 1}, {1, 1}}, GetParam());
  if (ranks == 4) expect_adopted({{2, 1}, {0, 1}, {2, 2}}, GetParam());
  world().split({});
}

}  // namespace
}  // namespace fst
