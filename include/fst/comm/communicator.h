#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "fst/comm/device_exchange.h"
#include "fst/comm/traffic.h"
#include "fst/tensor/tensor.h"

#include "kernels/exact_sum.h"

namespace fst {

/// A contiguous piece of memory that goes to, or comes from, rank `peer`.
struct Outgoing {
  int peer;
  std::span<const std::byte> bytes;
};
struct Incoming {
  int peer;
  std::span<std::byte> bytes;
};

/// A contiguous tensor that goes to each of the ranks `peers`, or comes from rank `peer`.
struct OutgoingTensor {
  std::vector<int> peers;
  Tensor x;
};
struct IncomingTensor {
  int peer;
  Tensor x;
};

class NcclChannel;

/// A group of ranks that talk to each other. A rank outside holds an empty one (member() is false).
///
/// Every operation is collective over the members unless it says otherwise. On an empty
/// communicator, and with one member, every operation returns at once. `what` names the thing that
/// is moved ("rewards", "policy weights"): a wait is non-blocking, gives its core away after 50 us,
/// and after deadline() seconds throws Error with the operation, `what`, rank and host; the world
/// is then beyond repair and the caller lets main() end it. Floats are only moved, never reduced,
/// so that no bit depends on the number of ranks. The element type is free (trivially copyable; all
/// machines alike); sizes beyond 2^31 bytes are cut into chunks.
class Communicator {
 public:
  Communicator();
  Communicator(Communicator&&) noexcept;
  Communicator& operator=(Communicator&&) noexcept;
  Communicator(const Communicator&) = delete;
  Communicator& operator=(const Communicator&) = delete;
  ~Communicator();

  /// One member, this process. Needs no MPI; what tests and verbs without ranks use.
  static Communicator self();
  /// The members with the same `color`, ordered by `key`, then by rank; empty where color < 0.
  Communicator subset(int color, int key, std::string name) const;

  bool member() const { return channel_ != nullptr; }
  /// 0 .. size() - 1; -1 where this rank is not a member.
  int rank() const;
  /// Number of members; 0 where this rank is not one.
  int size() const;
  /// For messages: "all", "learner", ...; empty where not a member.
  std::string name() const;
  /// Seconds until a wait gives up. Default 600.
  double deadline() const;
  void set_deadline(double seconds);
  /// The most bytes one MPI call moves. Default 2^30; tests lower it to see the cutting at work.
  void set_chunk_bytes(std::int64_t bytes);

  /// Everybody gets root's elements; the same number on every member.
  template <class T>
  requires std::is_trivially_copyable_v<T>
  void broadcast(std::span<T> x, int root, std::string_view what) const {
    broadcast_bytes(std::as_writable_bytes(x), root, what);
  }
  /// The same for a text of any length, which need not be known elsewhere.
  void broadcast(std::string& text, int root, std::string_view what) const;

  /// Elementwise sum, in place, modulo 2^64: exact whatever the order.
  void all_reduce_sum(std::span<std::int64_t> x, std::string_view what) const;
  void all_reduce_sum(std::span<std::uint64_t> x, std::string_view what) const;
  /// The sum of all members' sums, exact.
  void all_reduce_sum(kernels::ExactSum& sum, std::string_view what) const;
  /// Elementwise maximum, in place. Doubles must not be NaN.
  void all_reduce_max(std::span<std::int64_t> x, std::string_view what) const;
  void all_reduce_max(std::span<double> x, std::string_view what) const;

  /// What each member gave, by rank; lengths may differ. On an empty communicator: empty.
  std::vector<std::vector<std::byte>> all_gather(std::span<const std::byte> mine,
                                                 std::string_view what) const;
  /// The same where all lengths are equal, into memory that the caller has: all = the members'
  /// `mine` one after the other. They must not overlap. For small pieces this is the quickest
  /// operation: one round and no allocation.
  void all_gather_into(std::span<std::byte> all, std::span<const std::byte> mine,
                       std::string_view what) const;
  /// all_to_all: `to[r]` goes to rank r (size() entries); returns what each rank sent here, by
  /// rank.
  std::vector<std::vector<std::byte>> exchange(std::span<const std::vector<std::byte>> to,
                                               std::string_view what) const;
  /// Moves memory pieces whose sizes both sides know, as resharding and gradient sums do. Between
  /// two ranks (a rank and itself too) the i-th outgoing piece meets the i-th incoming one, of the
  /// same length. Members with nothing to move call it with empty lists. Pieces of one rank must
  /// not overlap.
  void transfer(std::span<const Outgoing> out, std::span<const Incoming> in,
                std::string_view what) const;
  /// The same for contiguous tensors, each to one rank or several. By NCCL it is queued: complete
  /// for what is queued on the device later, and the tensors' memory may be used so; who waits for
  /// the device waits for it, with the deadline, and meets what went wrong. Otherwise complete when
  /// it returns. On GPUs the tensors of all members are on their devices of connect().
  void transfer(std::span<const OutgoingTensor> out, std::span<const IncomingTensor> in,
                std::string_view what) const;
  /// all = the members' `mine` one after the other, by rank: contiguous tensors of one dtype that
  /// do not overlap; complete as above. Throws Error where the sizes do not fit.
  void all_gather_into(Tensor& all, const Tensor& mine, std::string_view what) const;
  /// Everybody's x = root's: contiguous, of one dtype and size on all members; complete as above.
  void broadcast(Tensor& x, int root, std::string_view what) const;
  /// Chooses how the three operations above move tensors: by NCCL where every member has a GPU of
  /// its own in `device`, else through the host's memory, as before the first call. Throws
  /// InputError where NCCL is asked for and cannot be. Moves nothing that traffic() counts.
  void connect(const Device& device, DeviceExchange exchange);
  /// Why tensors do not travel by NCCL, the same on every member; "": they do.
  std::string against_nccl() const;

  /// Returns when all members have come.
  void barrier(std::string_view what) const;

  /// True if `mine` is true on every member (on an empty communicator: `mine`).
  bool all_of(bool mine, std::string_view what) const;

  /// What this rank has moved through this communicator so far. Empty with fewer than two members.
  const TrafficTable& traffic() const;

  /// While it lives, this rank may be inside calls that block (MPI itself, or HDF5 on top of it)
  /// for deadline() seconds; beyond, the job ends with `what` in the report. Not collective.
  class Blocking {
   public:
    Blocking(const Communicator& comm, std::string_view what);
    Blocking(const Blocking&) = delete;
    Blocking& operator=(const Blocking&) = delete;
    ~Blocking();

   private:
    const Communicator* comm_;
  };

  struct Channel;  // the MPI side, src/comm/channel.h
  const Channel& channel() const { return *channel_; }

 private:
  explicit Communicator(std::unique_ptr<Channel> channel);
  friend class World;
  void broadcast_bytes(std::span<std::byte> x, int root, std::string_view what) const;
  void count_broadcast(std::int64_t bytes, int root, std::string_view what) const;
  // The movement alone, without a place in traffic().
  void move_from(int root, std::span<std::byte> x, std::string_view what) const;
  void move_pieces(std::span<const Outgoing> out, std::span<const Incoming> in,
                   std::string_view what) const;
  void move_staged(std::span<const OutgoingTensor> out, std::span<const IncomingTensor> in,
                   std::string_view what) const;
  std::vector<std::vector<std::byte>> gather_parts(std::span<const std::byte> mine,
                                                   std::string_view what) const;
  NcclChannel* nccl() const;

  std::unique_ptr<Channel> channel_;
};

}  // namespace fst
