#include "fst/evolve/evolution_state.h"

#include <exception>
#include <nlohmann/json.hpp>

#include "fst/base/error.h"
#include "fst/base/random.h"

namespace fst {

// Field names are part of the format: a renamed or new field needs a new version.
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(Phase, cycle, anchors, minibatch_pool, policy, next_id)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(Candidate, id, text, parents, origin, cycle, round,
                                   anchor_scores, scored_by, carried_mean, discovery_calls)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(Proposal, round, parent, parent_index, parent_trial, child,
                                   policy, minibatch, parent_scores, child_scores, parent_sum,
                                   child_sum, reply, text, reflection_calls, outcome)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(MinibatchSampler, order, epoch, pool)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(EvolutionState, phase, stage, pool, unscored, sampler, round,
                                   metric_calls, metric_cap, full_evaluations, reflection_calls,
                                   proposals, cached_scores)

namespace {

constexpr int format_version = 1;

std::string encode(const EvolutionState& state) {
  const nlohmann::json json{{"version", format_version}, {"state", state}};
  std::string bytes;
  nlohmann::json::to_cbor(json, bytes);
  return bytes;
}

}  // namespace

std::string to_bytes(const EvolutionState& state) {
  if (state.stage != EvolutionStage::between_rounds) {
    throw Error("evolution state: it can be saved between two rounds only");
  }
  return encode(state);
}

EvolutionState evolution_state_from_bytes(std::string_view bytes) {
  try {
    const auto json = nlohmann::json::from_cbor(bytes);
    const int version = json.at("version").get<int>();
    if (version != format_version) {
      throw Error("evolution state: expected format version " + std::to_string(format_version) +
                  ", found " + std::to_string(version));
    }
    return json.at("state").get<EvolutionState>();
  } catch (const nlohmann::json::exception& error) {
    throw Error(std::string("evolution state: damaged bytes: ") + error.what());
  }
}

std::uint64_t fingerprint(const EvolutionState& state) {
  return hash_text(encode(state));
}

}  // namespace fst
