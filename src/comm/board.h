#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "fst/comm/mpi.h"
#include "fst/comm/world.h"

namespace fst {

/// Where each rank of this node is, in memory that they share: it can be read when its owner is
/// stopped or dead. A failure is therefore reported with the places of those who caused it, and
/// once per node instead of once per rank. A thread that sleeps otherwise learns from the kernel
/// when a rank of the node dies, and looks every second after calls that block.
class Board {
 public:
  /// One rank without MPI.
  Board();
  /// Collective over `all`.
  explicit Board(MPI_Comm all);
  Board(const Board&) = delete;
  Board& operator=(const Board&) = delete;
  ~Board();

  /// What the owner does from now on.
  void enter(Activity activity, std::int64_t step);
  /// The owner waits for `what`: wait `number` of the communicator with this id.
  void begin_wait(std::uint64_t communicator, std::int64_t number, std::string_view what);
  void end_wait();
  /// The owner calls something that blocks: beyond `seconds` the thread ends the process, which
  /// ends the job.
  void begin_blocking(std::string_view what, double seconds);
  void end_blocking();
  /// The owner goes by its own will: its end is no failure.
  void leave();

  /// "rank 2 of 4 on node n, in learning of step 5"
  std::string here() const;
  /// The other ranks of this node that keep wait `number` of a communicator from ending, as far as
  /// can be seen from here.
  std::string late_for(std::uint64_t communicator, std::int64_t number);
  /// A rank of this node died: nothing will be completed any more.
  bool broken() const { return broken_.load(std::memory_order_relaxed); }

  /// Prints "fst: <text>" unless another rank has reported a failure. True if this rank has: it
  /// ends the job. False: another one does; returns after giving it time for that.
  bool report(const std::string& text);

 private:
  static constexpr std::size_t text_words = 16;
  struct Slot {
    std::atomic<std::int64_t> rank{0}, process{0}, process_space{0}, left{0};
    std::atomic<std::int64_t> activity{0}, step{0}, activity_began{0};
    std::atomic<std::int64_t> wait_number{0}, wait_began{0};  // number 0: none
    std::atomic<std::uint64_t> wait_communicator{0};
    std::array<std::atomic<std::uint64_t>, text_words> wait_text{};
  };
  struct Header {
    std::atomic<std::int64_t> claimed{0};   // world rank + 1 of who reports
    std::atomic<std::int64_t> reported{0};  // 1: the report is printed
  };

  Slot& mine() { return slots_[me_]; }
  std::string name_of_rank(const Slot& slot) const;
  void share(MPI_Comm node);
  void watch_neighbours();
  void watch();
  void report_death(const Slot& slot);
  void end_if_overdue();
  bool claim();

  int ranks_ = 1, nodes_ = 1, node_ = 0;
  std::string host_;
  std::size_t me_ = 0;
  Header own_header_;  // where there is no memory to share
  Slot own_slot_;
  Header* header_ = nullptr;
  std::span<Slot> slots_;
  void* memory_ = nullptr;
  std::size_t bytes_ = 0;
  std::vector<int> descriptors_;  // of the neighbours' processes; -1: not watched
  int stop_ = -1;                 // written to end the thread
  std::thread watcher_;
  std::atomic<bool> broken_{false};
  std::atomic<bool> blameless_{false};       // the late rank is on another node
  std::atomic<std::int64_t> overdue_at_{0};  // of what blocks; 0: nothing does
};

}  // namespace fst
