#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "fst/evolve/candidate.h"
#include "fst/evolve/minibatch.h"
#include "fst/evolve/proposal.h"

namespace fst {

/// What one cycle's evolution works on.
struct Phase {
  std::int64_t cycle = 0;
  std::int64_t anchors = 0;
  /// Ids minibatches are drawn from. 0: the anchors themselves.
  std::int64_t minibatch_pool = 0;
  PolicyVersion policy = 0;
  CandidateId next_id = 0;  ///< first id for new candidates
};

/// Where a cycle's evolution stands; names what must be recorded next.
enum class EvolutionStage : std::uint8_t {
  initial_scores,
  between_rounds,
  parent_scores,
  replies,
  child_scores,
  accepted_scores,
};

/// All that a restart between two rounds needs. Fronts follow from the pool.
struct EvolutionState {
  Phase phase;
  EvolutionStage stage = EvolutionStage::initial_scores;
  std::vector<Candidate> pool;      ///< scored, in order of entry
  std::vector<Candidate> unscored;  ///< carried prompts left unscored by lead_only
  MinibatchSampler sampler;
  std::int64_t round = 0;         ///< rounds begun
  std::int64_t metric_calls = 0;  ///< all rollouts of the phase, uncharged ones included
  std::int64_t metric_cap = 0;    ///< no round begins from here on
  std::int64_t full_evaluations = 0;
  std::int64_t reflection_calls = 0;
  std::vector<Proposal> proposals;                           ///< of all rounds
  std::map<std::string, std::vector<double>> cached_scores;  ///< by text, [anchors], NaN: none
};

/// The state as bytes (CBOR: exact for doubles and for text that is not UTF-8). Throws Error unless
/// the stage is between_rounds.
std::string to_bytes(const EvolutionState& state);
/// Throws Error if the bytes are damaged or of another format version.
EvolutionState evolution_state_from_bytes(std::string_view bytes);
/// A hash of the whole state at any stage, for comparing ranks.
std::uint64_t fingerprint(const EvolutionState& state);

}  // namespace fst
