#pragma once

#include <array>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "fst/base/clock.h"
#include "fst/comm/unit.h"
#include "fst/comm/world.h"
#include "fst/evolve/evolution.h"
#include "fst/evolve/reflection.h"
#include "fst/learn/gradient_pass.h"
#include "fst/learn/learner.h"
#include "fst/learn/reshard.h"
#include "fst/rollout/generator.h"
#include "fst/rollout/trajectory.h"
#include "fst/run/config.h"
#include "fst/run/engine.h"
#include "fst/run/model_source.h"
#include "fst/task/task.h"

// The roles are objects that every rank holds and whose methods every rank calls in the same order.
// A rank without the role returns at once, or joins only the exchange that ends the call. Unless a
// comment says otherwise each method is collective over all ranks and gives the same on each.

namespace fst {

/// What all roles of a rank share; made once, by all ranks together, read by all.
struct RunContext {
  /// `memory`: the device, of open_planned_engine(), or open_unplanned_engine(), as without it.
  RunContext(World& world, const RunConfig& config, const JobMemory& memory);
  RunContext(World& world, const RunConfig& config);

  World& world;
  const RunConfig& config;
  Device device;
  std::int64_t longest;  // tokens of a sequence that memory was planned for; 0: there is no plan
  ModelSource policy_source;
  Tokenizer tokenizer;
  Chat chat;
  std::int64_t vocab;          // of the sampling law
  std::int64_t max_positions;  // longest sequence any model here will see
  Thinking thinking;
  FrozenModels frozen;

  /// The ranks that share a model with this one in a role, itself included.
  const TensorParallel* unit(Role role) const;
  const std::string& base_path() const;
  const std::string& reflection_path() const;
  /// Of sequences computed together, for learner.micro_batch of them; 0: any.
  std::int64_t most_tokens() const { return config.learner.micro_batch * longest; }
  /// Prompt tokens of a problem under a system prompt; the data set's own system text follows the
  /// prompt after a blank line.
  std::vector<TokenId> prompt_tokens(const std::string& prompt, const Problem& problem) const;

 private:
  std::array<Unit, 3> units_;  // by role
};

/// The slow weights, or this rank's shard of them.
struct PolicyWeights {
  Parameters parameters;
  std::unique_ptr<Qwen3> model;
};

/// The policy on this rank, made by all ranks together: the learner's weights and the sampler's.
/// Where a rank is both and the degrees are equal they are one object; else the sampler's follow by
/// adopt().
class Policy {
 public:
  explicit Policy(RunContext& context);
  PolicyWeights* learner() { return learner_.get(); }  // null on ranks that do not learn
  PolicyWeights* sampler() { return shared_ ? learner_.get() : sampler_.get(); }
  /// Brings the learner's weights to the samplers, in their shards. Collective over the ranks that
  /// sample or learn.
  void adopt();
  /// Of the weights the run began with; a resumed run takes it from its checkpoint.
  std::uint64_t start_identity() const { return start_identity_; }
  void restore_identity(std::int64_t identity) {
    start_identity_ = static_cast<std::uint64_t>(identity) << 1;
  }
  PolicyVersion version = 0;

 private:
  std::unique_ptr<PolicyWeights> load(RunContext& context, Role role, Use use);
  std::unique_ptr<PolicyWeights> learner_, sampler_;
  bool shared_ = false;
  std::optional<Resharding> resharding_;  // between degrees
  const Communicator* copies_ = nullptr;  // of one shard, where it has owners and samplers
  std::uint64_t start_identity_ = 0;
};

/// What every rank knows of every request once it is done.
struct Outcome {
  float reward = 0;
  std::int32_t prompt_length = 0, length = 0;
  Finish finish = Finish::length;
  VerdictStatus status = VerdictStatus::ok;
  std::int64_t answer = -1;     // as in Trajectory
  double base_log_ratio = 0.0;  // as in Trajectory

  void pack(Packer& packer) const;
  static Outcome unpack(Unpacker& unpacker);
};

/// Mean KL(policy || base) per token and mean entropy over the trajectories of the last start().
struct Divergence {
  double kl = 0, entropy = 0;
  std::int64_t tokens = 0;
};

/// A batch that has been sampled. Trajectories lie on the ranks that sampled them.
struct Sampled {
  std::int32_t requests = 0;
  std::vector<Trajectory> mine;
  std::vector<Outcome> outcomes;  // by request, on every rank; empty until they are exchanged
  double seconds = 0;             // on this rank, verifying included
};

/// Samples, verifies, and measures what it sampled.
class RolloutRole {
 public:
  RolloutRole(RunContext& context, Policy& policy);

  /// Samples the batch with the present policy. A group (problem) is sampled by one unit. No rank
  /// waits for another.
  void start(const RequestBatch& batch, const Task& task);
  /// The same, and sets the batch aside: all methods below stay with that of the last start(),
  /// until take_up().
  void start_ahead(const RequestBatch& batch, const Task& task);
  /// The batch set aside is as if it had been started now; its trajectories keep the version that
  /// sampled them. False where there is none. Not collective.
  bool take_up();
  /// Whether a batch is set aside. Not collective.
  bool holds_ahead() const { return ahead_.has_value(); }
  /// The batch set aside, for a checkpoint: trajectories by request, whatever the layout. On rank
  /// 0; elsewhere empty.
  std::string ahead_bytes();
  /// Sets aside what ahead_bytes() gave for `batch`. Throws Error if `bytes` are of another one.
  /// Not collective; the same bytes on every rank.
  void restore_ahead(const RequestBatch& batch, std::string_view bytes);
  /// Exchange 1: outcomes by request.
  const std::vector<Outcome>& outcomes();
  /// Exchange 2: trajectories go to all ranks of the learner unit `owner(request)`; returned there,
  /// by request.
  std::vector<Trajectory> for_learners(const std::function<int(std::int32_t request)>& owner);
  /// Exchange 3: the trajectories `wanted` (request, world rank) go to reflection ranks.
  std::vector<Trajectory> for_reflection(const std::vector<std::pair<std::int32_t, int>>& wanted);
  /// Trajectories of the last start() on rank 0, by request; elsewhere none.
  std::vector<Trajectory> for_history();
  /// Exact KL to the base and entropy of what was sampled, at temperature 1.
  Divergence divergence();
  /// Mean probability of the reference answers under `prompt`, teacher forced.
  double gold_probability(const std::vector<Problem>& problems, const std::string& prompt);
  /// Seconds the last start() took on this rank, verifying included.
  double seconds() const { return now_.seconds; }
  /// Exchange 5: the learner's weights become the policy everywhere.
  void adopt(PolicyVersion version);

 private:
  bool serves(std::int32_t problem) const;
  Sampled sample(const RequestBatch& batch, const Task& task);
  /// Whether this rank speaks for its unit, whose ranks all sample the same.
  bool reports() const { return context_->world.unit(Role::rollout).rank() == 0; }
  std::vector<Trajectory> deliver(const std::vector<std::pair<const Trajectory*, int>>& posts,
                                  std::string_view what);
  PassOptions pass_options() const;
  void score_base(std::vector<Trajectory>& trajectories);
  std::vector<Trajectory> on_first_rank(const std::vector<Trajectory>& mine, const char* what);

  RunContext* context_;
  Policy* policy_;
  std::unique_ptr<Generator> generator_;
  std::unique_ptr<GradientPass> scorer_;
  Sampled now_;
  std::optional<Sampled> ahead_;
};

/// A reflection to make: the parent's prompt and the rollouts that show what is wrong with it.
struct ReflectionTask {
  std::string prompt;
  std::vector<std::int32_t> requests;  // of the last start(), in the order they are shown
  std::uint64_t key = 0;
};
struct ReflectionReply {
  Reply reply;
  std::string evidence;  // what the model was shown

  void pack(Packer& packer) const;
  static ReflectionReply unpack(Unpacker& unpacker);
};

/// Rewrites prompts with the frozen reflection model.
class ReflectionRole {
 public:
  ReflectionRole(RunContext& context, const Task& task);
  /// Exchanges 3 and 4: evidence to the reflection units, replies to all, by task.
  std::vector<ReflectionReply> rewrite(RolloutRole& rollouts, const RequestBatch& batch,
                                       const std::vector<ReflectionTask>& tasks);
  std::int64_t prompt_length(std::string_view prompt) const;

 private:
  std::pair<GenerateRequest, std::string> question(const RequestBatch& batch,
                                                   const ReflectionTask& task,
                                                   const std::vector<Trajectory>& shown) const;

  RunContext* context_;
  ReflectionLayout layout_;
  std::unique_ptr<Tokenizer> tokenizer_;
  std::unique_ptr<Chat> chat_;
  std::unique_ptr<Generator> generator_;
  std::int64_t vocab_ = 0;
};

/// What a step is learnt from: the trajectories of this learner, by request; none on other ranks.
struct Received {
  std::vector<Trajectory> trajectories;
  double seconds_rollout = 0, seconds_exchange = 0;
};

struct LearnedStep {
  StepStats stats;
  std::vector<double> advantages;  // by request
  double seconds_rollout = 0, seconds_exchange = 0;
};

/// Moves the slow weights.
class LearnerRole {
 public:
  LearnerRole(RunContext& context, Policy& policy);
  /// Fetches the trajectories of the last start() from the rollout ranks, which are free then.
  Received receive(RolloutRole& rollouts, const RequestBatch& batch);
  /// One optimiser step on them. `batch` and `outcomes` are the same on every rank; `seed_prompt`
  /// is what the KL anchor puts in place of the evolved prompt. Other ranks wait at its end only.
  LearnedStep step(const Received& received, const RequestBatch& batch,
                   const std::vector<Outcome>& outcomes, const std::string& seed_prompt);
  Learner* learner() { return learner_.get(); }  // null on ranks that do not learn
  PolicyVersion version() const { return version_; }
  void set_version(PolicyVersion version) { version_ = version; }

 private:
  RunContext* context_;
  Policy* policy_;
  std::unique_ptr<Learner> learner_;
  PolicyVersion version_ = 0;
};

}  // namespace fst
