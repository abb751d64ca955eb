#include "fst/comm/world.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <numeric>
#include <string>

#include "fst/base/error.h"
#include "fst/base/log.h"

#include "board.h"
#include "channel.h"

namespace fst {

namespace {

// Ranks that meet the same mistake may be this far apart, s: each reads a model from a shared disk.
constexpr double refusal_patience = 10;

constexpr Role all_roles[] = {Role::rollout, Role::reflection, Role::learner};

std::size_t number(Role role) {
  return static_cast<std::size_t>(role);
}

void check_role(std::vector<std::string>& problems, Role role, const RolePlan& plan, int ranks) {
  const std::string name = name_of(role);
  if (plan.tp != 1 && plan.tp != 2 && plan.tp != 4 && plan.tp != 8) {
    problems.push_back(name + ".tp is " + std::to_string(plan.tp) + "; expected 1, 2, 4 or 8");
  } else if (ranks > 0 && ranks % plan.tp != 0) {
    problems.push_back(name + ".tp = " + std::to_string(plan.tp) + " does not divide the " +
                       std::to_string(ranks) + " " + name + " ranks");
  }
}

/// "learner unit", or "unit" of colocated roles that share it.
std::string name_of_unit(const RankPlan& plan, Role role) {
  const bool shared = std::count_if(std::begin(all_roles), std::end(all_roles), [&](Role other) {
                        return plan.of(other).tp == plan.of(role).tp;
                      }) > 1;
  return plan.colocated() && shared ? "unit" : std::string(name_of(role)) + " unit";
}

}  // namespace

const char* name_of(Role role) {
  constexpr const char* names[] = {"rollout", "reflection", "learner"};
  return names[number(role)];
}

bool RankPlan::colocated() const {
  return rollout.ranks == 0 && reflection.ranks == 0 && learner.ranks == 0;
}

const RolePlan& RankPlan::of(Role role) const {
  if (role == Role::rollout) return rollout;
  return role == Role::reflection ? reflection : learner;
}

std::vector<std::string> problems_of(const RankPlan& plan, int world_size) {
  std::vector<std::string> problems;
  int sum = 0;
  bool negative = false;
  for (const Role role : all_roles) {
    const int ranks = plan.of(role).ranks;
    if (ranks < 0) {
      problems.push_back(std::string("ranks.") + name_of(role) + " is " + std::to_string(ranks) +
                         "; expected 0 or more");
      negative = true;
    }
    sum += ranks;
    check_role(problems, role, plan.of(role), plan.colocated() ? world_size : ranks);
  }
  if (!negative && !plan.colocated() && sum != world_size) {
    problems.push_back(
        "ranks.rollout + ranks.reflection + ranks.learner = " + std::to_string(plan.rollout.ranks) +
        " + " + std::to_string(plan.reflection.ranks) + " + " + std::to_string(plan.learner.ranks) +
        " = " + std::to_string(sum) + ", but the job has " + std::to_string(world_size) +
        " ranks (all three 0: every rank has every role)");
  }
  return problems;
}

World::World() = default;

World::World(int& argc, char**& argv) {
  int initialized = 0;
  FST_MPI_CHECK(MPI_Initialized(&initialized));
  if (initialized == 0) {
    int provided = MPI_THREAD_SINGLE;
    FST_MPI_CHECK(MPI_Init_thread(&argc, &argv, MPI_THREAD_FUNNELED, &provided));
    finalise_ = true;
    if (provided < MPI_THREAD_FUNNELED) {
      throw Error("MPI offers no threads beside the one that communicates");
    }
  }
  FST_MPI_CHECK(MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN));
  int size = 0;
  FST_MPI_CHECK(MPI_Comm_size(MPI_COMM_WORLD, &size));
  MPI_Comm own = MPI_COMM_NULL;
  if (size > 1) FST_MPI_CHECK(MPI_Comm_dup(MPI_COMM_WORLD, &own));
  if (size > 1) {
    MPI_Comm node = MPI_COMM_NULL;
    FST_MPI_CHECK(MPI_Comm_split_type(own, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &node));
    FST_MPI_CHECK(MPI_Comm_rank(node, &node_rank_));
    FST_MPI_CHECK(MPI_Comm_size(node, &node_ranks_));
    FST_MPI_CHECK(MPI_Comm_free(&node));
  }
  auto channel = std::make_unique<Communicator::Channel>(own, "all");
  board_ = size > 1 ? std::make_unique<Board>(own) : std::make_unique<Board>();
  channel->board = board_.get();
  all_ = Communicator(std::move(channel));
  refusals_ = all_.subset(0, all_.rank(), "refusals");
  refusals_.set_deadline(refusal_patience);
  log::set_rank(all_.rank());
}

World World::alone() {
  World world;
  world.board_ = std::make_unique<Board>();
  world.all_ = Communicator::self();
  world.refusals_ = Communicator::self();
  world.split({});
  return world;
}

World::World(World&& other) noexcept
    : finalise_(other.finalise_),
      at_work_(other.at_work_),
      node_rank_(other.node_rank_),
      node_ranks_(other.node_ranks_),
      board_(std::move(other.board_)),
      plan_(other.plan_),
      all_(std::move(other.all_)),
      policy_(std::move(other.policy_)),
      copies_(std::move(other.copies_)),
      refusals_(std::move(other.refusals_)) {
  other.finalise_ = false;
  for (const Role role : all_roles) {
    const std::size_t i = number(role);
    roles_[i] = std::move(other.roles_[i]);
    units_[i] = std::move(other.units_[i]);
    across_[i] = std::move(other.across_[i]);
  }
}

World::~World() {
  if (board_) board_->leave();
  for (const Role role : all_roles) {
    const std::size_t i = number(role);
    across_[i] = {};
    units_[i] = {};
    roles_[i] = {};
  }
  copies_ = {};
  policy_ = {};
  refusals_ = {};
  const double deadline = all_.deadline();
  all_ = {};
  if (!finalise_) return;
  board_->begin_blocking("the end of all ranks", deadline);
  if (MPI_Finalize() != MPI_SUCCESS) log::warn("MPI_Finalize failed");
  board_->end_blocking();
}

void World::split(const RankPlan& plan) {
  const auto problems = problems_of(plan, all_.size());
  if (!problems.empty()) {
    std::string text;
    for (const auto& problem : problems) text += (text.empty() ? "" : "\n") + problem;
    throw InputError(text);
  }
  plan_ = plan;
  const int me = all_.rank();
  for (const Role role : all_roles) {
    const std::size_t i = number(role);
    const std::string name = name_of(role);
    const int place = me - first_rank(role);
    const bool in = place >= 0 && place < role_size(role);
    roles_[i] = all_.subset(in ? 0 : -1, me, name);
    const int tp = plan.of(role).tp;
    const bool owner = owner_of_unit(role) == role;
    units_[i] = roles_[i].subset(owner ? place / tp : -1, me, name_of_unit(plan, role));
    across_[i] = roles_[i].subset(place % tp, me, name + " across");
  }
  const bool in = roles_[number(Role::learner)].member() || roles_[number(Role::rollout)].member();
  policy_ = all_.subset(in ? 0 : -1, me, "policy");
  const int learner_first = learner().member() ? 0 : 1;
  copies_ = policy_.subset(copies_color(), learner_first, "policy copies");
}

/// The shard that this rank holds, of the learner unit that it is in or that serves it.
int World::copies_color() const {
  const int tp = plan_.learner.tp;
  if (plan_.colocated() || tp != plan_.rollout.tp || units(Role::learner) == 0) return -1;
  if (learner().member()) return learner().rank();
  return rollout().rank() / tp % units(Role::learner) * tp + rollout().rank() % tp;
}

void World::connect(const Device& device, DeviceExchange exchange) {
  if (exchange == DeviceExchange::nccl && device.on_host()) {
    throw InputError("engine.exchange = nccl: the device is the CPU; use auto or host");
  }
  all_.connect(device, exchange);
  policy_.connect(device, exchange);
  copies_.connect(device, exchange);
  for (const Role role : all_roles) {
    const std::size_t i = number(role);
    roles_[i].connect(device, exchange);
    units_[i].connect(device, exchange);
    across_[i].connect(device, exchange);
  }
}

std::string World::exchange() const {
  const std::string against = all_.against_nccl();
  if (against.empty()) return "by NCCL " + nccl_support();
  const auto by_nccl = [](const Communicator& c) {
    return c.size() > 1 && c.against_nccl().empty();
  };
  bool some = by_nccl(policy_) || by_nccl(copies_);
  for (const Role role : all_roles) {
    const std::size_t i = number(role);
    some = some || by_nccl(units_[i]) || by_nccl(across_[i]) || by_nccl(roles_[i]);
  }
  const std::string through = "through the host's memory (" + against + ")";
  return some ? "by NCCL " + nccl_support() + " and, in groups that share a GPU, " + through
              : through;
}

int World::role_size(Role role) const {
  return plan_.colocated() ? all_.size() : plan_.of(role).ranks;
}

int World::first_rank(Role role) const {
  if (plan_.colocated() || role == Role::rollout) return 0;
  return plan_.rollout.ranks + (role == Role::learner ? plan_.reflection.ranks : 0);
}

const Communicator& World::role(Role role) const {
  return roles_[number(role)];
}
Role World::owner_of_unit(Role role) const {
  if (!plan_.colocated()) return role;
  return *std::find_if(std::begin(all_roles), std::end(all_roles),
                       [&](Role other) { return plan_.of(other).tp == plan_.of(role).tp; });
}

const Communicator& World::unit(Role role) const {
  return units_[number(owner_of_unit(role))];
}
const Communicator& World::across(Role role) const {
  return across_[number(role)];
}
int World::units(Role role) const {
  return role_size(role) / plan_.of(role).tp;
}

int World::world_rank(Role role, int role_rank) const {
  if (role_rank < 0 || role_rank >= role_size(role)) {
    throw Error(std::string(name_of(role)) + " has " + std::to_string(role_size(role)) +
                " ranks, none is number " + std::to_string(role_rank));
  }
  return first_rank(role) + role_rank;
}

std::vector<int> World::policy_ranks(Role role) const {
  const bool behind = !plan_.colocated() && role == Role::learner;
  std::vector<int> ranks(static_cast<std::size_t>(role_size(role)));
  std::iota(ranks.begin(), ranks.end(), behind ? plan_.rollout.ranks : 0);
  return ranks;
}

std::string World::layout() const {
  std::string text = std::to_string(all_.size()) + (all_.size() == 1 ? " rank" : " ranks");
  if (plan_.colocated()) text += ", colocated";
  const char* separator = plan_.colocated() ? ", " : ": ";
  for (const Role role : all_roles) {
    const RolePlan& plan = plan_.of(role);
    if (plan_.colocated() && plan.tp == 1) continue;
    text += separator;
    if (!plan_.colocated()) text += std::to_string(plan.ranks) + " ";
    text += name_of(role);
    if (plan.tp > 1) text += " tp " + std::to_string(plan.tp);
    separator = ", ";
  }
  return text;
}

std::string World::host() const {
  return all_.channel().host;
}

void World::expect_same(std::uint64_t fingerprint, std::string_view what) const {
  const auto parts = all_.all_gather(std::as_bytes(std::span(&fingerprint, 1)), what);
  std::string differing;
  for (std::size_t r = 1; r < parts.size(); ++r) {
    if (parts[r] != parts[0]) differing.append(" ").append(std::to_string(r));
  }
  if (differing.empty()) return;
  throw Error(std::string(what) + " differs between ranks: not as on rank 0 are" + differing +
              " (this rank: " + std::to_string(fingerprint) + ")");
}

std::vector<TrafficRow> World::traffic() const {
  std::vector<const Communicator*> communicators{&all_, &policy_, &copies_};
  for (const Role role : all_roles) {
    const std::size_t i = number(role);
    for (const Communicator* c : {&roles_[i], &units_[i], &across_[i]}) communicators.push_back(c);
  }
  std::vector<TrafficRow> rows;
  for (const Communicator* communicator : communicators) {
    for (const auto& [what, traffic] : communicator->traffic()) {
      rows.push_back({communicator->name(), what, traffic});
    }
  }
  return rows;
}

void World::set_deadline(double seconds) {
  all_.set_deadline(seconds);
  refusals_.set_deadline(std::min(refusal_patience, seconds / 2));  // the first to speak
  policy_.set_deadline(seconds);
  copies_.set_deadline(seconds);
  for (const Role role : all_roles) {
    const std::size_t i = number(role);
    roles_[i].set_deadline(seconds);
    units_[i].set_deadline(seconds);
    across_[i].set_deadline(seconds);
  }
}

void World::enter(Activity activity, std::int64_t step) {
  at_work_ = at_work_ || activity > Activity::start_up;
  board_->enter(activity, step);
}

int World::refuse(const std::string& message) const {
  if (at_work_) fail(message);
  try {
    refusals_.barrier("the refusal of the same by all ranks");
  } catch (const Error&) {  // the others have work: this rank knows why there will be none
    end(message, exit_bad_input);
  }
  if (all_.rank() == 0) std::fprintf(stderr, "fst: %s\n", message.c_str());
  return exit_bad_input;
}

void World::end(const std::string& message, int exit_code) const {
  const bool mine = board_->report(board_->here() + ": " + message);
  int initialized = 0;
  if (mine && MPI_Initialized(&initialized) == MPI_SUCCESS && initialized != 0) {
    MPI_Abort(MPI_COMM_WORLD, exit_code);
  }
  std::_Exit(exit_code);
}

}  // namespace fst
