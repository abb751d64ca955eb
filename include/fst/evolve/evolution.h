#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "fst/evolve/candidate.h"
#include "fst/evolve/choices.h"
#include "fst/evolve/frontier.h"
#include "fst/evolve/minibatch.h"

namespace fst {

enum class Acceptance { strict, or_equal };
enum class ParentSelector { pareto, current_best, epsilon_greedy, top_k_pareto };
/// Which of a round's children that pass the gate are kept.
enum class ChildSelection { all, best, top_k };
/// Who of the previous population is scored on the new anchors, and who pays.
enum class RescoreCarried {
  all_uncharged,  ///< all; only the lead counts against the budget
  all_charged,    ///< all count
  lead_only,      ///< the lead alone; the others stay out of the fronts and fill up the population
};

/// How prompts evolve. The defaults are the reference's with one proposal per round, except
/// `reject_known`.
struct EvolveOptions {
  int prompts = 4;    ///< K, size of the population
  int minibatch = 3;  ///< problems on which a parent and its child are compared
  /// Budget of a cycle in rollouts, tested before each round only. 0: no evolution and no scoring.
  std::int64_t max_metric_calls = 240;
  std::int64_t max_rounds = 0;  ///< per cycle; 0: no limit
  Acceptance acceptance = Acceptance::strict;
  bool skip_perfect = true;  ///< no reflection where the parent has nothing to learn
  double perfect_score = 1.0;
  bool reject_known = true;  ///< a reply equal to a candidate of the pool is no proposal
  ParentSelector selector = ParentSelector::pareto;
  double epsilon = 0.1;    ///< epsilon_greedy
  int selector_top_k = 5;  ///< top_k_pareto
  int parents_per_round = 1;
  int proposals_per_parent = 1;  ///< minibatches for each drawn parent
  ChildSelection selection = ChildSelection::all;
  int selection_top_k = 2;
  RescoreCarried rescore_carried = RescoreCarried::all_uncharged;
  LeadRule lead = LeadRule::among_chosen;
  /// Ask once more when the reflection call failed (the reference does). Off: our reflection model
  /// is deterministic per key. When on, the attempt belongs into the key.
  bool retry_failed_reflection = false;
  /// Full evaluations take scores that minibatches of this cycle already paid for. Off: a reused
  /// score freezes sampling noise.
  bool cache_scores = false;
  std::int64_t max_prompt_tokens = 0;  ///< longer children are refused; 0: no limit
};

/// What one cycle's evolution works on.
struct Phase {
  std::int64_t cycle = 0;
  std::int64_t anchors = 0;
  /// Ids minibatches are drawn from. 0: the anchors themselves.
  std::int64_t minibatch_pool = 0;
  PolicyVersion policy = 0;
  CandidateId next_id = 0;  ///< first id for new candidates
};

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

/// One cycle's evolution of prompts by reflection (GEPA), as a state machine: it names the rollouts
/// it wants, the caller makes them. Holds no communication and no clock; every rank calls the same
/// functions with the same values and gets the same pool.
///
///     Evolution evolution(options, phase, population);
///     evolution.record_anchor_scores(scores_of(evolution.trials()));
///     while (evolution.more()) {
///       evolution.draw_round(keyed_choices(seed, cycle, evolution.state().round));
///       evolution.record_parent_scores(scores_of(evolution.trials()));
///       while (!evolution.awaiting_reply().empty())
///         evolution.record_replies(reflect(evolution.awaiting_reply()), length);
///       evolution.record_child_scores(scores_of(evolution.trials()));
///       evolution.record_anchor_scores(scores_of(evolution.trials()));
///     }
///     population = evolution.population();
///
/// Scores are given in the order of trials() and of their problems; without trials, none. A call
/// out of order, or scores of another shape, throw Error. Source: Agrawal et al. 2025 (GEPA);
/// population seeding and top K after Tiwari et al. 2026, arXiv:2605.12484.
class Evolution {
 public:
  /// `population` is the previous one, lead first (repeated texts count once), or the seed; at a
  /// change of task the seed prompt follows it. Candidates with id -1 are new and get one.
  Evolution(const EvolveOptions& options, const Phase& phase,
            std::span<const Candidate> population);
  /// Goes on from a state saved between two rounds.
  Evolution(const EvolveOptions& options, EvolutionState state);

  const EvolutionState& state() const { return state_; }
  /// What must be rolled out now. Anchors for the stages initial_scores and accepted_scores,
  /// minibatches for parent_scores and child_scores; else empty.
  const std::vector<Trial>& trials() const { return trials_; }
  /// Whether another round begins. Only between rounds.
  bool more() const;
  /// Draws parents and minibatches. A (parent, minibatch) pair drawn twice is tried once.
  void draw_round(const Choices& choices);
  void record_parent_scores(const ScoreMatrix& scores);
  /// Places in round_proposals() that wait for the reflection model.
  std::vector<std::size_t> awaiting_reply() const;
  /// One reply for each entry of awaiting_reply(). Without `length` prompts are not measured.
  void record_replies(std::span<const Reply> replies, const PromptLength& length);
  void record_child_scores(const ScoreMatrix& scores);
  /// Scores on all anchors: at the beginning, and of the accepted children.
  void record_anchor_scores(const ScoreMatrix& scores);
  /// Proposals of the round under way, or of the last one.
  std::span<const Proposal> round_proposals() const;
  /// First id that is still free.
  CandidateId next_id() const { return state_.phase.next_id; }
  /// The K prompts to train and to carry on with, lead first. Only between rounds.
  std::vector<Candidate> population() const;

 private:
  void expect(EvolutionStage stage, const char* call) const;
  void expect_shape(const ScoreMatrix& scores, const char* call) const;
  std::vector<int> parent_list(const Choices& choices) const;
  int draw_parent(const Choices& choices) const;
  void charge(const ScoreMatrix& scores);
  void remember(std::string_view text, std::span<const int> problems,
                std::span<const double> scores);
  void request_anchor_scores();
  void request_child_scores();
  void read_reply(Proposal& proposal, const Reply& reply, const PromptLength& length);
  std::vector<std::size_t> passing_children() const;
  void admit(std::span<const std::size_t> passing);
  std::span<Proposal> round_proposals();

  EvolveOptions options_;
  EvolutionState state_;
  std::vector<Trial> trials_;
  std::vector<Candidate> entering_;  ///< being scored on the anchors
};

/// Pool scores as a matrix. Every candidate of the pool is scored.
ScoreMatrix score_matrix(std::span<const Candidate> pool);

}  // namespace fst
