#include <chrono>
#include <ctime>
#include <functional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "fst/base/error.h"

#include "mpi_main.h"

namespace fst {
namespace {

World& world() {
  return test::world();
}

TEST(WorldSplit, ColocatedRanksHaveEveryRole) {
  world().split({});
  const int size = world().all().size();
  for (const Role role : {Role::rollout, Role::reflection, Role::learner}) {
    EXPECT_EQ(world().role(role).size(), size);
    EXPECT_EQ(world().role(role).rank(), world().all().rank());
    EXPECT_EQ(world().unit(role).size(), 1);
    EXPECT_EQ(world().across(role).size(), size);
  }
  EXPECT_EQ(world().policy().size(), size);
  EXPECT_EQ(world().policy().rank(), world().all().rank());
}

TEST(WorldSplit, RolesAreDealtInOrderAndPolicyHoldsRolloutsThenLearners) {
  const int size = world().all().size();
  const int me = world().all().rank();
  if (size < 2) return world().split({});
  const RankPlan plan{{size - 1, 1}, {0, 1}, {1, 1}};
  world().split(plan);
  const bool learns = me == size - 1;
  EXPECT_EQ(world().rollout().member(), !learns);
  EXPECT_EQ(world().rollout().rank(), learns ? -1 : me);
  EXPECT_EQ(world().rollout().size(), learns ? 0 : size - 1);
  EXPECT_FALSE(world().reflection().member());
  EXPECT_EQ(world().learner().rank(), learns ? 0 : -1);
  EXPECT_EQ(world().policy().size(), size);
  EXPECT_EQ(world().policy().rank(), me);
  EXPECT_EQ(world().policy_ranks(Role::learner), std::vector<int>{size - 1});
  EXPECT_EQ(world().policy_ranks(Role::rollout).size(), static_cast<std::size_t>(size - 1));
  EXPECT_EQ(world().units(Role::rollout), size - 1);
  EXPECT_EQ(world().units(Role::reflection), 0);
  EXPECT_EQ(world().world_rank(Role::learner, 0), size - 1);
  EXPECT_THROW(world().world_rank(Role::reflection, 0), Error);
}

TEST(WorldSplit, ReflectionRanksStayOutsidePolicy) {
  const int size = world().all().size();
  if (size < 3) return world().split({});
  world().split({{1, 1}, {size - 2, 1}, {1, 1}});
  const bool reflects = world().reflection().member();
  EXPECT_EQ(world().policy().member(), !reflects);
  EXPECT_EQ(world().policy_ranks(Role::rollout), std::vector<int>{0});
  EXPECT_EQ(world().policy_ranks(Role::learner), std::vector<int>{1});
  if (!reflects) {
    EXPECT_EQ(world().policy().size(), 2);
    EXPECT_EQ(world().policy().rank(), world().learner().member() ? 1 : 0);
  }
}

TEST(WorldSplit, TensorParallelGroupsAreNeighbours) {
  const int size = world().all().size();
  const int me = world().all().rank();
  if (size % 2 != 0) return world().split({});
  world().split({{0, 2}, {0, 1}, {0, size == 4 ? 4 : 2}});
  EXPECT_EQ(world().unit(Role::rollout).size(), 2);
  EXPECT_EQ(world().unit(Role::rollout).rank(), me % 2);
  EXPECT_EQ(world().unit(Role::reflection).size(), 1);
  EXPECT_EQ(world().across(Role::rollout).size(), size / 2);
  EXPECT_EQ(world().across(Role::rollout).rank(), me / 2);
  EXPECT_EQ(world().units(Role::learner), size == 4 ? 1 : size / 2);
  EXPECT_EQ(world().world_rank(Role::rollout, size / 2 - 1, 1), size - 1);
}

TEST(WorldSplit, ColocatedRolesOfOneDegreeShareTheirUnit) {
  const int size = world().all().size();
  if (size % 2 != 0) return world().split({});
  const auto same = [](Role a, Role b) { return &world().unit(a) == &world().unit(b); };
  world().split({{0, 2}, {0, 1}, {0, 2}});
  EXPECT_TRUE(same(Role::rollout, Role::learner));
  EXPECT_FALSE(same(Role::rollout, Role::reflection));
  EXPECT_EQ(world().unit(Role::learner).name(), "unit");
  EXPECT_EQ(world().unit(Role::reflection).name(), "reflection unit");
  if (size != 4) return world().split({});
  world().split({{2, 2}, {0, 1}, {2, 2}});
  EXPECT_FALSE(same(Role::rollout, Role::learner));
  world().split({});
}

TEST(WorldSplit, CopiesAreALearnerAndTheRolloutRanksThatItServes) {
  const int size = world().all().size(), me = world().all().rank();
  world().split({});
  EXPECT_FALSE(world().copies().member());
  if (size >= 2) {  // one learner for all
    world().split({{size - 1, 1}, {0, 1}, {1, 1}});
    EXPECT_EQ(world().copies().size(), size);
    EXPECT_EQ(world().copies().rank(), me == size - 1 ? 0 : me + 1);
  }
  if (size >= 3) {  // one rollout rank, which the first learner serves; reflection has no policy
    world().split({{1, 1}, {1, 1}, {size - 2, 1}});
    EXPECT_EQ(world().copies().size(), me == 1 ? 0 : me == 0 || me == 2 ? 2 : 1);
    EXPECT_EQ(world().copies().rank(), me == 1 ? -1 : me == 0 ? 1 : 0);
  }
  if (size == 4) {  // by shard
    world().split({{2, 2}, {0, 1}, {2, 2}});
    EXPECT_EQ(world().copies().size(), 2);
    EXPECT_EQ(world().copies().rank(), me < 2 ? 1 : 0);
    std::vector<int> gathered(2);
    world().copies().all_gather_into(std::as_writable_bytes(std::span(gathered)),
                                     std::as_bytes(std::span(&me, 1)), "ranks");
    EXPECT_EQ(gathered, (std::vector<int>{2 + me % 2, me % 2}));
    world().split({{2, 2}, {0, 1}, {2, 1}});
    EXPECT_FALSE(world().copies().member()) << "degrees differ";
  }
  world().split({});
}

TEST(WorldSplit, WrongPlanThrowsInputErrorOnEveryRank) {
  const int size = world().all().size();
  EXPECT_THROW(world().split({{size, 1}, {1, 1}, {1, 1}}), InputError);
}

TEST(World, EqualFingerprintsPass) {
  EXPECT_NO_THROW(world().expect_same(42, "population"));
}

TEST(World, ADifferentFingerprintIsNamedOnEveryRank) {
  const int size = world().all().size();
  const int me = world().all().rank();
  if (size == 1) return;
  try {
    world().expect_same(me == size - 1 ? 7 : 42, "population");
    FAIL() << "no exception";
  } catch (const Error& error) {
    const std::string text = error.what();
    EXPECT_NE(text.find("population"), std::string::npos) << text;
    EXPECT_NE(text.find(" are " + std::to_string(size - 1)), std::string::npos) << text;
  }
}

TEST(World, ALateRankIsReportedByWhatWasWaitedFor) {
  // The last rank comes only after the others have given up; they still make progress in all().
  const int size = world().all().size();
  const bool late = world().all().rank() == size - 1;
  if (size == 1) return;
  Communicator comm = world().all().subset(0, world().all().rank(), "test");
  comm.set_deadline(0.05);
  if (!late) {
    try {
      comm.barrier("the slow rank");
      ADD_FAILURE() << "no exception";
    } catch (const Error& error) {
      const std::string text = error.what();
      EXPECT_NE(text.find("the slow rank"), std::string::npos) << text;
      EXPECT_NE(text.find("communicator test"), std::string::npos) << text;
      EXPECT_NE(text.find("rank " + std::to_string(comm.rank())), std::string::npos) << text;
      EXPECT_NE(text.find(world().host()), std::string::npos) << text;
      // The late rank is seen where it is: on its way to the barrier below, or in it.
      const auto last = text.find("rank " + std::to_string(size - 1) + " of " +
                                  std::to_string(size) + " on node " + world().host());
      EXPECT_NE(last, std::string::npos) << text;
    }
  }
  world().all().barrier("the others");
  comm.set_deadline(60);
  if (late) comm.barrier("the slow rank");
  world().all().barrier("everybody");
}

double cpu_seconds() {
  std::timespec now{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

TEST(World, AWaitingRankGivesItsCoreAwayInEveryOperation) {
  const Communicator& all = world().all();
  if (all.size() == 1) return;
  std::vector<float> small(3), large(100000);  // sent at once; behind a meeting
  std::vector<std::int64_t> counts(3);
  const std::vector<std::vector<std::byte>> parts(static_cast<std::size_t>(all.size()),
                                                  std::vector<std::byte>(7));
  const auto sleeper = "rank 0, which sleeps";
  const std::pair<const char*, std::function<void()>> operations[] = {
      {"barrier", [&] { all.barrier(sleeper); }},
      {"small broadcast", [&] { all.broadcast(std::span(small), 0, sleeper); }},
      {"large broadcast", [&] { all.broadcast(std::span(large), 0, sleeper); }},
      {"all_reduce", [&] { all.all_reduce_sum(std::span(counts), sleeper); }},
      {"all_gather", [&] { all.all_gather(parts[0], sleeper); }},
      {"exchange", [&] { all.exchange(parts, sleeper); }}};
  for (const auto& [name, wait] : operations) {
    all.barrier("start");
    const double before = cpu_seconds();
    if (all.rank() == 0) std::this_thread::sleep_for(std::chrono::milliseconds(150));
    wait();
    EXPECT_LT(cpu_seconds() - before, 0.05) << name;  // a polling rank would have used 0.15 s
  }
}

}  // namespace
}  // namespace fst
