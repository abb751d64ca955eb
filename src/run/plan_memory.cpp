#include <algorithm>
#include <cstdio>
#include <unistd.h>

#include "fst/learn/gradient_tree.h"
#include "fst/learn/reshard.h"
#include "fst/model/activations.h"
#include "fst/model/kv_cache.h"
#include "fst/run/engine.h"
#include "fst/run/losses.h"
#include "fst/run/plan.h"
#include "fst/run/schedule.h"
#include "fst/tensor/library_attention.h"
#include "fst/tensor/ops.h"

namespace fst {

namespace {

constexpr std::int64_t f32_bytes = 4;
// What CUDA finds on an H100 of 80 GB, rounded down: the GPU of a plan made where there is none.
constexpr std::int64_t h100_bytes = std::int64_t{79} << 30;

bool on_gpu(const RunConfig& config) {
  const std::string& device = config.engine.device;
  return device == "cuda" || (device == "auto" && Device::cuda_devices() > 0);
}

/// The sizes of the shards of one degree, which are all alike.
struct ShardSizes {
  ShardSizes(const Qwen3Config& config, int degree, const RunConfig& run)
      : dtype(arithmetic_of(run.engine.dtype)),
        packs(dtype == DType::f32 || !on_gpu(run)),
        local(local_config(config, {0, degree})),
        leaves(ops::leaves_of_rank(degree)),
        vocab(vocab_range(config, {0, degree}).size()),
        parameters(parameter_count(config, {0, degree})) {}

  /// Weights as the matrix products read them; for inference the embedding, which it copies, and
  /// for training the rounded weights in their natural order. A GPU's products read these in bf16.
  std::int64_t packed_bytes(Use use) const {
    if (!packs) return parameters * size_of(dtype);
    const auto packed = [this](std::int64_t rows, std::int64_t columns, ops::Sum sum) {
      return ops::packed_size(dtype, rows, columns, sum);
    };
    const std::int64_t size = local.hidden_size, mlp = local.intermediate_size;
    const std::int64_t layer = packed(local.qkv_size(), size, ops::Sum::chain) +
                               packed(size, local.q_size(), leaves) +
                               packed(2 * mlp, size, ops::Sum::chain) + packed(size, mlp, leaves);
    std::int64_t elements = packed(vocab, size, ops::Sum::chain) + local.num_hidden_layers * layer;
    if (use == Use::inference) elements += vocab * size;
    if (use == Use::training && dtype != DType::f32) elements += parameters;
    return elements * size_of(dtype);
  }
  std::int64_t weight_bytes() const { return parameters * f32_bytes; }

  DType dtype;
  bool packs;  // ops::packs()
  Qwen3Config local;
  ops::Sum leaves;  // of a sum that the ranks share
  std::int64_t vocab, parameters;
};

void add_policy(std::vector<MemoryPart>& parts, const ShardSizes& sizes, Use use,
                const std::string& whose) {
  parts.push_back({whose + "weights", sizes.weight_bytes()});
  parts.push_back({whose + "packed weights", sizes.packed_bytes(use)});
}

/// A rank's leaves of the gradient, and what it gets of the other replicas' to join.
void add_gradients(std::vector<MemoryPart>& parts, const RunConfig& config, const ShardSizes& sizes,
                   std::int64_t replicas) {
  std::int64_t elements = sizes.parameters;
  if (sizes.local.tie_word_embeddings) elements += sizes.vocab * sizes.local.hidden_size;
  const std::int64_t all = config.learner.gradient_leaves;
  const std::int64_t leaves = (all + replicas - 1) / replicas;
  parts.push_back({"gradients", elements * f32_bytes * GradientTree::held_gradients(leaves)});
  if (replicas == 1) return;
  parts.push_back({"gradients of the other replicas",
                   GradientTree::exchanged_elements(all, replicas, sizes.parameters) * f32_bytes});
}

void add_learner(std::vector<MemoryPart>& parts, const RunConfig& config, const ShardSizes& sizes,
                 std::int64_t replicas, std::int64_t prompt_tokens) {
  const std::int64_t length = prompt_tokens + config.rollout.max_new_tokens;
  const std::int64_t batch = config.learner.micro_batch;
  const Qwen3Config& local = sizes.local;
  add_gradients(parts, config, sizes, replicas);
  parts.push_back({"moments", 2 * sizes.parameters * f32_bytes / replicas});
  const auto kept = [&](Keep keep) {
    return batch * length * Activations::bytes_per_token(local, sizes.dtype, keep);
  };
  parts.push_back({"activations of a micro-batch",
                   config.learner.recompute
                       ? kept(Keep::inputs) + kept(Keep::all) / local.num_hidden_layers
                       : kept(Keep::all)});
  parts.push_back({"keys and values of a micro-batch",
                   batch * blocks_for(length) * KvCache::bytes_per_block(local, sizes.dtype)});
  if (config.engine.attention == "cudnn") {
    parts.push_back({"cuDNN's working memory",
                     LibraryAttention::backward_bytes(batch, length, local.num_attention_heads,
                                                      local.num_key_value_heads, local.head_dim)});
  }
  const std::int64_t gradients_too = sizes.dtype == DType::f32 ? 0 : size_of(sizes.dtype);
  parts.push_back({"logits of a chunk",
                   config.learner.head_chunk * sizes.vocab * (2 * f32_bytes + gradients_too)});
}

/// Which roles a kind of rank has.
struct Roles {
  bool rollout = false, reflection = false, learner = false;
};

/// The frozen models of a rank: each once for each degree.
void add_frozen(std::vector<MemoryPart>& parts, const RunConfig& config, const PlanModels& models,
                const Roles& roles) {
  const RankPlan plan = plan_of(config);
  std::vector<std::pair<std::string, int>> held;
  const auto add = [&](const char* what, const ModelSource& model, int degree) {
    const std::pair key(model.path, degree);
    if (std::find(held.begin(), held.end(), key) != held.end()) return;
    held.push_back(key);
    parts.push_back({what, ShardSizes(model.config, degree, config).packed_bytes(Use::inference)});
  };
  const bool learner_base = kl_in_loss(config) || config.kl.seed_prompt > 0.0;
  const bool rollout_base = config.eval.kl || config.kl.place == "reward";
  if (roles.learner && learner_base) add("base model", models.base, plan.learner.tp);
  if (roles.rollout && rollout_base) add("base model", models.base, plan.rollout.tp);
  if (roles.reflection) add("reflection model", models.reflection, plan.reflection.tp);
}

std::vector<MemoryPart> parts_of(const RunConfig& config, const PlanModels& models, Roles roles,
                                 std::int64_t learners, std::int64_t prompt_tokens) {
  const MethodTraits traits = traits_of(config.run.method);
  const RankPlan plan = plan_of(config);
  const Qwen3Config& policy = models.policy.config;
  roles.learner = roles.learner && traits.trains;
  roles.reflection = roles.reflection && traits.evolves();
  const bool shared = roles.learner && roles.rollout && plan.learner.tp == plan.rollout.tp;
  std::vector<MemoryPart> parts;
  if (roles.learner) add_policy(parts, {policy, plan.learner.tp, config}, Use::training, "");
  if (roles.rollout && !shared) {
    add_policy(parts, {policy, plan.rollout.tp, config}, Use::inference,
               roles.learner ? "the sampler's " : "");
  }
  add_frozen(parts, config, models, roles);
  if (roles.learner) {
    add_learner(parts, config, {policy, plan.learner.tp, config}, learners / plan.learner.tp,
                prompt_tokens);
  }
  const bool moves = traits.trains && (roles.learner || roles.rollout) && !shared;
  if (moves) {
    const std::int64_t most = std::min(Resharding::default_bucket, policy.parameter_count());
    parts.push_back({"weights on their way", 3 * most * f32_bytes});
  }
  if (roles.rollout) parts.push_back({"keys and values, at most", config.rollout.kv_mib << 20});
  if (roles.reflection) {
    parts.push_back({"keys and values of reflections, at most", config.rollout.kv_mib << 20});
  }
  return parts;
}

}  // namespace

std::int64_t RankMemory::total() const {
  std::int64_t bytes = 0;
  for (const MemoryPart& part : parts) bytes += part.bytes;
  return bytes;
}

std::vector<RankMemory> memory_plan(const RunConfig& config, const PlanModels& models, int ranks,
                                    std::int64_t prompt_tokens) {
  const RankPlan plan = plan_of(config);
  const std::int64_t learners = plan.colocated() ? ranks : std::max(plan.learner.ranks, 1);
  const auto of = [&](const char* rank, const Roles& roles) {
    return RankMemory{rank, parts_of(config, models, roles, learners, prompt_tokens)};
  };
  if (plan.colocated()) return {of("every rank", {true, true, true})};
  std::vector<RankMemory> memory{of("rollout rank", {.rollout = true})};
  if (plan.reflection.ranks > 0) memory.push_back(of("reflection rank", {.reflection = true}));
  if (plan.learner.ranks > 0) memory.push_back(of("learner rank", {.learner = true}));
  return memory;
}

std::int64_t memory_limit(const RunConfig& config) {
  if (config.engine.memory_mib > 0) return config.engine.memory_mib << 20;
  if (on_gpu(config)) return Device::cuda_devices() > 0 ? Device::cuda_memory(0) : h100_bytes;
  return static_cast<std::int64_t>(sysconf(_SC_PHYS_PAGES)) *
         static_cast<std::int64_t>(sysconf(_SC_PAGESIZE));
}

std::string memory_owner(const RunConfig& config) {
  if (!on_gpu(config)) return "this machine";
  return Device::cuda_devices() > 0 ? "its GPU" : "an H100 of 80 GB";
}

std::vector<std::string> memory_problems(const RunConfig& config,
                                         const std::vector<RankMemory>& memory) {
  const std::int64_t limit = memory_limit(config);
  const std::string whose =
      config.engine.memory_mib > 0 ? "allows" : "= 0 allows what " + memory_owner(config) + " has,";
  std::vector<std::string> problems;
  for (const RankMemory& rank : memory) {
    if (rank.total() <= limit) continue;
    const auto largest = std::max_element(
        rank.parts.begin(), rank.parts.end(),
        [](const MemoryPart& a, const MemoryPart& b) { return a.bytes < b.bytes; });
    problems.push_back(
        "engine.memory_mib " + whose + " " + bytes_text(limit) + ", but " +
        (rank.rank == "every rank" ? "" : "a ") + rank.rank + " needs " + bytes_text(rank.total()) +
        ", of it " + bytes_text(largest->bytes) + " for " + largest->what +
        "; larger tp or more learners divide it, learner.recompute keeps fewer activations");
  }
  return problems;
}

std::string bytes_text(std::int64_t bytes) {
  char text[32];
  const double mib = static_cast<double>(bytes) / (1 << 20);
  std::snprintf(text, sizeof text, mib < 10240 ? "%.1f MiB" : "%.1f GiB",
                mib < 10240 ? mib : mib / 1024);
  return text;
}

}  // namespace fst
