#include "fst/evolve/evolution_state.h"

#include <gtest/gtest.h>

#include "fst/base/error.h"
#include "fst/base/random.h"
#include "fst/evolve/evolution.h"

namespace fst {
namespace {

constexpr std::int64_t anchors = 11;

EvolveOptions two_proposals() {
  EvolveOptions options;
  options.parents_per_round = 2;
  options.cache_scores = true;
  options.max_metric_calls = 150;
  return options;
}

Evolution begun() {
  Candidate seed;
  seed.text = "seed";
  Phase phase;
  phase.anchors = anchors;
  Evolution evolution(two_proposals(), phase, {&seed, 1});
  evolution.record_anchor_scores({std::vector<double>(anchors, 0.125)});
  return evolution;
}

/// Scores that differ from draw to draw, as a function of what is drawn.
ScoreMatrix noisy(const Evolution& evolution, std::uint64_t part) {
  ScoreMatrix scores;
  const auto round = static_cast<std::uint64_t>(evolution.state().round);
  for (const Trial& trial : evolution.trials()) {
    Rng rng(3, Purpose::anchor_draw,
            {round, part, static_cast<std::uint64_t>(trial.candidate), hash_text(trial.text)});
    auto& row = scores.emplace_back();
    for (std::size_t i = 0; i < trial.problems.size(); ++i) row.push_back(rng.uniform());
  }
  return scores;
}

void play_round(Evolution& evolution) {
  evolution.draw_round(keyed_choices(3, 0, evolution.state().round));
  evolution.record_parent_scores(noisy(evolution, 0));
  std::vector<Reply> replies;
  for (std::size_t i = 0; i < evolution.awaiting_reply().size(); ++i) {
    // Not UTF-8: a byte-level model may say anything.
    replies.push_back({ReplyStatus::complete, "\xff prompt " + std::to_string(i) + " of " +
                                                  std::to_string(evolution.state().round)});
  }
  evolution.record_replies(replies, {});
  evolution.record_child_scores(noisy(evolution, 1));
  evolution.record_anchor_scores(noisy(evolution, 2));
}

TEST(EvolutionState, ARunGoesOnBitForBitFromEveryRound) {
  std::vector<std::string> saved;
  Evolution whole = begun();
  saved.push_back(to_bytes(whole.state()));
  while (whole.more()) {
    play_round(whole);
    saved.push_back(to_bytes(whole.state()));
  }
  ASSERT_GT(saved.size(), 3u);
  for (const std::string& bytes : saved) {
    Evolution restarted(two_proposals(), evolution_state_from_bytes(bytes));
    while (restarted.more()) play_round(restarted);
    EXPECT_EQ(to_bytes(restarted.state()), saved.back());
    EXPECT_EQ(fingerprint(restarted.state()), fingerprint(whole.state()));
  }
}

TEST(EvolutionState, TextThatIsNotUtf8SurvivesTheBytes) {
  Evolution evolution = begun();
  play_round(evolution);
  const EvolutionState restored = evolution_state_from_bytes(to_bytes(evolution.state()));
  ASSERT_FALSE(restored.proposals.empty());
  EXPECT_EQ(restored.proposals.front().reply.front(), '\xff');
}

TEST(EvolutionState, CannotBeSavedInsideARound) {
  Evolution evolution = begun();
  evolution.draw_round(keyed_choices(3, 0, 0));
  EXPECT_THROW(to_bytes(evolution.state()), Error);
}

TEST(EvolutionState, DamagedBytesAreAnError) {
  std::string bytes = to_bytes(begun().state());
  EXPECT_THROW(evolution_state_from_bytes(bytes.substr(0, bytes.size() / 2)), Error);
  EXPECT_THROW(evolution_state_from_bytes(""), Error);
  EXPECT_THROW(evolution_state_from_bytes("\xa0"), Error);
}

TEST(EvolutionState, FingerprintTellsOneBitOfOneScore) {
  EvolutionState state = begun().state();
  const auto before = fingerprint(state);
  state.pool.front().anchor_scores.front() += 1.0 / (1ull << 52);
  EXPECT_NE(fingerprint(state), before);
}

}  // namespace
}  // namespace fst
