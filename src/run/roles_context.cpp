#include "fst/base/error.h"
#include "fst/run/conversation.h"
#include "fst/run/roles.h"
#include "fst/run/schedule.h"

namespace fst {

RunContext::RunContext(World& world_, const RunConfig& config_)
    : world(world_),
      config(config_),
      device(Device::cpu(static_cast<int>(config_.engine.threads))),
      policy_source(ModelSource::open(config_.model.policy)),
      tokenizer(policy_source.tokenizer()),
      chat(policy_source.chat()),
      vocab(law_vocabulary(policy_source, tokenizer)),
      max_positions(policy_source.config.max_position_embeddings),
      thinking(thinking_of(config_.chat.thinking)),
      self(Communicator::self()),
      frozen(self, device, max_positions) {
  if (policy_source.config.eos_token_ids.empty()) {
    throw InputError(policy_source.path + ": no eos_token_id: a completion could never end");
  }
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

Policy::Policy(RunContext& context) {
  const World& world = context.world;
  const bool learns = world.learner().member() && traits_of(context.config.run.method).trains;
  if (!learns && !world.rollout().member()) return;
  parameters_ =
      std::make_unique<Parameters>(context.policy_source.load(context.self, context.device));
  start_identity_ = parameters_->identity();
  model_ = std::make_unique<Qwen3>(context.policy_source.config, context.device,
                                   Qwen3Options{.use = learns ? Use::training : Use::inference,
                                                .max_positions = context.max_positions});
  model_->set_weights(*parameters_);
}

}  // namespace fst
