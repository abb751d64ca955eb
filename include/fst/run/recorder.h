#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "fst/base/clock.h"
#include "fst/evolve/evolution.h"
#include "fst/run/roles.h"
#include "fst/run/schedule.h"
#include "fst/store/history.h"
#include "fst/store/metrics_log.h"

namespace fst {

struct RunState;

/// One row of an evaluation, as recorded and reported.
struct EvaluationRow {
  std::int64_t step = 0;
  std::int64_t cycle = -1;
  std::string split, prompt;  // prompt: seed, lead or population
  double accuracy = 0, best_at_k = 0, kl_base = 0, entropy = 0, collapse_share = 0;
  double gold_probability = 0;
  std::int64_t samples = 0, problems = 0;
  std::vector<float> per_problem;
  std::int64_t rollouts_slow = 0, rollouts_fast = 0;
  double seconds = 0;
};

/// Share of the most frequent answer among those that are some answer at all (class >= 0), of all
/// answers given: near 1, the policy has collapsed onto one rule.
double collapse_share(const std::vector<Outcome>& outcomes);

/// Writes what happens: rows to history.h5, the same scalars to metrics.jsonl, one line each to the
/// screen. Every rank holds one and calls it alike; only rank 0's does anything. Not collective.
class Recorder {
 public:
  Recorder(const World& world, const RunConfig& config);

  /// Opens the run folder's files: cut back to `rows` and `lines` (a resumed run), or anew.
  void open(const RowCounts* rows, std::int64_t lines);
  /// The attempt that begins now; resumed_step -1: from the start.
  void attempt(std::int64_t resumed_step, const Device& device);

  void round(const Evolution& evolution, const std::vector<std::string>& evidence);
  void population(const Evolution& evolution, const RunState& state);
  void step(const RunState& state, const Cycle& cycle, const std::string& variant,
            const RequestBatch& batch, const std::vector<Outcome>& outcomes,
            const LearnedStep& learned);
  void rollouts(std::int64_t step, const Cycle& cycle, const char* phase, const RequestBatch& batch,
                const std::vector<CandidateId>& candidates,
                const std::vector<Trajectory>& trajectories);
  void evaluation(const EvaluationRow& row);

  /// Moves all rows into history.h5. Before a checkpoint.
  void seal();
  RowCounts row_counts() const;
  std::int64_t lines() const;

 private:
  void keep_attempts(const std::filesystem::path& folder, const FileIdentity& identity);
  void proposals(const Evolution& evolution, const std::vector<std::string>& evidence);
  bool speaks_;
  const RunConfig* config_;
  const World* world_;
  std::optional<History> history_;
  std::optional<MetricsLog> metrics_;
  Stopwatch watch_, run_watch_;
  std::int64_t steps_seen_ = 0;  // of this attempt, for the time left
};

}  // namespace fst
