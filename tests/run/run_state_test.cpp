#include <cmath>
#include <limits>

#include <gtest/gtest.h>

#include "fst/base/error.h"
#include "fst/run/run.h"

namespace fst {
namespace {

RunState some_state() {
  RunState state;
  state.begun = true;
  state.step = 17;
  state.evolved_cycle = 2;
  state.final_phase_step = 17;
  state.next_candidate = 9;
  state.rollouts_slow = 1;
  state.rollouts_fast = 2;
  state.rollouts_eval = std::int64_t{1} << 40;
  state.recorded_bytes = 12345;
  Candidate scored;
  scored.id = 7;
  scored.text = std::string("no UTF-8: \xff, a zero: \0.", 24);
  scored.parents = {0, 3};
  scored.origin = Origin::mutation;
  scored.cycle = 2;
  scored.round = 4;
  scored.anchor_scores = {1.0, 0.1, std::numeric_limits<double>::quiet_NaN()};
  scored.scored_by = 12;
  scored.discovery_calls = 6;
  state.population = {scored, Candidate{}};
  return state;
}

TEST(RunState, ComesBackFromItsBytes) {
  const RunState state = some_state();
  const RunState read = RunState::from_bytes(state.to_bytes());
  EXPECT_EQ(read.to_bytes(), state.to_bytes());
  EXPECT_EQ(read.fingerprint(), state.fingerprint());
  EXPECT_TRUE(read.begun);
  EXPECT_EQ(read.step, 17);
  EXPECT_EQ(read.evolved_cycle, 2);
  EXPECT_EQ(read.final_phase_step, 17);
  EXPECT_EQ(read.next_candidate, 9);
  EXPECT_EQ(read.rollouts_slow, 1);
  EXPECT_EQ(read.rollouts_fast, 2);
  EXPECT_EQ(read.rollouts_eval, std::int64_t{1} << 40);
  EXPECT_EQ(read.recorded_bytes, 12345);
  ASSERT_EQ(read.population.size(), 2u);
  const Candidate &a = read.population[0], &b = state.population[0];
  EXPECT_EQ(a.id, b.id);
  EXPECT_EQ(a.text, b.text);
  EXPECT_EQ(a.parents, b.parents);
  EXPECT_EQ(a.origin, b.origin);
  EXPECT_EQ(a.cycle, b.cycle);
  EXPECT_EQ(a.round, b.round);
  ASSERT_EQ(a.anchor_scores.size(), 3u);
  EXPECT_EQ(a.anchor_scores[1], 0.1);
  EXPECT_TRUE(std::isnan(a.anchor_scores[2]));
  EXPECT_EQ(a.scored_by, b.scored_by);
  EXPECT_TRUE(std::isnan(a.carried_mean));
  EXPECT_EQ(a.discovery_calls, b.discovery_calls);
  EXPECT_EQ(read.population[1].id, -1);
}

TEST(RunState, FingerprintsTellStatesApart) {
  const RunState state = some_state();
  RunState other = some_state();
  other.population[1].text = "x";
  EXPECT_NE(other.fingerprint(), state.fingerprint());
  other = some_state();
  other.rollouts_eval += 1;
  EXPECT_NE(other.fingerprint(), state.fingerprint());
}

TEST(RunState, DamagedBytesAreAnError) {
  const std::string bytes = some_state().to_bytes();
  EXPECT_THROW(RunState::from_bytes(""), Error);
  EXPECT_THROW(RunState::from_bytes(bytes.substr(0, bytes.size() - 1)), Error);
  EXPECT_THROW(RunState::from_bytes("\xa0"), Error);  // an empty map
}

}  // namespace
}  // namespace fst
