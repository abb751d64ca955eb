#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "fst/base/error.h"
#include "fst/comm/communicator.h"

namespace fst {

enum class Role : std::uint8_t { rollout, reflection, learner };
const char* name_of(Role role);

/// `ranks` ranks in groups of `tp` that share one copy of the weights (tensor parallelism).
struct RolePlan {
  int ranks = 0;
  int tp = 1;
};

/// Who does what. All three `ranks` zero: colocated, every rank has every role. Otherwise world
/// ranks are dealt in the order rollout, reflection, learner; a role with 0 ranks is absent.
struct RankPlan {
  RolePlan rollout, reflection, learner;

  bool colocated() const;
  const RolePlan& of(Role role) const;
};

/// Everything that is wrong with a plan for `world_size` ranks, one sentence each; empty if
/// nothing. tp must be 1, 2, 4 or 8 and divide the role's ranks; the ranks must add up to the
/// world's.
std::vector<std::string> problems_of(const RankPlan& plan, int world_size);

/// What a rank is doing: for the report of a failure.
enum class Activity : std::uint8_t {
  none,
  start_up,
  rollout,
  reflection,
  learning,
  evaluation,
  checkpoint
};
const char* name_of(Activity activity);

class Board;

/// All ranks of the job, and MPI while it lives. One per process, made first and destroyed last.
class World {
 public:
  /// Initialises MPI (thread level funneled: only the main thread communicates); without a launcher
  /// there is one rank. Leaves MPI alone where it is initialised already. MPI's errors are returned
  /// and checked. Tells log who speaks.
  World(int& argc, char**& argv);
  /// One rank without MPI, split as colocated; for tests and for verbs without ranks.
  static World alone();
  World(World&&) noexcept;
  World& operator=(World&&) = delete;
  World(const World&) = delete;
  World& operator=(const World&) = delete;
  ~World();

  /// Makes the communicators below. Throws InputError listing all problems_of(plan). Collective.
  void split(const RankPlan& plan);

  /// Communicator::connect() for all communicators above, after split(): how tensors on `device`
  /// travel from now on. DeviceExchange::nccl needs a GPU of its own for every rank of the job.
  /// Collective.
  void connect(const Device& device, DeviceExchange exchange);
  /// How tensors travel, as this rank sees it: "by NCCL 2.28.9", or how else and why.
  std::string exchange() const;

  const Communicator& all() const { return all_; }
  const Communicator& rollout() const { return role(Role::rollout); }
  const Communicator& reflection() const { return role(Role::reflection); }
  const Communicator& learner() const { return role(Role::learner); }
  /// The ranks that hold the policy: rollout and learner ranks, in that order; colocated: all
  /// ranks.
  const Communicator& policy() const { return policy_; }
  /// Where rollout and learner ranks are apart and of one degree: the ranks that hold one shard of
  /// the policy, rank 0 a learner, the others the rollout ranks that it serves. The rollout units
  /// are dealt to the learner units in turn. Elsewhere nobody is a member.
  const Communicator& copies() const { return copies_; }
  /// The members of a role.
  const Communicator& role(Role role) const;
  /// The tensor-parallel group of this rank in a role: `tp` neighbours. Colocated roles of one
  /// degree share it, since NCCL's buffers are large.
  const Communicator& unit(Role role) const;
  /// The ranks with this rank's place in their units: the data-parallel group.
  const Communicator& across(Role role) const;

  /// Number of units of a role, known everywhere; 0 if the role is absent.
  int units(Role role) const;
  /// World rank of a role's rank `role_rank`.
  int world_rank(Role role, int role_rank) const;
  /// World rank of place `place` in unit `unit` of a role.
  int world_rank(Role role, int unit, int place) const {
    return world_rank(role, unit * plan_.of(role).tp + place);
  }
  /// Ranks in policy() of a role's ranks, in order; for the rollout and learner roles.
  std::vector<int> policy_ranks(Role role) const;
  const RankPlan& plan() const { return plan_; }
  /// For example "4 ranks: 2 rollout, 1 reflection, 1 learner" or "4 ranks, colocated".
  std::string layout() const;
  std::string host() const;
  /// Number of this rank among those of its node: which GPU is its own.
  int node_rank() const { return node_rank_; }
  /// How many ranks its node has.
  int node_ranks() const { return node_ranks_; }

  /// Throws Error on every rank, listing who differs, unless all ranks pass the same number.
  /// Collective over all().
  void expect_same(std::uint64_t fingerprint, std::string_view what) const;
  /// What this rank has moved, by communicator and name; not collective.
  std::vector<TrafficRow> traffic() const;
  /// Seconds until a wait gives up, for all communicators above.
  void set_deadline(double seconds);

  /// What this rank does from now on; a failure of any rank is reported with it. Not collective.
  void enter(Activity activity, std::int64_t step);
  /// Ends all ranks with exit code 1 after one line on stderr: `message` behind this rank, its node
  /// and where it is. Where several ranks fail at a time, one of them speaks. For main() alone.
  [[noreturn]] void fail(const std::string& message) const { end(message, exit_failure); }
  /// A mistake of the user. Where all ranks meet one before any work, rank 0 says its `message` and
  /// each returns exit code 2. What this rank has met alone (a file that others do not read, one of
  /// its requests) is told and ends all ranks as in fail(): with exit code 2 before any work, after
  /// a few seconds in which the others may come; with 1 and at once when work has begun, that is,
  /// when enter() named another activity than start-up. For main() alone.
  int refuse(const std::string& message) const;

 private:
  World();
  [[noreturn]] void end(const std::string& message, int exit_code) const;
  int role_size(Role role) const;
  int first_rank(Role role) const;
  int copies_color() const;
  Role owner_of_unit(Role role) const;

  bool finalise_ = false;
  bool at_work_ = false;
  int node_rank_ = 0, node_ranks_ = 1;
  std::unique_ptr<Board> board_;  // before the communicators, which point to it
  RankPlan plan_;
  Communicator all_, policy_, copies_;
  Communicator refusals_;  // all ranks, of which some may never come
  Communicator roles_[3], units_[3], across_[3];
};

}  // namespace fst
