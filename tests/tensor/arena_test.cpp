#include <algorithm>
#include <cstdint>
#include <map>
#include <random>
#include <vector>

#include <gtest/gtest.h>

#include "fst/base/error.h"
#include "fst/tensor/tensor.h"

namespace fst {
namespace {

constexpr std::int64_t unit = Suballocator::alignment;

TEST(Suballocator, TakesTheSmallestGapThatHoldsAPiece) {
  Suballocator pieces(20 * unit);
  const auto a = pieces.take(3 * unit), b = pieces.take(unit), c = pieces.take(2 * unit);
  const auto d = pieces.take(1);
  ASSERT_TRUE(a && b && c && d);
  pieces.give_back(*a);
  pieces.give_back(*c);  // gaps of 3, 2 and 13
  EXPECT_EQ(pieces.take(2 * unit), c);
  EXPECT_EQ(pieces.take(unit + 1), a);
  EXPECT_EQ(pieces.take(4 * unit), 7 * unit);
}

TEST(Suballocator, JoinsGapsInEveryOrder) {
  std::vector<int> order{0, 1, 2};
  do {
    Suballocator pieces(3 * unit);
    const std::vector<std::int64_t> begins{pieces.take(unit).value(), pieces.take(7).value(),
                                           pieces.take(unit).value()};
    EXPECT_EQ(pieces.take(1), std::nullopt);
    for (const int i : order) pieces.give_back(begins[static_cast<std::size_t>(i)]);
    EXPECT_EQ(pieces.take(3 * unit), 0);
  } while (std::next_permutation(order.begin(), order.end()));
}

TEST(Suballocator, RefusesWhatDoesNotFitAndWhatItNeverGave) {
  Suballocator pieces(2 * unit + 17);  // the rest is no piece
  EXPECT_EQ(pieces.take(2 * unit + 1), std::nullopt);
  const auto piece = pieces.take(2 * unit);
  EXPECT_EQ(piece, 0);
  EXPECT_EQ(pieces.take(1), std::nullopt);
  EXPECT_THROW(pieces.give_back(unit), Error);
  pieces.give_back(0);
  EXPECT_THROW(pieces.give_back(0), Error);
  EXPECT_EQ(Suballocator(0).take(1), std::nullopt);
}

TEST(Suballocator, KeepsPiecesApartAndLosesNothing) {
  constexpr std::int64_t all = 257 * unit;
  Suballocator pieces(all);
  std::map<std::int64_t, std::int64_t> model;  // begin, bytes asked for
  std::int64_t most = 0, refused = 0;
  std::mt19937_64 random(20261122);  // any seed will do
  for (int i = 0; i < 20'000; ++i) {
    if (random() % 2 == 0 && !model.empty()) {
      const auto any = std::next(model.begin(), static_cast<long>(random() % model.size()));
      pieces.give_back(any->first);
      model.erase(any);
    } else {
      const auto bytes = static_cast<std::int64_t>(random() % (i % 3 == 0 ? 40 * unit : 3 * unit));
      const auto begin = pieces.take(bytes);
      std::int64_t largest = 0, free_from = 0;
      for (const auto& [at, size] : model) {
        largest = std::max(largest, at - free_from);
        free_from = at + Suballocator::aligned(size);
      }
      largest = std::max(largest, all - free_from);
      ASSERT_EQ(begin.has_value(), Suballocator::aligned(bytes) <= largest);
      refused += begin ? 0 : 1;
      if (!begin) continue;
      ASSERT_EQ(*begin % unit, 0);
      const auto [place, fresh] = model.emplace(*begin, bytes);
      ASSERT_TRUE(fresh);
      if (place != model.begin()) {
        const auto before = std::prev(place);
        ASSERT_LE(before->first + Suballocator::aligned(before->second), *begin);
      }
      const auto after = std::next(place);
      const std::int64_t end = *begin + Suballocator::aligned(bytes);
      ASSERT_LE(end, after == model.end() ? all : after->first);
    }
    std::int64_t taken = 0;
    for (const auto& [at, size] : model) taken += Suballocator::aligned(size);
    most = std::max(most, taken);
    ASSERT_EQ(pieces.taken(), taken);
    ASSERT_EQ(pieces.most_taken(), most);
  }
  EXPECT_GT(refused, 100);
  for (const auto& [at, size] : model) pieces.give_back(at);
  EXPECT_EQ(pieces.take(all), 0);
}

PhaseBytes plan_of_three() {
  PhaseBytes plan;
  plan[MemoryPhase::always] = 3 * unit;
  plan[MemoryPhase::rollout] = 5 * unit;
  plan[MemoryPhase::learning] = 4 * unit;
  return plan;
}

TEST(PhaseBytes, CountTheLongestTurnOnce) {
  const PhaseBytes plan = plan_of_three();
  EXPECT_EQ(plan.turns(), 5 * unit);
  EXPECT_EQ(plan.total(), 8 * unit);
}

TEST(Arena, GivesTheTurnsTheSameBytesAndKeepsTheirAddresses) {
  std::vector<char> memory(8 * unit);
  Arena arena(memory.data(), plan_of_three());
  auto* const stays = static_cast<char*>(arena.allocate(MemoryPhase::always, 3 * unit));
  auto* const rollout = static_cast<char*>(arena.allocate(MemoryPhase::rollout, unit));
  auto* const learning = static_cast<char*>(arena.allocate(MemoryPhase::learning, 4 * unit));
  EXPECT_EQ(stays, memory.data());
  EXPECT_EQ(rollout, memory.data() + 3 * unit);
  EXPECT_EQ(learning, rollout);
  EXPECT_EQ(arena.allocate(MemoryPhase::rollout, unit), rollout + unit) << "behind what it has";
  EXPECT_EQ(arena.allocate(MemoryPhase::always, 1), nullptr);
  EXPECT_EQ(arena.allocate(MemoryPhase::learning, 2 * unit), nullptr);
  EXPECT_NE(arena.allocate(MemoryPhase::learning, unit), nullptr)
      << "as much as the longest turn has";
  EXPECT_EQ(arena.most_taken()[MemoryPhase::learning], 5 * unit);
  EXPECT_EQ(arena.most_taken()[MemoryPhase::rollout], 2 * unit);
  char other = 0;
  EXPECT_FALSE(arena.release(MemoryPhase::always, &other));
}

TEST(Arena, NumbersTurnsSoThatAHolderSeesItsLoss) {
  std::vector<char> memory(8 * unit);
  Arena arena(memory.data(), plan_of_three());
  const auto first = arena.enter(MemoryPhase::rollout);
  EXPECT_EQ(arena.enter(MemoryPhase::rollout), first);
  EXPECT_EQ(arena.enter(MemoryPhase::always), first);
  arena.allocate(MemoryPhase::always, 1);
  EXPECT_EQ(arena.enter(MemoryPhase::rollout), first) << "what stays takes no turn";
  arena.allocate(MemoryPhase::learning, 1);
  EXPECT_NE(arena.enter(MemoryPhase::rollout), first) << "allocating begins a phase";
}

TEST(Arena, CountsWhatWasGivenBackForThoseWhoCouldUseIt) {
  std::vector<char> memory(8 * unit);
  Arena arena(memory.data(), plan_of_three());
  arena.release(MemoryPhase::learning, arena.allocate(MemoryPhase::learning, 1));
  EXPECT_EQ(arena.releases(MemoryPhase::rollout), 0U);
  EXPECT_EQ(arena.releases(MemoryPhase::learning), 1U);
  arena.release(MemoryPhase::always, arena.allocate(MemoryPhase::always, 1));
  EXPECT_EQ(arena.releases(MemoryPhase::rollout), 1U);
  EXPECT_EQ(arena.releases(MemoryPhase::learning), 2U);
}

TEST(Arena, PoisonsTheTurnsAndNothingElse) {
  std::vector<char> memory(8 * unit, 1);
  Arena arena(memory.data(), plan_of_three(), [](void* begin, std::int64_t bytes) {
    std::fill_n(static_cast<char*>(begin), bytes, char{-1});
  });
  const auto poisoned = [&] { return std::count(memory.begin(), memory.end(), char{-1}); };
  arena.enter(MemoryPhase::always);
  EXPECT_EQ(poisoned(), 0);
  arena.enter(MemoryPhase::learning);
  EXPECT_EQ(poisoned(), 5 * unit);
  EXPECT_EQ(memory[3 * unit - 1], 1);
  std::fill(memory.begin(), memory.end(), char{1});
  arena.enter(MemoryPhase::learning);
  EXPECT_EQ(poisoned(), 0) << "its turn goes on";
}

TEST(PlannedDevice, HasItsTensorsInTheArenaAndMoreBesideIt) {
  const Device plain = Device::cpu();
  EXPECT_EQ(plain.arena(), nullptr);
  EXPECT_EQ(plain.during(MemoryPhase::rollout).enter(), 0U);
  const Device device = plain.planned(plan_of_three());
  const Buffer stays(device, DType::f32, {3, 31});
  const Buffer rollout(device.during(MemoryPhase::rollout), DType::f32, {5 * unit / 4});
  Buffer learning(device.during(MemoryPhase::learning), DType::f32, {7});
  EXPECT_EQ(rollout.tensor().raw(), learning.tensor().raw());
  EXPECT_EQ(device.arena()->taken(MemoryPhase::always), 2 * unit);
  learning.reserve(device, DType::f32, {6 * unit / 4});  // beside the plan
  EXPECT_NE(rollout.tensor().raw(), learning.tensor().raw());
  EXPECT_EQ(device.arena()->taken(MemoryPhase::learning), 0);
  learning.span<float>()[6 * unit / 4 - 1] = 1.0f;
}

TEST(PlannedDevice, MeasuresWhatIsReservedWithoutTakingIt) {
  const Device device = Device::measuring();
  const Buffer large(device.during(MemoryPhase::learning), DType::f32, {std::int64_t{1} << 40});
  const Buffer small(device, DType::u8, {1});
  const PhaseBytes most = device.arena()->most_taken();
  EXPECT_EQ(most[MemoryPhase::learning], std::int64_t{4} << 40);
  EXPECT_EQ(most[MemoryPhase::always], unit);
}

}  // namespace
}  // namespace fst
