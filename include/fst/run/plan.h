#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "fst/comm/world.h"
#include "fst/model/model_products.h"
#include "fst/run/arguments.h"
#include "fst/run/config.h"
#include "fst/run/model_source.h"
#include "fst/tensor/arena.h"

// What a deck asks of ranks and memory, before anything is allocated.

namespace fst {

/// What the deck says about ranks; degrees of roles that the method does not use are 1.
RankPlan plan_of(const RunConfig& config);
/// The fewest ranks the plan can run on: those it names, or, colocated, one unit of the largest
/// degree.
int fewest_ranks(const RankPlan& plan);

/// Why the plan cannot run on `ranks` ranks, one sentence each; empty if it can. Beside problems_of
/// the plan: more replicas of the policy than the gradient has leaves.
std::vector<std::string> plan_problems(const RunConfig& config, int ranks);

/// The models of a run, as far as their small files tell.
struct PlanModels {
  ModelSource policy, base, reflection;
  /// Of model.policy, model.base and model.reflection.
  static PlanModels open(const RunConfig& config);
};
/// Why the models cannot be shared as the plan says, each with its key; empty if they can.
std::vector<std::string> model_problems(const RunConfig& config, const PlanModels& models);
/// Why the models have too few positions for what they shall sample, each with its key; empty if
/// that is not known before. `prompt_tokens`: of the first prompt.
std::vector<std::string> length_problems(const RunConfig& config, const PlanModels& models,
                                         std::int64_t prompt_tokens);

/// One line of the plan.
struct MemoryPart {
  std::string what;
  std::int64_t bytes = 0;
  MemoryPhase phase = MemoryPhase::always;
};
/// Which roles a kind of rank has work in.
struct RankRoles {
  bool rollout = false, reflection = false, learner = false;
};
/// What CUDA and NCCL will take of a GPU beside the plan: estimates, in bytes. plan_beside.cpp says
/// where they are from.
struct BesideMemory {
  std::int64_t cuda = 0, nccl = 0;
};
/// Of a rank of a job of `ranks`. Nothing on the CPU. NCCL's depends on the ranks that this one is
/// connected to and on the environment variable NCCL_MAX_P2P_NCHANNELS.
BesideMemory beside_memory(const RunConfig& config, const RankRoles& roles, int ranks);
/// What a rank of one kind will hold, all of its shard: weights, packed weights, moments and tables
/// stay; keys and values of rollouts and reflections, and gradients and activations, are of phases.
/// On a GPU the phases take turns with the same bytes (tensor/arena.h) and this is what is taken
/// when the job starts; on the CPU it is an estimate. Formulas of each part: plan_memory.cpp and
/// the classes whose memory it is.
struct RankMemory {
  std::string rank;  // "rollout rank", ...
  bool turns = false;
  std::vector<MemoryPart> parts;
  std::int64_t kernels = 0;        // of `parts`: what the kernels work in
  std::int64_t unit_elements = 0;  // of the largest sum over the ranks of a unit
  BesideMemory beside;

  PhaseBytes by_phase() const;
  std::int64_t total() const;
};
/// One entry for each kind of rank, of `ranks` in all. `prompt_tokens`: of a typical prompt.
std::vector<RankMemory> memory_plan(const RunConfig& config, const PlanModels& models, int ranks,
                                    std::int64_t prompt_tokens);
/// The tokens of the longest sequence that is planned for: the first training prompt and
/// rollout.max_new_tokens.
std::int64_t planned_length(const RunConfig& config, std::int64_t prompt_tokens);
/// That of this rank.
RankMemory memory_of_rank(const World& world, const RunConfig& config, const PlanModels& models,
                          std::int64_t prompt_tokens);
/// What this rank will multiply in bf16, with sequences as long as planned_length(): the models of
/// its roles, each with the rows that its passes can have.
std::vector<PlannedProduct> job_products(const World& world, const RunConfig& config,
                                         const PlanModels& models, std::int64_t prompt_tokens);
/// Whether the deck's ranks have GPUs, here or where this machine has none.
bool plans_for_gpu(const RunConfig& config);
/// Bytes that a rank may take: engine.memory_mib, or what this machine has, or with device cuda its
/// GPU, or an H100 of 80 GB where there is none; memory_owner() says which of the three.
std::int64_t memory_limit(const RunConfig& config);
std::string memory_owner(const RunConfig& config);
/// One sentence for each kind of rank that needs more than memory_limit(), of which what others
/// take beside the plan is left to them unless engine.memory_mib says what the plan may have.
std::vector<std::string> memory_problems(const RunConfig& config,
                                         const std::vector<RankMemory>& memory);

/// For verbs with --tp: splits the job into units of that many ranks, world.unit(Role::rollout),
/// each of which holds the model; world.across(Role::rollout) joins their ranks of one place.
/// Throws InputError if the ranks or the model cannot be so divided. Collective over all ranks.
void split_into_units(World& world, const Arguments& arguments, const ModelSource& model);

/// "12.3 MiB"; from 10 GiB on in GiB.
std::string bytes_text(std::int64_t bytes);
/// Throws InputError with all `problems`, if there are any.
void refuse_all(const std::vector<std::string>& problems);

}  // namespace fst
