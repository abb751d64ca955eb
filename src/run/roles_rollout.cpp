#include <algorithm>

#include "fst/base/error.h"
#include "fst/base/portable_math.h"
#include "fst/base/random.h"
#include "fst/comm/exchange.h"
#include "fst/run/engine.h"
#include "fst/run/losses.h"
#include "fst/run/roles.h"
#include "fst/task/world.h"

namespace fst {

namespace {

/// For the share of the most frequent answer: the rule an answer of the world follows (-1: none),
/// elsewhere a hash of the text.
std::int64_t answer_class(const Task& task, const Problem& problem, const std::string& text) {
  if (task.name != "world") return static_cast<std::int64_t>(hash_text(text) >> 1);
  const auto rule = world::classify(text, problem.question);
  return rule ? static_cast<std::int64_t>(*rule) : -1;
}

std::vector<Trajectory> sorted_by_request(std::vector<Trajectory> trajectories) {
  std::sort(trajectories.begin(), trajectories.end(),
            [](const Trajectory& a, const Trajectory& b) { return a.request < b.request; });
  return trajectories;
}

/// Positions of the completion's tokens.
std::vector<std::int32_t> targets_from(std::size_t prompt_length, std::size_t length) {
  std::vector<std::int32_t> targets;
  for (std::size_t t = prompt_length; t < length; ++t)
    targets.push_back(static_cast<std::int32_t>(t));
  return targets;
}
std::vector<std::int32_t> completion_targets(const Trajectory& t) {
  return targets_from(static_cast<std::size_t>(t.prompt_length), t.tokens.size());
}

}  // namespace

void Outcome::pack(Packer& packer) const {
  packer.put(reward);
  packer.put(prompt_length);
  packer.put(length);
  packer.put(finish);
  packer.put(status);
  packer.put(answer);
  packer.put(base_log_ratio);
}

Outcome Outcome::unpack(Unpacker& unpacker) {
  Outcome outcome;
  outcome.reward = unpacker.get<float>();
  outcome.prompt_length = unpacker.get<std::int32_t>();
  outcome.length = unpacker.get<std::int32_t>();
  outcome.finish = unpacker.get<Finish>();
  outcome.status = unpacker.get<VerdictStatus>();
  outcome.answer = unpacker.get<std::int64_t>();
  outcome.base_log_ratio = unpacker.get<double>();
  return outcome;
}

namespace {
/// An outcome on its way, with the request it belongs to.
struct Numbered {
  std::int32_t request;
  Outcome outcome;
  void pack(Packer& packer) const {
    packer.put(request);
    packer.put(outcome);
  }
  static Numbered unpack(Unpacker& unpacker) {
    const auto request = unpacker.get<std::int32_t>();
    return {request, Outcome::unpack(unpacker)};
  }
};
}  // namespace

RolloutRole::RolloutRole(RunContext& context, Policy& policy)
    : context_(&context), policy_(&policy) {
  if (!context.world.rollout().member()) return;
  GeneratorOptions options = generator_options(context.config);
  options.stop_ids = context.policy_source.config.eos_token_ids;
  Qwen3& model = *policy.sampler()->model;
  generator_ = std::make_unique<Generator>(model, options);
  const bool needs_base = context.config.eval.kl || context.config.kl.place == "reward";
  const TensorParallel* unit = context.unit(Role::rollout);
  Qwen3* base = nullptr;
  if (needs_base)
    base = context.frozen.at(context.world.rollout(), context.base_path(), unit).model.get();
  scorer_ = std::make_unique<GradientPass>(model, base, MemoryPhase::scoring);
  if (context.longest == 0) return;
  generator_->reserve();
  if (const auto shape = scoring_shape(context.config, context.most_tokens())) {
    scorer_->reserve(*shape);
  }
}

bool RolloutRole::serves(std::int32_t problem) const {
  const Communicator& units = context_->world.across(Role::rollout);
  return units.member() && problem % units.size() == units.rank();
}

void RolloutRole::start(const RequestBatch& batch, const Task& task) {
  now_ = sample(batch, task);
}

Sampled RolloutRole::sample(const RequestBatch& batch, const Task& task) {
  Sampled sampled;
  sampled.requests = static_cast<std::int32_t>(batch.requests.size());
  if (!generator_) return sampled;
  const Stopwatch watch;
  std::vector<GenerateRequest> wanted;
  for (std::int32_t i = 0; i < sampled.requests; ++i) {
    const Request& request = batch.requests[static_cast<std::size_t>(i)];
    if (!serves(request.problem)) continue;
    Trajectory trajectory;
    trajectory.request = i;
    trajectory.policy = policy_->version;
    trajectory.tokens =
        context_->prompt_tokens(batch.prompts[static_cast<std::size_t>(request.prompt)],
                                batch.problems[static_cast<std::size_t>(request.problem)]);
    trajectory.prompt_length = static_cast<std::int32_t>(trajectory.tokens.size());
    GenerateRequest generate;
    generate.prompt = trajectory.tokens;
    generate.key = request.key;
    generate.max_new_tokens = batch.max_new_tokens;
    generate.law = batch.law;
    wanted.push_back(std::move(generate));
    sampled.mine.push_back(std::move(trajectory));
  }
  auto completions = generator_->generate(wanted);
  for (std::size_t i = 0; i < sampled.mine.size(); ++i) {
    Trajectory& trajectory = sampled.mine[i];
    Completion& completion = completions[i];
    trajectory.text = context_->tokenizer.decode(completion.tokens, SpecialTokens::skip);
    trajectory.tokens.insert(trajectory.tokens.end(), completion.tokens.begin(),
                             completion.tokens.end());
    trajectory.logprobs = std::move(completion.logprobs);
    trajectory.finish = completion.finish;
    const Request& request = batch.requests[static_cast<std::size_t>(trajectory.request)];
    const Problem& problem = batch.problems[static_cast<std::size_t>(request.problem)];
    trajectory.verdict = task.verify(problem, {trajectory.text, trajectory.finish == Finish::stop});
    trajectory.answer = answer_class(task, problem, trajectory.text);
  }
  if (batch.score_base) score_base(sampled.mine);
  sampled.seconds = watch.seconds();
  return sampled;
}

PassOptions RolloutRole::pass_options() const {
  PassOptions options;
  options.law = {1.0f, context_->vocab};
  options.micro_batch = context_->config.learner.micro_batch;
  options.chunk_rows = context_->config.learner.head_chunk;
  options.most_tokens = context_->most_tokens();
  return options;
}

/// log p(completion) - log p_base(completion) of what was sampled: the k1 estimate that a KL term
/// in the reward uses.
void RolloutRole::score_base(std::vector<Trajectory>& trajectories) {
  std::vector<std::vector<std::int32_t>> targets;
  std::vector<LossSequence> sequences;
  for (const Trajectory& t : trajectories) targets.push_back(completion_targets(t));
  for (std::size_t i = 0; i < trajectories.size(); ++i)
    sequences.push_back({trajectories[i].tokens, targets[i]});
  std::vector<kernels::ExactSum> ratios(trajectories.size());
  PassOptions options = pass_options();
  options.law.temperature = static_cast<float>(context_->config.rollout.temperature);
  options.base = BaseUse::logprob;
  scorer_->score(sequences, options, [&](const PassChunk& chunk) {
    auto& sum = ratios[static_cast<std::size_t>(chunk.sequence)];
    for (std::size_t i = 0; i < chunk.logprob.size(); ++i) {
      sum.add(static_cast<double>(chunk.logprob[i]));
      sum.add(-static_cast<double>(chunk.base_logprob[i]));
    }
  });
  for (std::size_t i = 0; i < trajectories.size(); ++i)
    trajectories[i].base_log_ratio = ratios[i].value();
}

const std::vector<Outcome>& RolloutRole::outcomes() {
  if (!now_.outcomes.empty() || now_.requests == 0) return now_.outcomes;
  std::vector<Numbered> mine;
  for (const Trajectory& t : now_.mine) {
    if (!reports()) break;
    mine.push_back({t.request,
                    {t.verdict.reward, t.prompt_length, t.length(), t.finish, t.verdict.status,
                     t.answer, t.base_log_ratio}});
  }
  const auto all = all_gather<Numbered>(context_->world.all(), mine, "rewards");
  now_.outcomes.resize(static_cast<std::size_t>(now_.requests));
  std::vector<bool> seen(now_.outcomes.size(), false);
  for (const Numbered& numbered : all) {
    const auto place = static_cast<std::size_t>(numbered.request);
    now_.outcomes.at(place) = numbered.outcome;
    seen[place] = true;
  }
  for (std::size_t i = 0; i < seen.size(); ++i) {
    if (!seen[i]) throw Error("rewards: nobody sampled request " + std::to_string(i));
  }
  return now_.outcomes;
}

/// Sends trajectories to world ranks, by the rank that speaks for this unit; returns what came
/// here, by request.
std::vector<Trajectory> RolloutRole::deliver(
    const std::vector<std::pair<const Trajectory*, int>>& posts, std::string_view what) {
  const Communicator& all = context_->world.all();
  std::vector<Packer> packers(static_cast<std::size_t>(all.size()));
  for (const auto& [trajectory, rank] : posts) {
    if (reports()) trajectory->pack(packers.at(static_cast<std::size_t>(rank)));
  }
  std::vector<std::vector<std::byte>> to;
  for (Packer& packer : packers) to.push_back(packer.take());
  return sorted_by_request(detail::unpack_all<Trajectory>(all.exchange(to, what)));
}

std::vector<Trajectory> RolloutRole::for_learners(const std::function<int(std::int32_t)>& owner) {
  const World& world = context_->world;
  std::vector<std::pair<const Trajectory*, int>> posts;
  for (const Trajectory& t : now_.mine) {
    const int unit = owner(t.request);
    for (int place = 0; place < world.plan().learner.tp; ++place) {
      posts.emplace_back(&t, world.world_rank(Role::learner, unit, place));
    }
  }
  return deliver(posts, "trajectories for the learners");
}

std::vector<Trajectory> RolloutRole::for_reflection(
    const std::vector<std::pair<std::int32_t, int>>& wanted) {
  std::vector<std::pair<const Trajectory*, int>> posts;
  for (const auto& [request, rank] : wanted) {
    for (const Trajectory& t : now_.mine) {
      if (t.request == request) posts.emplace_back(&t, rank);
    }
  }
  return deliver(posts, "evidence for reflection");
}

std::vector<Trajectory> RolloutRole::for_history() {
  return on_first_rank(now_.mine, "trajectories for the history");
}

std::vector<Trajectory> RolloutRole::on_first_rank(const std::vector<Trajectory>& mine,
                                                   const char* what) {
  std::vector<std::pair<const Trajectory*, int>> posts;
  for (const Trajectory& t : mine) posts.emplace_back(&t, 0);
  return deliver(posts, what);
}

Divergence RolloutRole::divergence() {
  kernels::ExactSum kl, entropy;
  std::int64_t tokens = 0;
  if (scorer_ && context_->config.eval.kl) {
    std::vector<std::vector<std::int32_t>> targets;
    std::vector<LossSequence> sequences;
    for (const Trajectory& t : now_.mine) targets.push_back(completion_targets(t));
    for (std::size_t i = 0; i < now_.mine.size(); ++i)
      sequences.push_back({now_.mine[i].tokens, targets[i]});
    PassOptions options = pass_options();
    options.entropy = true;
    options.base = BaseUse::kl;
    scorer_->score(sequences, options, [&](const PassChunk& chunk) {
      for (const float value : chunk.kl) kl.add(static_cast<double>(value));
      for (const float value : chunk.entropy) entropy.add(static_cast<double>(value));
      tokens += static_cast<std::int64_t>(chunk.kl.size());
    });
  }
  if (!reports()) {  // what the ranks of a unit have alike counts once
    kl = entropy = {};
    tokens = 0;
  }
  const Communicator& all = context_->world.all();
  all.all_reduce_sum(kl, "KL to the base");
  all.all_reduce_sum(entropy, "entropy");
  all.all_reduce_sum(std::span(&tokens, 1), "scored tokens");
  const auto count = static_cast<double>(tokens);
  if (tokens == 0) return {};
  return {kl.value() / count, entropy.value() / count, tokens};
}

double RolloutRole::gold_probability(const std::vector<Problem>& problems,
                                     const std::string& prompt) {
  kernels::ExactSum probability;
  if (scorer_) {
    // The end of a turn; the stop set may name others, and knows no order.
    const TokenId end = context_->tokenizer.find("<|im_end|>")
                            .value_or(context_->policy_source.config.eos_token_ids.front());
    std::vector<std::vector<TokenId>> tokens;
    std::vector<std::vector<std::int32_t>> targets;
    for (std::size_t p = 0; p < problems.size(); ++p) {
      if (!serves(static_cast<std::int32_t>(p))) continue;
      auto sequence = context_->prompt_tokens(prompt, problems[p]);
      const std::size_t prompt_length = sequence.size();
      const auto answer = context_->tokenizer.encode(problems[p].reference);
      sequence.insert(sequence.end(), answer.begin(), answer.end());
      sequence.push_back(end);
      targets.push_back(targets_from(prompt_length, sequence.size()));
      tokens.push_back(std::move(sequence));
    }
    std::vector<LossSequence> sequences;
    for (std::size_t i = 0; i < tokens.size(); ++i) sequences.push_back({tokens[i], targets[i]});
    std::vector<kernels::ExactSum> logprobs(tokens.size());
    scorer_->score(sequences, pass_options(), [&](const PassChunk& chunk) {
      auto& sum = logprobs[static_cast<std::size_t>(chunk.sequence)];
      for (const float value : chunk.logprob) sum.add(static_cast<double>(value));
    });
    for (const auto& sum : logprobs) {
      if (reports()) probability.add(portable_exp(sum.value()));
    }
  }
  context_->world.all().all_reduce_sum(probability, "probability of the gold answers");
  return problems.empty() ? 0.0 : probability.value() / static_cast<double>(problems.size());
}

void RolloutRole::adopt(PolicyVersion version) {
  policy_->adopt();
  policy_->version = version;
  if (generator_) generator_->weights_changed();
}

}  // namespace fst
