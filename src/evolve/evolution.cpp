#include "fst/evolve/evolution.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>
#include <utility>

#include "fst/base/error.h"
#include "fst/evolve/parent.h"
#include "fst/evolve/reply.h"

namespace fst {
namespace {

constexpr double unknown = std::numeric_limits<double>::quiet_NaN();

const char* name(EvolutionStage stage) {
  switch (stage) {
    case EvolutionStage::initial_scores:
      return "initial_scores";
    case EvolutionStage::between_rounds:
      return "between_rounds";
    case EvolutionStage::parent_scores:
      return "parent_scores";
    case EvolutionStage::replies:
      return "replies";
    case EvolutionStage::child_scores:
      return "child_scores";
    case EvolutionStage::accepted_scores:
      return "accepted_scores";
  }
  return "?";
}

/// A prompt of the previous population as it enters a new cycle: its scores become an old mean.
Candidate carried(const Candidate& previous, CandidateId& next_id) {
  Candidate candidate = previous;
  if (!candidate.anchor_scores.empty()) {
    candidate.carried_mean = mean_score(candidate.anchor_scores);
    candidate.anchor_scores.clear();
  }
  candidate.discovery_calls = 0;
  candidate.origin = candidate.id < 0 ? Origin::seed : Origin::carried;
  if (candidate.id < 0) candidate.id = next_id++;
  return candidate;
}

}  // namespace

ScoreMatrix score_matrix(std::span<const Candidate> pool) {
  ScoreMatrix scores;
  scores.reserve(pool.size());
  for (const Candidate& candidate : pool) scores.push_back(candidate.anchor_scores);
  return scores;
}

Evolution::Evolution(const EvolveOptions& options, const Phase& phase,
                     std::span<const Candidate> population)
    : options_(options) {
  check(options_);
  if (population.empty()) throw Error("Evolution: the population is empty");
  state_.phase = phase;
  if (state_.phase.minibatch_pool == 0) state_.phase.minibatch_pool = phase.anchors;
  std::set<std::string_view> seen;
  for (const Candidate& member : population) {
    if (seen.insert(member.text).second) {
      const bool scored =
          entering_.empty() || options_.rescore_carried != RescoreCarried::lead_only;
      auto& place = scored ? entering_ : state_.unscored;
      place.push_back(carried(member, state_.phase.next_id));
    }
  }
  state_.metric_cap = options_.max_metric_calls;
  if (options_.max_metric_calls == 0) {
    state_.pool = std::exchange(entering_, {});
    return;
  }
  if (phase.anchors < 1) throw Error("Evolution: there are no anchors");
  if (options_.cache_scores && state_.phase.minibatch_pool != phase.anchors) {
    throw InputError("evolve.cache_scores needs minibatches drawn from the anchors");
  }
  if (options_.rescore_carried == RescoreCarried::all_uncharged) {
    state_.metric_cap += static_cast<std::int64_t>(entering_.size() - 1) * phase.anchors;
  }
  request_anchor_scores();
}

Evolution::Evolution(const EvolveOptions& options, EvolutionState state)
    : options_(options), state_(std::move(state)) {
  check(options_);
  expect(EvolutionStage::between_rounds, "restart");
}

bool Evolution::more() const {
  expect(EvolutionStage::between_rounds, "more");
  return state_.metric_calls < state_.metric_cap &&
         (options_.max_rounds == 0 || state_.round < options_.max_rounds);
}

void Evolution::draw_round(const Choices& choices) {
  if (!more()) throw Error("draw_round: the budget is spent");
  const ScoreMatrix pool_scores = score_matrix(state_.pool);
  std::int64_t call = 0;
  for (int draw = 0; draw < options_.parents_per_round; ++draw) {
    const int parent = choose_parent(pool_scores, options_, choices);
    for (int child = 0; child < options_.proposals_per_parent; ++child) {
      Proposal proposal;
      proposal.round = state_.round;
      proposal.policy = state_.phase.policy;
      proposal.parent_index = parent;
      proposal.parent = state_.pool[static_cast<std::size_t>(parent)].id;
      proposal.minibatch = next_minibatch(state_.sampler, state_.phase.minibatch_pool,
                                          options_.minibatch, {state_.round, call++}, choices);
      const auto known = std::find_if(trials_.begin(), trials_.end(), [&](const Trial& trial) {
        return trial.candidate == proposal.parent && trial.problems == proposal.minibatch;
      });
      proposal.parent_trial = static_cast<std::size_t>(known - trials_.begin());
      if (known == trials_.end()) {
        trials_.push_back({proposal.parent, state_.pool[static_cast<std::size_t>(parent)].text,
                           proposal.minibatch});
      }
      state_.proposals.push_back(std::move(proposal));
    }
  }
  ++state_.round;
  state_.stage = EvolutionStage::parent_scores;
}

void Evolution::record_parent_scores(const ScoreMatrix& scores) {
  expect(EvolutionStage::parent_scores, "record_parent_scores");
  expect_shape(scores, "record_parent_scores");
  charge(scores);
  for (std::size_t i = 0; i < scores.size(); ++i) {
    remember(trials_[i].text, trials_[i].problems, scores[i]);
  }
  for (Proposal& proposal : current_round()) {
    proposal.parent_scores = scores[proposal.parent_trial];
    proposal.parent_sum = plain_sum(proposal.parent_scores);
    const bool perfect = std::all_of(proposal.parent_scores.begin(), proposal.parent_scores.end(),
                                     [&](double score) { return score >= options_.perfect_score; });
    if (options_.skip_perfect && perfect) proposal.outcome = ProposalOutcome::skipped_perfect;
  }
  trials_.clear();
  state_.stage = EvolutionStage::replies;
  if (awaiting_reply().empty()) request_child_scores();
}

std::vector<std::size_t> Evolution::awaiting_reply() const {
  std::vector<std::size_t> waiting;
  if (state_.stage != EvolutionStage::replies) return waiting;
  const auto proposals = round_proposals();
  for (std::size_t i = 0; i < proposals.size(); ++i) {
    if (proposals[i].outcome == ProposalOutcome::pending && proposals[i].child < 0) {
      waiting.push_back(i);
    }
  }
  return waiting;
}

void Evolution::record_replies(std::span<const Reply> replies, const PromptLength& length) {
  expect(EvolutionStage::replies, "record_replies");
  const std::vector<std::size_t> waiting = awaiting_reply();
  if (replies.size() != waiting.size()) {
    throw Error("record_replies: expected " + std::to_string(waiting.size()) + " replies, found " +
                std::to_string(replies.size()));
  }
  if (options_.max_prompt_tokens > 0 && !length) {
    throw Error("record_replies: a limit on prompt tokens needs a way to count them");
  }
  for (std::size_t i = 0; i < waiting.size(); ++i) {
    read_reply(current_round()[waiting[i]], replies[i], length);
  }
  if (awaiting_reply().empty()) request_child_scores();
}

void Evolution::read_reply(Proposal& proposal, const Reply& reply, const PromptLength& length) {
  if (reply.status == ReplyStatus::no_evidence) {
    proposal.outcome = ProposalOutcome::no_evidence;
    return;
  }
  ++proposal.reflection_calls;
  ++state_.reflection_calls;
  proposal.reply = reply.text;
  if (reply.status == ReplyStatus::failed) {
    const bool again = options_.retry_failed_reflection && proposal.reflection_calls == 1;
    if (!again) proposal.outcome = ProposalOutcome::no_proposal;
    return;
  }
  if (reply.status == ReplyStatus::unfinished) {
    proposal.outcome = ProposalOutcome::no_proposal;
    return;
  }
  proposal.text = parse_reply(reply.text);
  const auto known = [&](const Candidate& candidate) { return candidate.text == proposal.text; };
  if (proposal.text.empty()) {
    proposal.outcome = ProposalOutcome::unparsable;
  } else if (options_.max_prompt_tokens > 0 && length(proposal.text) > options_.max_prompt_tokens) {
    proposal.outcome = ProposalOutcome::too_long;
  } else if (options_.reject_known &&
             (std::any_of(state_.pool.begin(), state_.pool.end(), known) ||
              std::any_of(state_.unscored.begin(), state_.unscored.end(), known))) {
    proposal.outcome = ProposalOutcome::duplicate;
  } else {
    proposal.child = state_.phase.next_id++;
  }
}

void Evolution::request_child_scores() {
  for (const Proposal& proposal : round_proposals()) {
    if (proposal.child >= 0) trials_.push_back({proposal.child, proposal.text, proposal.minibatch});
  }
  state_.stage = EvolutionStage::child_scores;
}

void Evolution::record_child_scores(const ScoreMatrix& scores) {
  expect(EvolutionStage::child_scores, "record_child_scores");
  expect_shape(scores, "record_child_scores");
  charge(scores);
  std::size_t trial = 0;
  for (Proposal& proposal : current_round()) {
    if (proposal.child < 0) continue;
    proposal.child_scores = scores[trial++];
    proposal.child_sum = plain_sum(proposal.child_scores);
    remember(proposal.text, proposal.minibatch, proposal.child_scores);
  }
  trials_.clear();
  admit(children_to_keep(round_proposals(), options_));
  state_.stage = EvolutionStage::accepted_scores;
  request_anchor_scores();
}

void Evolution::admit(std::span<const std::size_t> kept) {
  const auto proposals = current_round();
  for (Proposal& proposal : proposals) {
    if (proposal.child >= 0) proposal.outcome = ProposalOutcome::rejected;
  }
  std::set<std::string_view> seen;
  for (const std::size_t place : kept) {
    Proposal& proposal = proposals[place];
    if (!seen.insert(proposal.text).second) {
      proposal.outcome = ProposalOutcome::duplicate;
      continue;
    }
    proposal.outcome = ProposalOutcome::accepted;
    Candidate child;
    child.id = proposal.child;
    child.text = proposal.text;
    child.parents = {proposal.parent};
    child.origin = Origin::mutation;
    child.cycle = state_.phase.cycle;
    child.round = proposal.round;
    entering_.push_back(std::move(child));
  }
}

void Evolution::request_anchor_scores() {
  for (Candidate& candidate : entering_) {
    const auto cached = state_.cached_scores.find(candidate.text);
    candidate.anchor_scores =
        cached != state_.cached_scores.end()
            ? cached->second
            : std::vector<double>(static_cast<std::size_t>(state_.phase.anchors), unknown);
    Trial trial{candidate.id, candidate.text, {}};
    for (std::size_t anchor = 0; anchor < candidate.anchor_scores.size(); ++anchor) {
      if (std::isnan(candidate.anchor_scores[anchor])) {
        trial.problems.push_back(static_cast<int>(anchor));
      }
    }
    trials_.push_back(std::move(trial));
  }
}

void Evolution::record_anchor_scores(const ScoreMatrix& scores) {
  if (state_.stage != EvolutionStage::initial_scores) {
    expect(EvolutionStage::accepted_scores, "record_anchor_scores");
  }
  expect_shape(scores, "record_anchor_scores");
  for (std::size_t i = 0; i < entering_.size(); ++i) {
    Candidate& candidate = entering_[i];
    candidate.discovery_calls = state_.metric_calls;
    candidate.scored_by = state_.phase.policy;
    for (std::size_t j = 0; j < scores[i].size(); ++j) {
      candidate.anchor_scores[static_cast<std::size_t>(trials_[i].problems[j])] = scores[i][j];
    }
    state_.metric_calls += static_cast<std::int64_t>(scores[i].size());
    ++state_.full_evaluations;
    remember(candidate.text, trials_[i].problems, scores[i]);
    state_.pool.push_back(std::move(candidate));
  }
  entering_.clear();
  trials_.clear();
  state_.stage = EvolutionStage::between_rounds;
}

std::vector<Candidate> Evolution::population() const {
  expect(EvolutionStage::between_rounds, "population");
  std::vector<Candidate> unscored = state_.unscored;
  const auto old_mean = [](const Candidate& candidate) {
    return std::isnan(candidate.carried_mean) ? mean_score({}) : candidate.carried_mean;
  };
  std::stable_sort(unscored.begin(), unscored.end(), [&](const Candidate& a, const Candidate& b) {
    return old_mean(a) > old_mean(b);
  });

  const ScoreMatrix scores = score_matrix(state_.pool);
  std::vector<int> ranked = ranking(scores);
  std::vector<double> means = mean_scores(scores);
  std::vector<Candidate> all = state_.pool;
  // Old means were measured under another policy: they order the unscored, and never lead.
  for (Candidate& candidate : unscored) {
    ranked.push_back(static_cast<int>(all.size()));
    means.push_back(mean_score({}));
    all.push_back(std::move(candidate));
  }
  std::vector<std::string> texts;
  for (const Candidate& candidate : all) texts.push_back(candidate.text);
  std::vector<Candidate> population;
  for (const int row : choose_population(ranked, texts, means, options_.prompts, options_.lead)) {
    population.push_back(all[static_cast<std::size_t>(row)]);
  }
  return population;
}

std::span<const Proposal> Evolution::round_proposals() const {
  const auto count = static_cast<std::size_t>(options_.parents_per_round) *
                     static_cast<std::size_t>(options_.proposals_per_parent);
  return std::span(state_.proposals).last(std::min(count, state_.proposals.size()));
}

std::span<Proposal> Evolution::current_round() {
  const auto count = round_proposals().size();
  return std::span(state_.proposals).last(count);
}

void Evolution::charge(const ScoreMatrix& scores) {
  for (const auto& row : scores) state_.metric_calls += static_cast<std::int64_t>(row.size());
}

void Evolution::remember(std::string_view text, std::span<const int> problems,
                         std::span<const double> scores) {
  if (!options_.cache_scores) return;
  auto& row =
      state_.cached_scores
          .try_emplace(std::string(text), static_cast<std::size_t>(state_.phase.anchors), unknown)
          .first->second;
  for (std::size_t i = 0; i < problems.size(); ++i) {
    row[static_cast<std::size_t>(problems[i])] = scores[i];
  }
}

void Evolution::expect(EvolutionStage stage, const char* call) const {
  if (state_.stage == stage) return;
  throw Error(std::string("Evolution: ") + call + " belongs to stage " + name(stage) + ", not to " +
              name(state_.stage));
}

void Evolution::expect_shape(const ScoreMatrix& scores, const char* call) const {
  bool fits = scores.size() == trials_.size();
  for (std::size_t i = 0; fits && i < scores.size(); ++i) {
    fits = scores[i].size() == trials_[i].problems.size() &&
           std::none_of(scores[i].begin(), scores[i].end(), [](double s) { return std::isnan(s); });
  }
  if (!fits) {
    throw Error(std::string("Evolution: ") + call + " needs a score for every problem of " +
                std::to_string(trials_.size()) + " trials, found " + std::to_string(scores.size()) +
                " rows or some of another length or not a number");
  }
}

}  // namespace fst
