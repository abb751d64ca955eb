#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "fst/comm/communicator.h"
#include "fst/comm/mpi.h"

namespace fst {

class Board;
class NcclChannel;

/// patient: a partner may be busy for minutes, so the core is given away between tests.
/// device: as patient, but a GPU may first have work of milliseconds to do.
/// eager: all partners are there and data is moving, so only yield.
enum class Pace { patient, device, eager };

/// What a rank waits for: the kind of call, the thing that is moved, and the number of the wait,
/// which is the same on all members.
struct Wait {
  const char* operation;
  std::string_view what;
  std::int64_t number;
};

struct Communicator::Channel {
  Channel(MPI_Comm communicator, std::string called);
  Channel(const Channel&) = delete;
  Channel& operator=(const Channel&) = delete;
  ~Channel();

  /// The next wait. What goes with it is done at once, or later by poll().
  Wait next(const char* operation, std::string_view what) const {
    return {operation, what, ++waits};
  }
  /// Returns when all requests are complete; throws Error after `deadline` seconds. `operation` is
  /// the kind of call, `what` the thing that is moved.
  void wait(std::span<MPI_Request> requests, const char* operation, std::string_view what,
            Pace pace = Pace::patient) const;
  /// The same until done() says so; what it throws goes through.
  void poll(const Wait& wait, const std::function<bool()>& done, Pace pace) const;
  /// For messages of those that fail later.
  void note_completed(const Wait& wait) const;
  /// Waits patiently until all members have come to this operation.
  void gather_round(const char* operation, std::string_view what) const;
  /// Notes one call that moved this many bytes, or that does where what it is part of is replayed.
  void count(std::string_view what, std::int64_t sent, std::int64_t received) const;

  MPI_Comm comm = MPI_COMM_NULL;  // null: one member, no MPI
  int rank = 0;
  int size = 1;
  std::string name;
  std::uint64_t id = 1;  // another one for each communicator, the same on its members
  std::string host;
  Board* board = nullptr;  // of the World; none for a communicator of one process
  double deadline = 600;
  std::int64_t chunk_bytes = std::int64_t{1} << 30;
  mutable std::int64_t waits = 0;     // begun so far; the same on all members at the same place
  mutable std::string last = "none";  // the last completed one
  mutable TrafficTable traffic;
  mutable TrafficTable* recorded = nullptr;    // where calls are counted while they are recorded
  std::string against_nccl = "not connected";  // why tensors go through the host; "": they do not
  mutable std::unique_ptr<NcclChannel> nccl;   // once tensors have gone by it

  /// For messages: "communicator learner across, its rank 0 of 2, host n1"
  std::string place() const;

 private:
  [[noreturn]] void give_up(const Wait& wait, double seconds) const;
};

std::string host_name();

}  // namespace fst
