#include "fst/evolve/evolution.h"

#include <cmath>
#include <optional>

#include <gtest/gtest.h>

#include "fst/base/error.h"

#include "python_random.h"

namespace fst {
namespace {

std::vector<Candidate> prompts(const std::vector<std::string>& texts, CandidateId first_id = -1) {
  std::vector<Candidate> population;
  for (const std::string& text : texts) {
    Candidate candidate;
    candidate.id = first_id < 0 ? -1 : first_id++;
    candidate.text = text;
    population.push_back(candidate);
  }
  return population;
}

Phase phase_with(std::int64_t anchors, CandidateId next_id = 0) {
  Phase phase;
  phase.anchors = anchors;
  phase.next_id = next_id;
  phase.policy = 11;
  return phase;
}

ScoreMatrix constant(const std::vector<Trial>& trials, double score) {
  ScoreMatrix scores;
  for (const Trial& trial : trials) scores.emplace_back(trial.problems.size(), score);
  return scores;
}

Reply said(const std::string& text) {
  return {ReplyStatus::complete, text};
}

/// One round in which the parent scores `parent` on everything and each child `child`.
void play_round(Evolution& evolution, const std::vector<Reply>& replies, double parent = 0,
                double child = 1, const PromptLength& length = {}) {
  evolution.draw_round(keyed_choices(1, 0, evolution.state().round));
  evolution.record_parent_scores(constant(evolution.trials(), parent));
  if (!evolution.awaiting_reply().empty()) evolution.record_replies(replies, length);
  evolution.record_child_scores(constant(evolution.trials(), child));
  evolution.record_anchor_scores(constant(evolution.trials(), child));
}

Evolution started(const EvolveOptions& options, std::int64_t anchors = 5) {
  Evolution evolution(options, phase_with(anchors), prompts({"seed"}));
  evolution.record_anchor_scores(constant(evolution.trials(), 0));
  return evolution;
}

TEST(Evolution, FollowsTheWorkedRunOfTheReference) {
  // fst_spec.md 4.13: six instances, cap 60, texts s1, s2, ... in order, score = bit.
  const std::vector<std::string> bits{"000000", "100000", "011000", "110000",
                                      "000110", "110010", "111011"};
  const auto score = [&](const std::vector<Trial>& trials) {
    ScoreMatrix scores;
    for (const Trial& trial : trials) {
      auto& row = scores.emplace_back();
      for (const int problem : trial.problems) {
        const auto& of_text = bits.at(static_cast<std::size_t>(trial.text.at(1) - '0'));
        row.push_back(of_text.at(static_cast<std::size_t>(problem)) - '0');
      }
    }
    return scores;
  };
  EvolveOptions options;
  options.max_metric_calls = 60;
  test::PythonRandom random(0);
  Evolution evolution(options, phase_with(6), prompts({"s0"}));
  evolution.record_anchor_scores(score(evolution.trials()));
  for (int text = 1; evolution.more(); ++text) {
    evolution.draw_round(random.choices());
    evolution.record_parent_scores(score(evolution.trials()));
    evolution.record_replies({{said("s" + std::to_string(text))}}, {});
    evolution.record_child_scores(score(evolution.trials()));
    evolution.record_anchor_scores(score(evolution.trials()));
  }
  std::vector<std::string> pool;
  std::vector<std::int64_t> discovered;
  for (const Candidate& candidate : evolution.state().pool) {
    pool.push_back(candidate.text);
    discovered.push_back(candidate.discovery_calls);
  }
  EXPECT_EQ(pool, (std::vector<std::string>{"s0", "s2", "s3", "s6"}));
  EXPECT_EQ(discovered, (std::vector<std::int64_t>{0, 18, 30, 54}));
  EXPECT_EQ(evolution.state().metric_calls, 60);
  EXPECT_EQ(evolution.state().proposals.at(2).minibatch, (std::vector<int>{5, 0, 4}));
  EXPECT_EQ(evolution.population().front().text, "s6");
}

TEST(Evolution, KeepsEverythingAboutAProposal) {
  Evolution evolution = started({});
  play_round(evolution, {said("Edited:\n```\nbetter\n```")});
  const Proposal& proposal = evolution.state().proposals.at(0);
  EXPECT_EQ(proposal.outcome, ProposalOutcome::accepted);
  EXPECT_EQ(proposal.reply, "Edited:\n```\nbetter\n```");
  EXPECT_EQ(proposal.text, "better");
  EXPECT_EQ(proposal.parent, 0);
  EXPECT_EQ(proposal.child, 1);
  EXPECT_EQ(proposal.policy, 11);
  EXPECT_EQ(proposal.parent_scores, (std::vector<double>{0, 0, 0}));
  EXPECT_EQ(proposal.child_sum, 3.0);
  const Candidate& child = evolution.state().pool.at(1);
  EXPECT_EQ(child.parents, (std::vector<CandidateId>{0}));
  EXPECT_EQ(child.origin, Origin::mutation);
  EXPECT_EQ(child.scored_by, 11);
  EXPECT_EQ(child.anchor_scores, (std::vector<double>{1, 1, 1, 1, 1}));
}

TEST(Evolution, GateIsStrictUnlessEqualIsAsked) {
  EvolveOptions options;
  Evolution strict = started(options);
  play_round(strict, {said("sideways")}, 0.25, 0.25);
  EXPECT_EQ(strict.state().proposals.at(0).outcome, ProposalOutcome::rejected);
  options.acceptance = Acceptance::or_equal;
  Evolution lenient = started(options);
  play_round(lenient, {said("sideways")}, 0.25, 0.25);
  EXPECT_EQ(lenient.state().proposals.at(0).outcome, ProposalOutcome::accepted);
}

TEST(Evolution, APerfectParentIsNotReflectedUpon) {
  Evolution evolution = started({});
  play_round(evolution, {}, 1.0);
  EXPECT_EQ(evolution.state().proposals.at(0).outcome, ProposalOutcome::skipped_perfect);
  EXPECT_EQ(evolution.state().metric_calls, 5 + 3);
  EXPECT_EQ(evolution.state().reflection_calls, 0);
}

/// The outcome of one reply in the first round.
ProposalOutcome outcome_of(const Reply& reply, EvolveOptions options = {}) {
  Evolution evolution = started(options);
  play_round(evolution, {reply}, 0, 1,
             [](std::string_view text) { return static_cast<std::int64_t>(text.size()); });
  EXPECT_EQ(evolution.state().stage, EvolutionStage::between_rounds);
  return evolution.state().proposals.at(0).outcome;
}

TEST(Evolution, RepliesOfNoUseAreCountedAndCostNoChild) {
  EvolveOptions options;
  options.max_prompt_tokens = 6;
  EXPECT_EQ(outcome_of(said("seed")), ProposalOutcome::duplicate);
  EXPECT_EQ(outcome_of(said(" seed\n")), ProposalOutcome::duplicate);
  EXPECT_EQ(outcome_of(said("``` ```")), ProposalOutcome::unparsable);
  EXPECT_EQ(outcome_of(said("")), ProposalOutcome::unparsable);
  EXPECT_EQ(outcome_of(said("seven77"), options), ProposalOutcome::too_long);
  EXPECT_EQ(outcome_of(said("six666"), options), ProposalOutcome::accepted);
  EXPECT_EQ(outcome_of({ReplyStatus::unfinished, "half"}), ProposalOutcome::no_proposal);
  EXPECT_EQ(outcome_of({ReplyStatus::failed, ""}), ProposalOutcome::no_proposal);
  EXPECT_EQ(outcome_of({ReplyStatus::no_evidence, ""}), ProposalOutcome::no_evidence);
}

TEST(Evolution, KnownTextsMayEnterAgainWhenAsked) {
  EvolveOptions options;
  options.reject_known = false;
  EXPECT_EQ(outcome_of(said("seed"), options), ProposalOutcome::accepted);
}

TEST(Evolution, AFailedReflectionIsRepeatedOnceWhenAsked) {
  EvolveOptions options;
  options.retry_failed_reflection = true;
  Evolution evolution = started(options);
  evolution.draw_round(keyed_choices(1, 0, 0));
  evolution.record_parent_scores(constant(evolution.trials(), 0));
  evolution.record_replies({{{ReplyStatus::failed, ""}}}, {});
  ASSERT_EQ(evolution.awaiting_reply().size(), 1u);
  evolution.record_replies({{{ReplyStatus::failed, ""}}}, {});
  EXPECT_TRUE(evolution.awaiting_reply().empty());
  EXPECT_EQ(evolution.state().proposals.at(0).outcome, ProposalOutcome::no_proposal);
  EXPECT_EQ(evolution.state().reflection_calls, 2);
}

TEST(Evolution, TwinsOfOneRoundAreChargedAndEnterOnce) {
  EvolveOptions options;
  options.parents_per_round = 3;
  Evolution evolution = started(options, 9);
  play_round(evolution, {said("twin"), said("other"), said("twin")});
  EXPECT_EQ(evolution.state().pool.size(), 3u);
  EXPECT_EQ(evolution.state().proposals.at(2).outcome, ProposalOutcome::duplicate);
  EXPECT_EQ(evolution.state().metric_calls, 9 + 3 * 3 + 3 * 3 + 2 * 9);
}

TEST(Evolution, AParentDrawnTwiceOnOneMinibatchIsTriedOnce) {
  EvolveOptions options;
  options.parents_per_round = 2;
  Evolution evolution = started(options, 3);  // one minibatch is the whole epoch
  evolution.draw_round(keyed_choices(1, 0, 0));
  EXPECT_EQ(evolution.trials().size(), 1u);
  EXPECT_EQ(evolution.round_proposals().size(), 2u);
}

TEST(Evolution, CarriedPromptsAreScoredAgainOutsideTheBudget) {
  Evolution evolution({}, phase_with(48, 9), prompts({"a", "b", "a", "c"}, 3));
  ASSERT_EQ(evolution.trials().size(), 3u);
  evolution.record_anchor_scores(constant(evolution.trials(), 0));
  EXPECT_EQ(evolution.state().metric_calls, 3 * 48);
  EXPECT_EQ(evolution.state().metric_cap, 240 + 2 * 48);
  EXPECT_EQ(evolution.state().pool.at(2).id, 6);
  EXPECT_EQ(evolution.state().pool.at(2).origin, Origin::carried);
}

TEST(Evolution, OldScoresBecomeAMeanAndAreNotReused) {
  auto population = prompts({"a", "b"}, 0);
  population[0].anchor_scores = {1, 0, 0, 1};
  Evolution evolution({}, phase_with(7, 2), population);
  EXPECT_EQ(evolution.trials().at(0).problems.size(), 7u);
  evolution.record_anchor_scores(constant(evolution.trials(), 0));
  EXPECT_EQ(evolution.state().pool.at(0).carried_mean, 0.5);
  EXPECT_EQ(evolution.state().pool.at(0).anchor_scores, std::vector<double>(7, 0.0));
}

TEST(Evolution, AtAChangeOfTaskTheSeedPromptJoinsThePopulation) {
  auto population = prompts({"learnt", "learnt"}, 4);
  population.push_back(prompts({"rules"}).front());
  Evolution evolution({}, phase_with(5, 8), population);
  evolution.record_anchor_scores(constant(evolution.trials(), 0));
  ASSERT_EQ(evolution.state().pool.size(), 2u);
  EXPECT_EQ(evolution.state().pool.at(1).text, "rules");
  EXPECT_EQ(evolution.state().pool.at(1).id, 8);
  EXPECT_EQ(evolution.state().pool.at(1).origin, Origin::seed);
  EXPECT_EQ(evolution.next_id(), 9);
}

TEST(Evolution, LeadOnlyScoresTheLeadAndFillsUpWithTheOthersByOldMean) {
  EvolveOptions options;
  options.rescore_carried = RescoreCarried::lead_only;
  auto population = prompts({"lead", "weak", "strong"}, 0);
  population[1].carried_mean = 0.25;
  population[2].carried_mean = 0.75;
  Evolution evolution(options, phase_with(5, 3), population);
  EXPECT_EQ(evolution.trials().size(), 1u);
  evolution.record_anchor_scores(constant(evolution.trials(), 0.125));
  std::vector<std::string> texts;
  for (const Candidate& member : evolution.population()) texts.push_back(member.text);
  EXPECT_EQ(texts, (std::vector<std::string>{"lead", "strong", "weak", "lead"}));
  EXPECT_EQ(evolution.state().metric_cap, 240);
}

TEST(Evolution, WithoutBudgetNothingIsScoredAndThePopulationStays) {
  EvolveOptions options;
  options.max_metric_calls = 0;
  options.prompts = 1;
  Evolution evolution(options, phase_with(5), prompts({"rules"}));
  EXPECT_TRUE(evolution.trials().empty());
  evolution.record_anchor_scores({});
  EXPECT_FALSE(evolution.more());
  ASSERT_EQ(evolution.population().size(), 1u);
  EXPECT_EQ(evolution.population().front().text, "rules");
}

TEST(Evolution, CallsOutOfOrderAndScoresThatDoNotFitAreErrors) {
  Evolution evolution({}, phase_with(5), prompts({"seed"}));
  EXPECT_THROW(evolution.more(), Error);
  EXPECT_THROW(evolution.population(), Error);
  EXPECT_THROW(evolution.record_child_scores({}), Error);
  EXPECT_THROW(evolution.record_anchor_scores({}), Error);
  EXPECT_THROW(evolution.record_anchor_scores({{1, 1, 1, 1}}), Error);
  EXPECT_THROW(evolution.record_anchor_scores({{1, 1, NAN, 1, 1}}), Error);
  evolution.record_anchor_scores({{1, 1, 1, 1, 0}});
  EXPECT_THROW(evolution.record_anchor_scores({}), Error);
  EXPECT_TRUE(evolution.more());
}

TEST(Evolution, ALimitOnTokensNeedsACount) {
  EvolveOptions options;
  options.max_prompt_tokens = 6;
  Evolution evolution = started(options);
  evolution.draw_round(keyed_choices(1, 0, 0));
  evolution.record_parent_scores(constant(evolution.trials(), 0));
  EXPECT_THROW(evolution.record_replies({{said("x")}}, {}), Error);
}

TEST(Evolution, OptionsOutOfRangeAreTheUsersMistake) {
  EvolveOptions options;
  options.minibatch = 0;
  EXPECT_THROW(Evolution(options, phase_with(5), prompts({"seed"})), InputError);
  options = {};
  options.cache_scores = true;
  Phase phase = phase_with(5);
  phase.minibatch_pool = 7;
  EXPECT_THROW(Evolution(options, phase, prompts({"seed"})), InputError);
}

}  // namespace
}  // namespace fst
