#include "fst/base/error.h"
#include "fst/run/conversation.h"
#include "fst/run/engine.h"
#include "fst/run/roles.h"
#include "fst/run/schedule.h"

namespace fst {

RunContext::RunContext(World& world_, const RunConfig& config_)
    : RunContext(world_, config_, open_unplanned_engine(world_, config_)) {}

RunContext::RunContext(World& world_, const RunConfig& config_, const JobMemory& memory)
    : world(world_),
      config(config_),
      device(memory.device),
      longest(memory.longest),
      policy_source(ModelSource::open(world_.all(), config_.model.policy)),
      tokenizer(policy_source.tokenizer()),
      chat(policy_source.chat()),
      vocab(law_vocabulary(policy_source, tokenizer)),
      max_positions(policy_source.config.max_position_embeddings),
      thinking(thinking_of(config_.chat.thinking)),
      frozen(device, max_positions, arithmetic_of(config_.engine.dtype)),
      units_{Unit(world.unit(Role::rollout)), Unit(world.unit(Role::reflection)),
             Unit(world.unit(Role::learner))} {
  if (longest > 0) {
    for (const Unit& unit : units_) unit.reserve(device, memory.unit_elements);
  }
  expect_attention(config);
  if (policy_source.config.eos_token_ids.empty()) {
    throw InputError(policy_source.path + ": no eos_token_id: a completion could never end");
  }
}

const TensorParallel* RunContext::unit(Role role) const {
  return &units_[static_cast<std::size_t>(role)];
}

const std::string& RunContext::base_path() const {
  return config.model.base.empty() ? config.model.policy : config.model.base;
}

const std::string& RunContext::reflection_path() const {
  return config.model.reflection.empty() ? config.model.policy : config.model.reflection;
}

std::vector<TokenId> RunContext::prompt_tokens(const std::string& prompt,
                                               const Problem& problem) const {
  auto tokens = tokenizer.encode(problem_prompt(chat, prompt, problem, thinking));
  const std::int64_t room = max_positions - static_cast<std::int64_t>(tokens.size());
  if (room < 1) {
    throw Error("problem " + problem.id + ": its prompt has " + std::to_string(tokens.size()) +
                " tokens, the model takes " + std::to_string(max_positions));
  }
  return tokens;
}

namespace {

Holders holders_of(const World& world, Role role) {
  return {world.plan().of(role).tp, world.policy_ranks(role)};
}

}  // namespace

Policy::Policy(RunContext& context) {
  const World& world = context.world;
  const bool trains = traits_of(context.config.run.method).trains;
  const bool one_degree = world.plan().learner.tp == world.plan().rollout.tp;
  if (trains && world.learner().member()) learner_ = load(context, Role::learner, Use::training);
  shared_ = learner_ && world.rollout().member() && one_degree;
  if (!shared_ && world.rollout().member()) sampler_ = load(context, Role::rollout, Use::inference);
  if (trains && world.copies().member()) copies_ = &world.copies();
  if (trains && world.policy().member() && !one_degree) {
    resharding_.emplace(context.policy_source.config, holders_of(world, Role::learner),
                        holders_of(world, Role::rollout), world.policy());
  }
}

std::unique_ptr<PolicyWeights> Policy::load(RunContext& context, Role role, Use use) {
  const TensorParallel* unit = context.unit(role);
  const ModelSource& source = context.policy_source;
  const Shard shard = shard_of(unit);
  Holding holding{arithmetic_of(context.config.engine.dtype)};
  if (use == Use::training) {
    holding.masters =
        GradientTree::shard_of(parameter_count(source.config, shard), context.world.across(role));
  }
  ModelIdentity identity(source.config, shard);
  auto weights = std::make_unique<PolicyWeights>(PolicyWeights{
      source.load(context.world.role(role), context.device, shard, holding, &identity), nullptr});
  start_identity_ = identity.of(unit, context.device);
  weights->model = std::make_unique<Qwen3>(
      source.config, context.device,
      Qwen3Options{
          .use = use,
          .max_positions = context.max_positions,
          .dtype = holding.dtype,
          .attention = attention_of(use == Use::training ? context.config.engine.attention : "own"),
          .unit = unit});
  weights->model->set_weights(weights->parameters);
  return weights;
}

void Policy::adopt() {
  if (copies_ != nullptr) {
    broadcast_weights((learner_ ? learner_ : sampler_)->parameters, *copies_);
  } else if (resharding_) {
    resharding_->run(learner_ ? &learner_->parameters : nullptr,
                     sampler_ ? &sampler_->parameters : nullptr);
  } else {
    return;  // samplers have the learner's own, or nobody learns
  }
  if (sampler_) sampler_->model->set_weights(sampler_->parameters);
}

}  // namespace fst
