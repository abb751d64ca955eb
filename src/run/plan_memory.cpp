#include <algorithm>
#include <numeric>
#include <tuple>
#include <utility>

#include "fst/comm/unit.h"
#include "fst/learn/gradient_pass.h"
#include "fst/learn/gradient_tree.h"
#include "fst/learn/learner.h"
#include "fst/learn/reshard.h"
#include "fst/model/activations.h"
#include "fst/model/kv_cache.h"
#include "fst/rollout/generator.h"
#include "fst/run/engine.h"
#include "fst/run/losses.h"
#include "fst/run/plan.h"
#include "fst/run/schedule.h"
#include "fst/tensor/library_attention.h"
#include "fst/tensor/ops.h"
#include "fst/tensor/working_memory.h"

namespace fst {

namespace {

constexpr std::int64_t f32_bytes = 4;

/// The sizes of the shards of one degree, which are all alike.
struct ShardSizes {
  ShardSizes(const Qwen3Config& config, int degree, const RunConfig& run)
      : dtype(arithmetic_of(run.engine.dtype)),
        packs(dtype == DType::f32 || !plans_for_gpu(run)),
        local(local_config(config, {0, degree})),
        leaves(ops::leaves_of_rank(degree)),
        vocab(vocab_range(config, {0, degree}).size()),
        parameters(parameter_count(config, {0, degree})) {}

  /// Weights as the matrix products read them where they want them packed, and for inference the
  /// embedding, which is copied.
  std::int64_t packed_bytes(Use use) const {
    const auto packed = [this](std::int64_t rows, std::int64_t columns, ops::Sum sum) {
      return ops::packed_size(dtype, rows, columns, sum);
    };
    const std::int64_t size = local.hidden_size, mlp = local.intermediate_size;
    const std::int64_t layer = packed(local.qkv_size(), size, ops::Sum::chain) +
                               packed(size, local.q_size(), leaves) +
                               packed(2 * mlp, size, ops::Sum::chain) + packed(size, mlp, leaves);
    std::int64_t elements = packed(vocab, size, ops::Sum::chain) + local.num_hidden_layers * layer;
    if (use == Use::inference) elements += vocab * size;
    return elements * size_of(dtype);
  }
  std::int64_t weight_bytes() const { return parameters * size_of(dtype); }

  DType dtype;
  bool packs;  // ops::packs(), else weights are read in place
  Qwen3Config local;
  ops::Sum leaves;  // of a sum that the ranks share
  std::int64_t vocab, parameters;
};

/// A rank's part of a model, as far as memory goes.
struct PlannedModel {
  PlannedModel(const ModelSource& source, int degree_, const RunConfig& run)
      : sizes(source.config, degree_, run),
        degree(degree_),
        positions(source.config.max_position_embeddings),
        on_host(!plans_for_gpu(run)) {}

  PassModel pass() const { return {sizes.local, sizes.dtype, sizes.vocab, degree}; }
  GeneratorModel generator() const {
    return {sizes.local, sizes.dtype, sizes.vocab, degree, positions, on_host};
  }
  /// Copies of norms and biases, sine and cosine, and what each piece of the arena is rounded up.
  std::int64_t small_bytes() const {
    const Qwen3Config& c = sizes.local;
    const std::int64_t norms = 2 * c.hidden_size + c.qkv_size() + 2 * c.head_dim;
    const std::int64_t floats =
        c.num_hidden_layers * norms + c.hidden_size + positions * c.head_dim;
    return floats * f32_bytes + (4 * c.num_hidden_layers + 12) * Suballocator::alignment;
  }

  ShardSizes sizes;
  std::int64_t degree, positions;
  bool on_host;
};

/// The parts of one kind of rank, as they are found.
class Parts {
 public:
  Parts(const RunConfig& config, const PlanModels& models, RankRoles roles, std::int64_t learners,
        std::int64_t prompt_tokens)
      : config_(config), models_(models), plan_(plan_of(config)), roles_(roles) {
    moves_ = traits_of(config.run.method).trains && plan_.learner.tp != plan_.rollout.tp;
    shared_ = roles_.learner && roles_.rollout && plan_.learner.tp == plan_.rollout.tp;
    length_ = planned_length(config, prompt_tokens);
    replicas_ = learners / plan_.learner.tp;
  }
  RankMemory all();

 private:
  PlannedModel policy_of(const RolePlan& role) const { return {models_.policy, role.tp, config_}; }
  void add(const std::string& what, std::int64_t bytes, MemoryPhase phase = MemoryPhase::always) {
    memory_.parts.push_back({what, bytes, phase});
  }
  void add_policy(const PlannedModel& model, Use use, const std::string& whose);
  void add_frozen();
  void add_frozen(const char* what, const ModelSource& source, int degree);
  void add_learner(const PlannedModel& model);
  void add_gradients(const PlannedModel& model);
  void add_pass(const PassShape& shape, const PlannedModel& model, MemoryPhase phase);
  void add_scoring(const PlannedModel& model);
  void add_generator(const PlannedModel& model, MemoryPhase phase);
  void add_exchange();
  std::int64_t most_decoded() const {
    return Generator::most_decoded(generator_options(config_), !plans_for_gpu(config_));
  }
  std::int64_t most_rows() const;
  void add_kernels();

  const RunConfig& config_;
  const PlanModels& models_;
  RankPlan plan_;
  RankRoles roles_;
  bool moves_, shared_;
  std::int64_t length_, replicas_;
  std::vector<std::pair<std::string, int>> frozen_;  // path and degree
  RankMemory memory_;
};

void Parts::add_policy(const PlannedModel& model, Use use, const std::string& whose) {
  add(whose + "weights", model.sizes.weight_bytes());
  if (model.sizes.packs) add(whose + "packed weights", model.sizes.packed_bytes(use));
  add(whose + "norms and rotations", model.small_bytes());
}

/// A rank's leaves of the gradient, and what it gets of the other replicas' to join.
void Parts::add_gradients(const PlannedModel& model) {
  const ShardSizes& sizes = model.sizes;
  const Qwen3Config& local = sizes.local;
  std::int64_t elements = sizes.parameters;
  if (local.tie_word_embeddings) elements += sizes.vocab * local.hidden_size;
  if (local.qk_norm()) {  // by head, and, where ranks share the model, those of all ranks
    elements += local.num_hidden_layers * (local.q_size() + local.kv_size()) *
                (model.degree > 1 ? 1 + model.degree : 1);
  }
  const std::int64_t all = config_.learner.gradient_leaves;
  const std::int64_t leaves = (all + replicas_ - 1) / replicas_;
  const std::int64_t rounding = 4 * Suballocator::alignment;
  add("gradients", (elements * f32_bytes + rounding) * GradientTree::held_gradients(leaves),
      MemoryPhase::learning);
  if (replicas_ == 1) return;
  add("gradients of the other replicas",
      GradientTree::exchanged_elements(all, replicas_, sizes.parameters) * f32_bytes + rounding,
      MemoryPhase::learning);
}

/// Activations and logits of a micro-batch, its keys and values, and what a pass works on.
void Parts::add_pass(const PassShape& shape, const PlannedModel& model, MemoryPhase phase) {
  const ShardSizes& sizes = model.sizes;
  const PlannedModel base(models_.base, static_cast<int>(model.degree), config_);
  std::int64_t rest = GradientPass::bytes_of(shape, model.pass(), base.pass());
  const auto part = [&](const char* what, std::int64_t bytes) {
    add(what, bytes, phase);
    rest -= bytes;
  };
  const auto kept = [&](Keep keep) {
    return shape.tokens * Activations::bytes_per_token(sizes.local, sizes.dtype, keep);
  };
  if (shape.backward) {
    part("activations of a micro-batch",
         shape.keep == Keep::inputs
             ? kept(Keep::inputs) + kept(Keep::all) / sizes.local.num_hidden_layers
             : kept(Keep::all));
  }
  part("keys and values of a micro-batch",
       shape.sequences * blocks_for(length_) * KvCache::bytes_per_block(sizes.local, sizes.dtype));
  const bool own_gradient = shape.backward && sizes.dtype != DType::f32;
  part("logits of a chunk", shape.chunk_rows * sizes.vocab *
                                (f32_bytes + (shape.base_kl ? f32_bytes : 0) +
                                 (own_gradient ? size_of(sizes.dtype) : 0)));
  add("what a micro-batch works on", rest, phase);
}

void Parts::add_learner(const PlannedModel& model) {
  const std::int64_t most = (model.sizes.parameters + replicas_ - 1) / replicas_;
  const std::int64_t shard = most * f32_bytes + Suballocator::alignment;
  if (model.sizes.dtype != DType::f32) add("masters", shard);
  add("moments", 2 * shard);
  if (config_.engine.attention == "cudnn") {
    const Qwen3Config& local = model.sizes.local;
    add("cuDNN's working memory",
        LibraryAttention::backward_bytes(config_.learner.micro_batch, length_,
                                         local.num_attention_heads, local.num_key_value_heads,
                                         local.head_dim) +
            Suballocator::alignment);
  }
  add_gradients(model);
  LearnerOptions options = learner_options(config_, 0);
  options.most_tokens = options.micro_batch * length_;
  add_pass(Learner::pass_shape(options), model, MemoryPhase::learning);
}

void Parts::add_scoring(const PlannedModel& model) {
  const auto shape = scoring_shape(config_, config_.learner.micro_batch * length_);
  if (shape) add_pass(*shape, model, MemoryPhase::scoring);
}

void Parts::add_generator(const PlannedModel& model, MemoryPhase phase) {
  const GeneratorOptions options = generator_options(config_);
  const std::int64_t cache = Generator::most_blocks(model.generator(), options) *
                             KvCache::bytes_per_block(model.sizes.local, model.sizes.dtype);
  add("keys and values", cache, phase);
  add("what a step works on", Generator::bytes_of(model.generator(), options) - cache, phase);
}

/// The frozen models of a rank: each once for each degree.
void Parts::add_frozen(const char* what, const ModelSource& source, int degree) {
  const std::pair key(source.path, degree);
  if (std::find(frozen_.begin(), frozen_.end(), key) != frozen_.end()) return;
  frozen_.push_back(key);
  const PlannedModel model(source, degree, config_);
  const std::int64_t weights = model.sizes.weight_bytes() + Suballocator::alignment;
  add(what, model.sizes.packs ? model.sizes.packed_bytes(Use::inference) : weights);
  add(what + std::string(": norms and rotations"), model.small_bytes());
  if (!model.sizes.packs) return;  // read in place
  add(what + std::string(" as it is read"), weights, MemoryPhase::loading);
}

void Parts::add_frozen() {
  const bool learner_base = kl_in_loss(config_) || config_.kl.seed_prompt > 0.0;
  const bool rollout_base = config_.eval.kl || config_.kl.place == "reward";
  if (roles_.learner && learner_base) add_frozen("base model", models_.base, plan_.learner.tp);
  if (roles_.rollout && rollout_base) add_frozen("base model", models_.base, plan_.rollout.tp);
  if (roles_.reflection) {
    add_frozen("reflection model", models_.reflection, plan_.reflection.tp);
  }
}

/// Weights on their way to samplers of another degree, and what units of ranks get of each other.
void Parts::add_exchange() {
  const Qwen3Config& policy = models_.policy.config;
  if (moves_) {
    const std::int64_t most =
        std::max(std::min(Resharding::default_bucket, policy.parameter_count()),
                 std::max(policy.hidden_size, policy.intermediate_size));
    // A receiver passes one bucket on while the next one comes.
    const std::int64_t buckets = (roles_.learner ? 1 : 0) + (roles_.rollout ? 2 : 0);
    const std::int64_t bucket = most * size_of(arithmetic_of(config_.engine.dtype));
    add("weights on their way", buckets * (bucket + Suballocator::alignment));
  }
  std::int64_t sums = 0;
  memory_.unit_elements =
      most_rows() * std::max(policy.hidden_size, models_.reflection.config.hidden_size);
  for (const auto& [used, role] :
       {std::pair(roles_.rollout, plan_.rollout), std::pair(roles_.reflection, plan_.reflection),
        std::pair(roles_.learner, plan_.learner)}) {
    if (used && role.tp > 1) {
      sums += Suballocator::aligned(Unit::bytes_of(role.tp, memory_.unit_elements));
    }
  }
  if (sums > 0) add("sums over the ranks of a unit", sums);
}

/// Rows of hidden states that ranks sum at once; a gradient has up to three matrices'.
std::int64_t Parts::most_rows() const {
  const std::int64_t pass = config_.learner.micro_batch * length_;
  const std::int64_t step = most_decoded() + config_.rollout.prefill_chunk;
  return std::max(roles_.learner ? 3 * pass : pass, step);
}

void Parts::add_kernels() {
  if (!memory_.turns) return;
  const std::int64_t decoded = most_decoded();
  for (const auto& [used, role, source] :
       {std::tuple(roles_.learner || roles_.rollout, roles_.learner ? plan_.learner : plan_.rollout,
                   &models_.policy),
        std::tuple(roles_.reflection, plan_.reflection, &models_.reflection)}) {
    if (!used) continue;
    const Qwen3Config local = local_config(source->config, {0, role.tp});
    ops::KernelWork work;
    work.sequences = config_.learner.micro_batch;
    work.longest = length_;
    work.rows = std::max(work.sequences * length_, decoded + config_.rollout.prefill_chunk);
    work.hidden_size = local.hidden_size;
    work.heads = local.num_attention_heads;
    work.kv_heads = local.num_key_value_heads;
    work.head_dim = local.head_dim;
    work.decoding = decoded;
    work.context = std::min(length_, source->config.max_position_embeddings);
    work.law_rows = std::max(config_.learner.head_chunk, decoded);
    work.drawn_rows = std::min(Generator::most_logits_rows(local), decoded);
    work.vocab = local.vocab_size;
    memory_.kernels = std::max(memory_.kernels, ops::working_bytes(work));
  }
  memory_.kernels = Suballocator::aligned(memory_.kernels);
  add("what kernels work in", memory_.kernels);
}

RankMemory Parts::all() {
  memory_.turns = plans_for_gpu(config_);
  const PlannedModel learner = policy_of(plan_.learner), rollout = policy_of(plan_.rollout);
  if (roles_.learner) add_policy(learner, Use::training, "");
  if (roles_.rollout && !shared_) {
    add_policy(rollout, Use::inference, roles_.learner ? "the sampler's " : "");
  }
  add_frozen();
  add_exchange();
  add_kernels();
  if (roles_.learner) add_learner(learner);
  if (roles_.rollout) {
    add_generator(rollout, MemoryPhase::rollout);
    add_scoring(rollout);
  }
  if (roles_.reflection) {
    add_generator({models_.reflection, plan_.reflection.tp, config_}, MemoryPhase::reflection);
  }
  return std::move(memory_);
}

}  // namespace

std::int64_t planned_length(const RunConfig& config, std::int64_t prompt_tokens) {
  return prompt_tokens + config.rollout.max_new_tokens;
}

PhaseBytes RankMemory::by_phase() const {
  PhaseBytes all;
  for (const MemoryPart& part : parts) {
    std::int64_t& bytes = all[part.phase];
    bytes = part.phase == MemoryPhase::loading ? std::max(bytes, part.bytes)  // one after another
                                               : bytes + part.bytes;
  }
  return all;
}

std::int64_t RankMemory::total() const {
  const PhaseBytes all = by_phase();
  if (turns) return all.total();
  return std::accumulate(all.bytes.begin(), all.bytes.end(), std::int64_t{0}) -
         all[MemoryPhase::loading];
}

std::vector<RankMemory> memory_plan(const RunConfig& config, const PlanModels& models, int ranks,
                                    std::int64_t prompt_tokens) {
  const RankPlan plan = plan_of(config);
  const std::int64_t learners = plan.colocated() ? ranks : std::max(plan.learner.ranks, 1);
  const MethodTraits traits = traits_of(config.run.method);
  const auto of = [&](const char* rank, RankRoles roles) {
    roles.learner = roles.learner && traits.trains;
    roles.reflection = roles.reflection && traits.evolves();
    RankMemory memory = Parts(config, models, roles, learners, prompt_tokens).all();
    memory.rank = rank;
    memory.beside = beside_memory(config, roles, ranks);
    return memory;
  };
  if (plan.colocated()) return {of("every rank", {true, true, true})};
  std::vector<RankMemory> memory{of("rollout rank", {.rollout = true})};
  if (plan.reflection.ranks > 0) memory.push_back(of("reflection rank", {.reflection = true}));
  if (plan.learner.ranks > 0) memory.push_back(of("learner rank", {.learner = true}));
  return memory;
}

}  // namespace fst
