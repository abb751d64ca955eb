#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "fst/evolve/candidate.h"
#include "fst/evolve/options.h"

namespace fst {

/// A candidate to roll out on problems, once for each entry: an id that occurs twice counts twice.
struct Trial {
  CandidateId candidate = -1;
  std::string text;
  std::vector<int> problems;  ///< anchors, or ids of the minibatch pool
};

enum class ProposalOutcome : std::uint8_t {
  pending = 0,
  accepted = 1,
  rejected = 2,         ///< failed the gate, or others of the round were preferred
  skipped_perfect = 3,  ///< the parent made no mistake
  no_evidence = 4,      ///< no record could be made of the parent's rollouts
  no_proposal = 5,      ///< the reflection failed or did not end
  unparsable = 6,       ///< nothing left of the reply
  duplicate = 7,        ///< equals a known candidate, or a child accepted in the same round
  too_long = 8,
};

/// A proposal with all that led to it, for the history.
struct Proposal {
  std::int64_t round = 0;
  CandidateId parent = -1;
  int parent_index = -1;         ///< in the pool
  std::size_t parent_trial = 0;  ///< among the round's parent trials
  CandidateId child = -1;        ///< -1: no child was tried
  PolicyVersion policy = 0;
  std::vector<int> minibatch;
  std::vector<double> parent_scores, child_scores;
  double parent_sum = 0, child_sum = 0;
  std::string reply;  ///< of the reflection model, as given
  std::string text;   ///< proposed prompt, as parsed
  int reflection_calls = 0;
  ProposalOutcome outcome = ProposalOutcome::pending;
};

enum class ReplyStatus : std::uint8_t {
  complete,
  unfinished,   ///< ended at the token limit
  failed,       ///< no reply
  no_evidence,  ///< the model was not asked, since there is nothing to show it
};
struct Reply {
  ReplyStatus status = ReplyStatus::complete;
  std::string text;
};
/// Length of a prompt in tokens.
using PromptLength = std::function<std::int64_t(std::string_view)>;

/// The children of one round that pass the gate and are kept by `options.selection`, as places in
/// `proposals`, in the order in which they enter the pool: as drawn, or by falling gain
/// (child_sum - parent_sum, ties: as drawn) for best and top_k.
std::vector<std::size_t> children_to_keep(std::span<const Proposal> proposals,
                                          const EvolveOptions& options);

}  // namespace fst
