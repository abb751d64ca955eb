#pragma once

#include <span>
#include <string_view>
#include <vector>

#include "fst/evolve/choices.h"
#include "fst/evolve/evolution_state.h"
#include "fst/evolve/frontier.h"

namespace fst {

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
  void charge(const ScoreMatrix& scores);
  void remember(std::string_view text, std::span<const int> problems,
                std::span<const double> scores);
  void request_anchor_scores();
  void request_child_scores();
  void read_reply(Proposal& proposal, const Reply& reply, const PromptLength& length);
  void admit(std::span<const std::size_t> kept);
  std::span<Proposal> current_round();

  EvolveOptions options_;
  EvolutionState state_;
  std::vector<Trial> trials_;
  std::vector<Candidate> entering_;  ///< being scored on the anchors
};

/// Pool scores as a matrix. Every candidate of the pool is scored.
ScoreMatrix score_matrix(std::span<const Candidate> pool);

}  // namespace fst
