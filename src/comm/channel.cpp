#include "channel.h"

#include <array>
#include <sched.h>
#include <time.h>
#include <unistd.h>

#include "fst/base/clock.h"
#include "fst/base/error.h"

#include "board.h"
#include "nccl_channel.h"

namespace fst {

namespace {
constexpr double spin_seconds = 50e-6;  // a small message between awake ranks takes 1 to 20 us
constexpr double device_spin_seconds = 2e-3;  // a training step's kernels between two exchanges
constexpr long sleep_nanoseconds = 100'000;   // toolchain notes: waiting ranks then cost no core
constexpr int tests_per_clock = 16;           // reading the clock is dearer than a test

}  // namespace

void mpi_check(int code, const char* call, const char* file, int line) {
  if (code == MPI_SUCCESS) return;
  std::array<char, MPI_MAX_ERROR_STRING> text{};
  int length = 0;
  if (MPI_Error_string(code, text.data(), &length) != MPI_SUCCESS) length = 0;
  throw Error(std::string(call) + ": " +
              std::string(text.data(), static_cast<std::size_t>(length)) + " (" + file + ":" +
              std::to_string(line) + ")");
}

std::string host_name() {
  std::array<char, 256> name{};
  if (gethostname(name.data(), name.size() - 1) != 0) return "unknown host";
  return name.data();
}

Communicator::Channel::Channel(MPI_Comm communicator, std::string called)
    : comm(communicator), name(std::move(called)), host(host_name()) {
  if (comm == MPI_COMM_NULL) return;
  FST_MPI_CHECK(MPI_Comm_set_errhandler(comm, MPI_ERRORS_RETURN));
  FST_MPI_CHECK(MPI_Comm_rank(comm, &rank));
  FST_MPI_CHECK(MPI_Comm_size(comm, &size));
}

Communicator::Channel::~Channel() {
  nccl.reset();  // before the members part
  int finalized = 1;
  if (comm == MPI_COMM_NULL || MPI_Finalized(&finalized) != MPI_SUCCESS || finalized != 0) return;
  MPI_Comm_free(&comm);
}

void Communicator::Channel::wait(std::span<MPI_Request> requests, const char* operation,
                                 std::string_view what, Pace pace) const {
  const auto done = [&] {
    int all = 0;
    FST_MPI_CHECK(
        MPI_Testall(static_cast<int>(requests.size()), requests.data(), &all, MPI_STATUSES_IGNORE));
    return all != 0;
  };
  const Wait wait = next(operation, what);
  poll(wait, done, pace);
  note_completed(wait);
}

void Communicator::Channel::note_completed(const Wait& wait) const {
  last = std::string(wait.operation) + " of " + std::string(wait.what);
}

void Communicator::Channel::poll(const Wait& wait, const std::function<bool()>& done,
                                 Pace pace) const {
  const Stopwatch clock;
  const double spin = pace == Pace::device ? device_spin_seconds : spin_seconds;
  bool noted = false;  // on the board, which is for long waits
  double waited = 0;
  for (std::int64_t tests = 1; !done(); ++tests) {
    const bool sleeping = pace != Pace::eager && waited >= spin;
    if (sleeping) {
      const timespec pause{0, sleep_nanoseconds};
      nanosleep(&pause, nullptr);
    } else if (pace != Pace::patient) {
      sched_yield();
    }
    if (sleeping || tests % tests_per_clock == 0) {
      waited = clock.seconds();
      if (board != nullptr && !noted && waited >= spin_seconds) {
        board->begin_wait(id, wait.number, wait.what);
        noted = true;
      }
      if (board != nullptr && board->broken()) throw Error("another rank died");
      if (waited > deadline) give_up(wait, waited);
    }
  }
  if (noted) board->end_wait();  // not where it failed: there this rank still waits
}

void Communicator::Channel::gather_round(const char* operation, std::string_view what) const {
  MPI_Request request = MPI_REQUEST_NULL;
  FST_MPI_CHECK(MPI_Ibarrier(comm, &request));
  wait({&request, 1}, operation, what);
}

void Communicator::Channel::count(std::string_view what, std::int64_t sent,
                                  std::int64_t received) const {
  TrafficTable& table = recorded == nullptr ? traffic : *recorded;
  auto entry = table.find(what);
  if (entry == table.end()) entry = table.try_emplace(traffic_name(what)).first;
  entry->second += Traffic{1, sent, received};
}

std::string Communicator::Channel::place() const {
  return "communicator " + name + ", its rank " + std::to_string(rank) + " of " +
         std::to_string(size) + ", host " + host;
}

void Communicator::Channel::give_up(const Wait& wait, double seconds) const {
  throw Error("waited " + std::to_string(static_cast<std::int64_t>(seconds)) + " s for " +
              std::string(wait.what) + " (" + wait.operation + ", wait " +
              std::to_string(wait.number) + " of communicator " + name + ") on its rank " +
              std::to_string(rank) + " of " + std::to_string(size) + ", host " + host +
              "; the last one completed was " + last + "; " +
              (board == nullptr ? "another rank is late" : board->late_for(id, wait.number)));
}

}  // namespace fst
