#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "fst/base/clock.h"
#include "fst/run/config.h"
#include "fst/run/continuation.h"
#include "fst/run/recorder.h"
#include "fst/run/roles.h"
#include "fst/run/run_folder.h"
#include "fst/run/schedule.h"
#include "fst/run/signals.h"

namespace fst {

/// Where a run stands between two of its safe points: everything that is replicated on all ranks.
/// Weights and moments are the learners'; random numbers need no entry, they are functions of these
/// counters.
struct RunState {
  bool begun = false;               // the evaluation of the starting weights is recorded
  std::int64_t step = 0;            // optimiser steps done (GEPA alone: cycles x steps_per_cycle)
  std::int64_t evolved_cycle = -1;  // the last cycle whose fast phase is over
  std::int64_t final_phase_step = -1;  // step whose closing fast phase is done (rl_gepa)
  std::vector<Candidate> population;   // Φ, lead first; empty before the first fast phase
  CandidateId next_candidate = 0;
  std::int64_t rollouts_slow = 0, rollouts_fast = 0, rollouts_eval = 0;
  std::int64_t recorded_bytes = 0;  // of rollout rows, against run.rollout_rows_mib

  std::string to_bytes() const;
  static RunState from_bytes(std::string_view bytes);
  std::uint64_t fingerprint() const;
};

enum class RunOutcome : std::uint8_t { finished, stopped_early };

/// Fast-slow training. Every rank holds one and calls the same methods in the same order.
class Run {
 public:
  /// Makes the roles and takes up the run where it stands. Throws InputError, before any work, for
  /// a run folder that holds a run (without resume), a checkpoint of another deck or base, and
  /// models that do not fit. Collective over all ranks.
  Run(World& world, const RunConfig& config, const Resume& resume);
  RunOutcome execute();

 private:
  // run.cpp: the algorithm.
  bool evolve(const Cycle& cycle);
  bool train(const Cycle& cycle);

  // steps.cpp: what the algorithm's sentences mean.
  void enter_stage(const Cycle& cycle);
  void read_population();
  Evolution begin_evolution(const Cycle& cycle);
  ScoreMatrix score(const Evolution& evolution, const Cycle& cycle);
  void reflect(Evolution& evolution);
  void adopt_population(const Evolution& evolution, const Cycle& cycle);
  RequestBatch training_batch(const Cycle& cycle, std::int64_t step) const;
  void record_rollouts(const RequestBatch& batch, const std::vector<CandidateId>& candidates,
                       const char* phase, const Cycle& cycle);
  void evaluate();
  /// Φ as texts; {seed} where the method has none or it is not there yet.
  std::vector<std::string> prompts() const;
  std::vector<CandidateId> prompt_ids() const;
  void record_step(const RequestBatch& batch, const LearnedStep& learned, const Cycle& cycle);
  bool stop_requested();
  /// What is left after the last step: a closing fast phase where the method has one, and a
  /// checkpoint. False if it was stopped.
  bool finish();
  std::uint64_t run_seed() const { return static_cast<std::uint64_t>(config_.run.seed); }

  // checkpointing.cpp
  void begin();
  void start_afresh();
  void resume_from(const CheckpointReader& reader);
  std::vector<std::int64_t> model_identities();
  std::map<std::string, std::string> texts_to_save(const Evolution* evolution);
  void save(const Evolution* evolution);

  World& world_;
  const RunConfig& config_;
  MethodTraits traits_;
  StopSignals signals_;  // before the models, which take long to load
  Stopwatch started_;
  RunFolder folder_;
  RunContext context_;
  InputSums inputs_;  // by which a checkpoint knows its run's files
  Policy policy_;
  std::int64_t stage_ = -1;
  std::string variant_;
  std::optional<Task> task_;
  RolloutRole rollouts_;
  std::optional<ReflectionRole> reflection_;
  LearnerRole learner_;
  RunState state_;
  std::vector<Problem> anchors_;               // of the cycle under way
  RequestBatch last_batch_;                    // of the last scoring: evidence is taken from it
  std::vector<std::string> round_evidence_;    // shown to the reflection model, by proposal
  std::optional<EvolutionState> interrupted_;  // a fast phase to go on with
  Recorder recorder_;
  std::int64_t saved_step_ = -1;
};

}  // namespace fst
