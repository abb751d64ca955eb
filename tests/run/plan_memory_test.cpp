// The memory plan against what the parts of a run allocate.
#include <algorithm>
#include <cstdlib>
#include <string>

#include <gtest/gtest.h>

#include "fst/model/kv_cache.h"
#include "fst/model/qwen3.h"
#include "fst/run/engine.h"
#include "fst/run/plan.h"

#include "support/arithmetic.h"
#include "support/thread_unit.h"
#include "support/tiny_model.h"

namespace fst {
namespace {

constexpr std::int64_t prompt_tokens = 21;

/// Four KV heads, which degrees 1, 2 and 4 divide; the other sizes odd where they may be.
Qwen3Config shared_config(bool tied) {
  Qwen3Config config = testing::tiny_config(Family::qwen3, tied);
  config.vocab_size = 108;
  config.num_key_value_heads = 4;
  return config;
}

/// A model of a rank as a run makes it, and what the plan leaves out of it because it is small:
/// copies of the norms and the tables of rotations.
struct RankModel {
  RankModel(const Qwen3Config& config, DType dtype, Use use, const TensorParallel& unit)
      : parameters(config, Device::cpu(), shard_of(&unit), {dtype}),
        model(config, Device::cpu(),
              {.use = use, .max_positions = positions, .dtype = dtype, .unit = &unit}) {
    model.set_weights(parameters);
    for (const ParameterSpec& spec : parameters.specs()) {
      if (spec.rank == 1) left_out += spec.size() * size_of(DType::f32);
    }
    left_out += positions * config.head_dim * size_of(DType::f32);  // sine and cosine of a half
  }
  static constexpr std::int64_t positions = 40;
  Parameters parameters;
  Qwen3 model;
  std::int64_t left_out = 0;
};

class PlanMemory : public ::testing::TestWithParam<std::tuple<DType, int, bool>> {
 protected:
  PlanMemory() {
    const auto [dtype, degree, tied] = GetParam();
    config_.engine.device = "cpu";
    config_.engine.dtype = name_of(dtype);
    config_.learner.tp = config_.rollout.tp = config_.reflection.tp = degree;
    config_.learner.micro_batch = 3;
    config_.kl.coef = 0.1;
    for (ModelSource* source : {&models_.policy, &models_.base, &models_.reflection}) {
      source->config = shared_config(tied);
    }
    models_.policy.path = "policy";
    models_.base.path = models_.reflection.path = "base";
  }
  std::int64_t planned(const std::string& what) {
    const auto plan = memory_plan(config_, models_, std::get<int>(GetParam()), prompt_tokens);
    const auto& parts = plan.front().parts;
    const auto found = std::find_if(parts.begin(), parts.end(),
                                    [&](const MemoryPart& part) { return part.what == what; });
    if (found != parts.end()) return found->bytes;
    ADD_FAILURE() << "no part \"" << what << "\"";
    return -1;
  }
  RunConfig config_;
  PlanModels models_;
};

INSTANTIATE_TEST_SUITE_P(ArithmeticDegreeTied, PlanMemory,
                         ::testing::Combine(::testing::ValuesIn(test::arithmetics),
                                            ::testing::Values(1, 2, 4), ::testing::Bool()));

TEST_P(PlanMemory, IsWhatTheModelsOfARankTake) {
  const auto [dtype, degree, tied] = GetParam();
  EXPECT_EQ(arithmetic_of(config_.engine.dtype), dtype);
  testing::ThreadUnit::Meeting meeting(degree);  // nobody meets: weights are set by each rank alone
  const testing::ThreadUnit unit(meeting, degree - 1);
  const RankModel policy(shared_config(tied), dtype, Use::training, unit);
  const RankModel base(shared_config(tied), dtype, Use::inference, unit);
  EXPECT_EQ(planned("weights"), policy.parameters.size() * size_of(dtype));
  EXPECT_EQ(planned("packed weights"), policy.model.weight_bytes() - policy.left_out);
  EXPECT_GE(planned("norms and rotations"), policy.left_out);
  EXPECT_EQ(planned("base model"), base.model.weight_bytes() - base.left_out);
  const std::int64_t blocks = blocks_for(prompt_tokens + config_.rollout.max_new_tokens);
  const KvCache cache(policy.model.local_config(), Device::cpu(),
                      config_.learner.micro_batch * blocks, dtype);
  EXPECT_EQ(planned("keys and values of a micro-batch"), cache.bytes());
}

TEST_P(PlanMemory, GivesWeightsAndActivationsOfBf16HalfTheRoomAndMomentsAllOfIt) {
  const auto halved = [&](const std::string& what) {
    config_.engine.dtype = "f32";
    const auto wide = static_cast<double>(planned(what));
    config_.engine.dtype = "bf16";
    return static_cast<double>(planned(what)) / wide;
  };
  EXPECT_EQ(halved("weights"), 0.5);
  EXPECT_EQ(halved("moments"), 1.0);
  EXPECT_EQ(halved("gradients"), 1.0);
  EXPECT_EQ(halved("keys and values of a micro-batch"), 0.5);
  EXPECT_EQ(halved("logits of a chunk"), 1.5);  // the gradient of logits has a place of its own
  // Not all: the scales of norms and the sums of attention are float32.
  EXPECT_GT(halved("activations of a micro-batch"), 0.5);
  EXPECT_LT(halved("activations of a micro-batch"), 0.55);
}

/// The shapes of Qwen3 (their config.json): hidden, layers, heads, MLP, tied.
struct Size {
  const char* name;
  std::int64_t hidden, layers, heads, mlp;
  bool tied;
  std::int64_t parameters;
};
constexpr Size sizes[] = {{"0.6B", 1024, 28, 16, 3072, true, 596'049'920},
                          {"1.7B", 2048, 28, 16, 6144, true, 1'720'574'976},
                          {"4B", 2560, 36, 32, 9728, true, 4'022'468'096},
                          {"8B", 4096, 36, 32, 12288, false, 8'190'735'360},
                          {"14B", 5120, 40, 40, 17408, false, 14'768'307'200},
                          {"32B", 5120, 64, 64, 25600, false, 32'762'123'264}};

Qwen3Config config_of(const Size& size) {
  Qwen3Config config;
  config.vocab_size = 151936;
  config.hidden_size = size.hidden;
  config.num_hidden_layers = size.layers;
  config.num_attention_heads = size.heads;
  config.num_key_value_heads = 8;
  config.head_dim = 128;
  config.intermediate_size = size.mlp;
  config.max_position_embeddings = 40960;
  config.tie_word_embeddings = size.tied;
  return config;
}

/// A job on H100s, planned where there may be none.
std::vector<RankMemory> gpu_plan(RunConfig& config, const Size& size, int ranks, int tp) {
  config.engine.memory_mib = 79 << 10;
  config.engine.device = "cuda";
  config.engine.dtype = "bf16";
  config.learner.recompute = true;
  config.learner.micro_batch = 1;
  config.rollout.max_new_tokens = 2048;
  config.learner.tp = config.rollout.tp = config.reflection.tp = tp;
  PlanModels models;
  for (ModelSource* source : {&models.policy, &models.base, &models.reflection}) {
    source->config = config_of(size);
    source->path = "model";
  }
  return memory_plan(config, models, ranks, 512);
}

/// Bytes of the parts of that name, 0 if there is none.
std::int64_t bytes_of(const RankMemory& memory, const std::string& what) {
  std::int64_t bytes = 0;
  for (const MemoryPart& part : memory.parts) {
    if (part.what == what) bytes += part.bytes;
  }
  return bytes;
}

TEST(GpuPlan, HoldsWeightsOnceInBf16AndMastersOnceAcrossTheReplicas) {
  for (const Size& size : sizes) {
    ASSERT_EQ(config_of(size).parameter_count(), size.parameters) << size.name;
    for (const int ranks : {1, 2, 8}) {
      RunConfig config;
      const RankMemory plan = gpu_plan(config, size, ranks, 1).front();
      EXPECT_EQ(bytes_of(plan, "weights"), 2 * size.parameters) << size.name;
      EXPECT_EQ(bytes_of(plan, "packed weights"), 0) << size.name;
      EXPECT_NEAR(static_cast<double>(bytes_of(plan, "masters")),
                  4.0 * static_cast<double>(size.parameters) / ranks, 512)
          << size.name;
    }
  }
}

TEST(GpuPlan, GivesRanksThatOnlySampleOrReflectWeightsInBf16Alone) {
  for (const Size& size : sizes) {
    RunConfig config;
    config.ranks.rollout = config.ranks.reflection = config.ranks.learner = 1;
    const auto plan = gpu_plan(config, size, 3, 1);
    ASSERT_EQ(plan.size(), 3U);
    EXPECT_EQ(bytes_of(plan[0], "weights"), 2 * size.parameters) << size.name;
    EXPECT_NEAR(static_cast<double>(bytes_of(plan[1], "reflection model")),
                2.0 * static_cast<double>(size.parameters), 512)
        << size.name;
    for (const RankMemory& rank : {plan[0], plan[1]}) {
      EXPECT_EQ(bytes_of(rank, "masters"), 0) << size.name;
      EXPECT_EQ(bytes_of(rank, "reflection model as it is read"), 0) << size.name;
    }
    EXPECT_NEAR(static_cast<double>(bytes_of(plan[2], "masters")),
                4.0 * static_cast<double>(size.parameters), 512)
        << size.name;
  }
}

/// Float32 weights are their own masters.
TEST(GpuPlan, HasNoMastersInF32) {
  RunConfig config;
  gpu_plan(config, sizes[0], 1, 1);  // sets the keys
  config.engine.dtype = "f32";
  PlanModels models;
  models.policy.config = models.base.config = models.reflection.config = config_of(sizes[0]);
  const RankMemory plan = memory_plan(config, models, 2, 512).front();
  EXPECT_EQ(bytes_of(plan, "weights"), 4 * sizes[0].parameters);
  EXPECT_EQ(bytes_of(plan, "masters"), 0);
}

TEST(GpuPlan, LetsPhasesTakeTurnsWhereTheCpuHasAllAtOnce) {
  RunConfig config;
  config.rollout.kv_mib = 1024;
  RankMemory gpu = gpu_plan(config, sizes[0], 1, 1).front();
  const PhaseBytes phases = gpu.by_phase();
  EXPECT_GT(phases[MemoryPhase::learning], phases[MemoryPhase::rollout]);
  EXPECT_EQ(gpu.total(), phases[MemoryPhase::always] + phases[MemoryPhase::learning]);
  // Rollouts may have as much as learning for nothing.
  const std::int64_t room = phases[MemoryPhase::learning] - phases[MemoryPhase::rollout];
  config.rollout.kv_mib += room >> 20;
  EXPECT_EQ(gpu_plan(config, sizes[0], 1, 1).front().total(), gpu.total());
  config.rollout.kv_mib += 4;  // a block has 1.75 MiB
  EXPECT_GT(gpu_plan(config, sizes[0], 1, 1).front().total(), gpu.total());
  gpu.turns = false;
  std::int64_t sum = 0;
  for (const MemoryPart& part : gpu.parts) {
    if (part.phase != MemoryPhase::loading) sum += part.bytes;
  }
  EXPECT_EQ(gpu.total(), sum);
}

/// engine.md 2.4: weights in 2 bytes, masters and moments in 12 / replicas; full recomputation
/// keeps 2 h L bytes a token beside one layer's working set.
TEST(GpuPlan, FollowsTheFormulasOfTheEngine) {
  for (const Size& size : sizes) {
    for (const int replicas : {1, 8}) {
      RunConfig config;
      const RankMemory plan = gpu_plan(config, size, replicas, 1).front();
      const auto part = [&](const std::string& what) {
        return static_cast<double>(bytes_of(plan, what));
      };
      const auto parameters = static_cast<double>(size.parameters);
      EXPECT_EQ(part("weights"), 2 * parameters) << size.name;
      EXPECT_NEAR(part("masters") + part("moments"), 12 * parameters / replicas, 1024) << size.name;
      const double kept = 2560.0 * 2 * static_cast<double>(size.hidden * size.layers);
      EXPECT_GT(part("activations of a micro-batch"), kept) << size.name;
      EXPECT_LT(part("activations of a micro-batch"), 1.7 * kept) << size.name;
    }
  }
}

/// Whether an H100 of 80 GB holds the plan and what CUDA and NCCL take beside it.
bool fits(RunConfig config, std::size_t size, int ranks, int tp) {
  ::unsetenv("NCCL_MAX_P2P_NCHANNELS");
  config.engine.exchange = "nccl";
  const auto plan = gpu_plan(config, sizes[size], ranks, tp);
  const BesideMemory& beside = plan.front().beside;
  config.engine.memory_mib -= (beside.cuda + beside.nccl) >> 20;
  return memory_problems(config, plan).empty();
}

TEST(GpuPlan, SaysForEverySizeOnHowManyH100ItTrains) {
  EXPECT_TRUE(fits({}, 0, 1, 1));
  EXPECT_TRUE(fits({}, 1, 1, 1));
  EXPECT_FALSE(fits({}, 2, 1, 1));
  EXPECT_TRUE(fits({}, 2, 8, 1));
  EXPECT_FALSE(fits({}, 3, 8, 1));
  EXPECT_TRUE(fits({}, 3, 8, 2));
  EXPECT_FALSE(fits({}, 4, 8, 4));
  EXPECT_TRUE(fits({}, 4, 8, 8));
  EXPECT_FALSE(fits({}, 5, 8, 8));
}

/// Without a base and a reflection model there is room for what degree 2, or 8, would have divided.
TEST(GpuPlan, SaysOnHowManyH100APolicyAloneTrains) {
  RunConfig config;
  config.run.method = Method::rl;
  config.kl.coef = 0.0;
  config.eval.kl = false;
  EXPECT_TRUE(fits(config, 3, 8, 1));
  EXPECT_FALSE(fits(config, 4, 8, 2));
  EXPECT_FALSE(fits(config, 4, 8, 4));
  EXPECT_TRUE(fits(config, 4, 8, 8));
  EXPECT_FALSE(fits(config, 5, 8, 8));
}

/// In links of 32 channels of 12 MiB: a rank has one to each other rank of a group on its node, and
/// one for gathers.
TEST(GpuPlan, LeavesRoomForCudaAndNccl) {
  ::unsetenv("NCCL_MAX_P2P_NCHANNELS");
  const auto nccl = [](RunConfig config, int ranks, int tp) {
    std::vector<std::int64_t> links;
    for (const RankMemory& rank : gpu_plan(config, sizes[0], ranks, tp)) {
      EXPECT_EQ(rank.beside.cuda, std::int64_t{640} << 20);
      links.push_back(rank.beside.nccl / (std::int64_t{32 * 12} << 20));
    }
    return links;
  };
  using Links = std::vector<std::int64_t>;
  RunConfig config;
  config.engine.exchange = "nccl";
  EXPECT_EQ(nccl(config, 1, 1), Links{0});
  EXPECT_EQ(nccl(config, 8, 1), Links{8});      // learners among each other
  EXPECT_EQ(nccl(config, 8, 8), Links{8});      // one unit, for all roles
  EXPECT_EQ(nccl(config, 8, 2), Links{2 + 4});  // a unit, and learners of one place
  EXPECT_EQ(nccl(config, 64, 1), Links{8});     // of which eight share a node
  config.ranks.rollout = 4;
  config.ranks.reflection = config.ranks.learner = 2;
  EXPECT_EQ(nccl(config, 8, 1), (Links{1, 0, 2 + 1}));  // and weights from learners to samplers
  EXPECT_EQ(nccl(config, 8, 2), (Links{2 + 1, 2, 2 + 1}));
  config.engine.exchange = "host";
  EXPECT_EQ(nccl(config, 8, 2), (Links{0, 0, 0}));
}

TEST(GpuPlan, RefusesWhatFitsTheGpuOnlyWithoutCudaAndNccl) {
  RunConfig config;
  config.engine.device = "cpu";
  RankMemory rank;
  rank.rank = "every rank";
  rank.parts = {{"weights", memory_limit(config) - 1000}};
  EXPECT_TRUE(memory_problems(config, {rank}).empty());
  rank.beside = {700, 400};
  const auto problems = memory_problems(config, {rank});
  ASSERT_EQ(problems.size(), 1U);
  EXPECT_NE(problems[0].find("and CUDA and NCCL some 0.0 MiB beside it"), std::string::npos);
  config.engine.memory_mib = (memory_limit(config) >> 20) + 1;  // what the plan alone may have
  EXPECT_TRUE(memory_problems(config, {rank}).empty());
}

TEST(GpuPlan, TakesTheGpuThatIsThereOrAnH100) {
  RunConfig config;
  const auto plan = gpu_plan(config, sizes[5], 8, 8);
  config.engine.memory_mib = 0;
  const bool there = Device::cuda_devices() > 0;
  EXPECT_EQ(memory_limit(config), there ? Device::cuda_memory(0) : std::int64_t{79} << 30);
  EXPECT_EQ(memory_owner(config), there ? "its GPU" : "an H100 of 80 GB");
  config.engine.device = "cpu";
  EXPECT_EQ(memory_owner(config), "this machine");
}

}  // namespace
}  // namespace fst
