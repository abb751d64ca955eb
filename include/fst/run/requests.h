#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "fst/base/random.h"
#include "fst/evolve/evolution.h"
#include "fst/run/config.h"
#include "fst/run/evaluation.h"
#include "fst/run/schedule.h"
#include "fst/task/task.h"

// The draws of a run: functions of the deck and of where the run stands, the same on every rank.
// Keys are made of what a draw means, never of who makes it, so that no two draws of a run share
// random numbers. `vocab` is that of the sampling law.

namespace fst {

/// Step `step` of `cycle`: train.problems_per_step problems of the stage's stream, each with
/// train.group_size draws, equally many under each of `prompts`.
RequestBatch training_requests(const RunConfig& config, const Task& task, const Cycle& cycle,
                               std::int64_t step, const std::vector<std::string>& prompts,
                               std::int64_t vocab);
/// True where the stage scores on a minibatch, false where on the anchors.
bool scores_minibatch(EvolutionStage stage);
/// What an evolution wants to be rolled out now: one draw for each entry of each trial, in order.
/// Entries are places in `anchors`.
RequestBatch scoring_requests(const RunConfig& config, const EvolutionState& state,
                              const std::vector<Trial>& trials, const std::vector<Problem>& anchors,
                              std::int64_t vocab);
/// The reflection for place `proposal` of the round, asked again where `proposal_calls` > 0.
std::uint64_t reflection_key(const RunConfig& config, const EvolutionState& state,
                             std::size_t proposal, int proposal_calls);
/// `samples` draws of each of the plan's problems under each of `prompts`. The law is the caller's.
RequestBatch evaluation_requests(const RunConfig& config, const EvaluationPlan& plan,
                                 const std::vector<std::string>& prompts, std::int64_t samples,
                                 Purpose purpose);

}  // namespace fst
