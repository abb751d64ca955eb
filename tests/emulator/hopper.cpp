#include <algorithm>
#include <cstring>
#include <deque>
#include <map>

#include "emulate_hopper.h"
#include "machine.h"

namespace fst::emulator {
namespace {

using kernels::Lies;
using kernels::gpu::Barrier;
using kernels::gpu::TensorMap;

constexpr int group_size = 128, group_rows = 64, depth = 16, box_bytes = 128;
constexpr int box_columns = 64;
constexpr std::size_t piece = 16;

struct BarrierState {
  int arrivals = 0, pending = 0;
  std::int64_t bytes = 0;
  std::uint64_t phase = 0;
  std::vector<unsigned> waiting;
  std::vector<Stamp> brought, complete;  // what the arrivals of a phase know; of the last full one
};

struct Load {
  unsigned char* to;
  TensorMap map;
  Barrier* barrier;
  std::int64_t column, row;
  unsigned issuer;
  Stamp issued;
};

struct Multiply {
  float* sums[group_size];
  GroupOperands of;
  Place place;
};

struct Group {
  std::deque<std::vector<Multiply>> committed;
  std::vector<Multiply> open;
};

struct Hopper {
  std::map<const Barrier*, BarrierState> barriers;
  std::vector<Load> loads;  // under way
  std::map<unsigned, Group> groups;
};
Hopper hopper;

bool early() {
  return schedule() % 2 == 1;
}
Group& own_group() {
  return hopper.groups[current_thread() / group_size];
}

BarrierState& state_of(const Barrier& barrier, const char* word, const Place& place) {
  const auto found = hopper.barriers.find(&barrier);
  if (found == hopper.barriers.end()) {
    fail(std::string(word) + " at " + text_of(place) + " of a barrier that was not initialised");
  }
  return found->second;
}

void complete_if_done(BarrierState& state) {
  if (state.pending > 0 || state.bytes != 0) return;
  state.pending = state.arrivals;
  ++state.phase;
  state.complete = state.brought;
  for (const unsigned thread : state.waiting) wake(thread);
  state.waiting.clear();
}

std::size_t swizzled(std::size_t offset) {
  return offset ^ (offset >> 7 & 7) << 4;
}

/// visit(piece of the box in shared memory, where it comes from; nullptr: outside the matrix).
template <class Visit>
void visit_pieces(const Load& load, const Visit& visit) {
  const std::size_t start = static_cast<std::size_t>(load.to - shared_pages().start);
  for (std::int64_t r = 0; r < load.map.box_rows; ++r) {
    for (std::int64_t p = 0; p < 8; ++p) {
      const std::int64_t row = load.row + r, column = load.column + 8 * p;
      const bool inside =
          row >= 0 && row < load.map.rows && column >= 0 && column < load.map.columns;
      const auto* const from = static_cast<const std::uint16_t*>(load.map.base);
      const auto offset = static_cast<std::size_t>(r * box_bytes + p * static_cast<int>(piece));
      visit(shared_pages().start + swizzled(start + offset),
            inside ? from + row * load.map.stride + column : nullptr);
    }
  }
}

void transfer(const Load& load) {
  visit_pieces(load, [](unsigned char* to, const std::uint16_t* from) {
    if (from != nullptr) {
      std::memcpy(to, from, piece);
    } else {
      std::memset(to, 0, piece);
    }
  });
}

void land(const Load& load) {
  if (!early()) transfer(load);
  BarrierState& state = hopper.barriers[load.barrier];
  if (checking()) {
    visit_pieces(load, [](unsigned char* to, const std::uint16_t* from) {
      mark_copy(to, from, piece, false);
    });
    Stamp& brought = state.brought[load.issuer];
    brought = std::max(brought, load.issued);
  }
  state.bytes -= load.map.box_rows * box_bytes;
  complete_if_done(state);
}

/// A piece of an operand, where it must be: of eight inner indices of an output, or eight outputs.
const std::uint16_t* read_piece(std::size_t offset, const Place& place) {
  const unsigned char* const from = shared_pages().start + swizzled(offset);
  if (!shared_pages().holds(from, piece))
    fail("group_multiply at " + text_of(place) + " of " + describe_address(from));
  return reinterpret_cast<const std::uint16_t*>(from);
}

/// Charged to lane 0 of each warp that uses it; warp -1: of all four.
void check_read(const std::uint16_t* from, int warp, const Place& place) {
  if (!checking()) return;
  const Current self = current;
  for (unsigned w = 0; w < 4; ++w) {
    if (warp >= 0 && static_cast<unsigned>(warp) != w) continue;
    current.thread = self.thread / group_size * group_size + 32u * w;
    check_access(from, piece, Access::read, place);
  }
  current = self;
}

/// [outputs][16] of what a descriptor names; warp_of(output): whose it is, or -1. `counted`: once.
template <class WarpOf>
std::vector<std::uint16_t> read_operand(std::uint64_t descriptor, Lies lies, int outputs,
                                        bool counted, const Place& place, const WarpOf& warp_of) {
  const auto field = [&](int bit) {
    return static_cast<std::size_t>((descriptor >> bit & 0x3fff) << 4);
  };
  const std::size_t start = field(0), next_outputs = field(16), next_eight = field(32);
  std::vector<std::uint16_t> to(static_cast<std::size_t>(outputs * depth));
  const auto rows = static_cast<std::size_t>(lies == Lies::inner ? outputs : depth);
  const auto pieces = static_cast<std::size_t>(lies == Lies::inner ? depth : outputs) / 8;
  for (std::size_t r = 0; r < rows; ++r) {
    for (std::size_t p = 0; p < pieces; ++p) {
      const std::size_t row = start + r / 8 * next_eight + r % 8 * box_bytes;
      constexpr std::size_t across = box_columns / 8;
      const auto* const from =
          read_piece(row + p / across * next_outputs + p % across * piece, place);
      check_read(from, warp_of(static_cast<int>(lies == Lies::inner ? r : 8 * p)), place);
      if (counted) count_access(from, piece, Access::read);
      for (std::size_t e = 0; e < 8; ++e) {
        to[lies == Lies::inner ? r * depth + 8 * p + e : (8 * p + e) * depth + r] = from[e];
      }
    }
  }
  return to;
}

void perform(const Multiply& multiply, bool arithmetic) {
  const GroupOperands& of = multiply.of;
  const bool counted = counting && arithmetic;
  const auto a = read_operand(of.a, of.a_lies, group_rows, counted, multiply.place,
                              [](int output) { return output / 16; });
  const auto b =
      read_operand(of.b, of.b_lies, of.columns, counted, multiply.place, [](int) { return -1; });
  if (!arithmetic) return;
  const auto element = [&](int r, int c) -> float& {
    return multiply.sums[r / 16 * 32 + r % 8 * 4 + c % 8 / 2][c / 8 * 4 + r % 16 / 8 * 2 + c % 2];
  };
  std::vector<float> sum;
  for (int i = 0; i < group_rows * of.columns; ++i) {
    sum.push_back(element(i / of.columns, i % of.columns));
  }
  multiply_tile(a.data(), group_rows, b.data(), of.columns, sum.data());
  for (int i = 0; i < group_rows * of.columns; ++i) {
    element(i / of.columns, i % of.columns) = sum[static_cast<std::size_t>(i)];
  }
}

struct MultiplyThread {
  GroupOperands of;
  Place place;
};

void issue(Lanes threads) {
  const auto& first = *static_cast<const MultiplyThread*>(threads[0]);
  Multiply multiply{{}, first.of, first.place};
  for (int t = 0; t < group_size; ++t) {
    const auto& own = *static_cast<const MultiplyThread*>(threads[t]);
    if (own.of.a != first.of.a || own.of.b != first.of.b)
      fail("group_multiply at " + text_of(first.place) + ": operands differ within the group");
    multiply.sums[t] = own.of.sum;
  }
  if (early()) perform(multiply, true);
  own_group().open.push_back(multiply);
}

}  // namespace

void begin_hopper() {
  hopper = {};
}

void end_hopper() {
  if (hopper.loads.empty()) return;
  if (checking()) {
    for (const Load& load : hopper.loads) {
      visit_pieces(load, [](unsigned char* to, const std::uint16_t* from) {
        mark_copy(to, from, piece, false);
      });
    }
  }
  note_failure("a block ended while a tensor_load was under way");
}

bool land_a_load() {
  if (hopper.loads.empty()) return false;
  const std::size_t chosen = choose(hopper.loads.size());
  const Load load = hopper.loads[chosen];
  hopper.loads.erase(hopper.loads.begin() + static_cast<std::ptrdiff_t>(chosen));
  land(load);
  return true;
}

void group_multiply(const GroupOperands& of, const Place& place) {
  MultiplyThread own{of, place};
  meet_group("group_multiply", &own, issue, place);
}

std::uint64_t operand(const void* p, Lies lies) {
  const auto address =
      static_cast<std::uint64_t>(static_cast<const unsigned char*>(p) - shared_pages().start);
  const std::uint64_t next_outputs = lies == Lies::outer ? box_columns * box_bytes : piece;
  return (address & 0x3ffff) >> 4 | next_outputs >> 4 << 16 | std::uint64_t{1024 >> 4} << 32 |
         std::uint64_t{1} << 62;
}

void group_wait(std::size_t under_way, const Place& place) {
  std::size_t allowed = under_way;
  const auto finish = [](Lanes threads) {
    Group& group = own_group();
    while (group.committed.size() > *static_cast<const std::size_t*>(threads[0])) {
      for (const Multiply& multiply : group.committed.front()) perform(multiply, !early());
      group.committed.pop_front();
    }
  };
  meet_group("group_wait", &allowed, finish, place);
}

}  // namespace fst::emulator

namespace fst::kernels::gpu {

using namespace emulator;

TensorMap tensor_map(const void* base, std::int64_t rows, std::int64_t columns, std::int64_t stride,
                     int box_rows) {
  const bool fits = box_rows > 0 && box_rows <= 256 && columns > 0 && rows > 0 &&
                    columns % 8 == 0 && stride % 8 == 0 &&
                    reinterpret_cast<std::uintptr_t>(base) % 16 == 0;
  if (!fits) throw std::runtime_error("cuTensorMapEncodeTiled was refused");
  return {base, rows, columns, stride, box_rows};
}

void barrier_init(Barrier& barrier, int arrivals) {
  const InEmulator inside;
  BarrierState& state = hopper.barriers[&barrier] = {};
  state.arrivals = state.pending = arrivals;
  if (checking()) state.brought = check_barriers_begin();
}

void barrier_expect(Barrier& barrier, int bytes, const Place& place) {
  const InEmulator inside;
  BarrierState& state = state_of(barrier, "barrier_arrive", place);
  if (state.pending == 0) fail("barrier_arrive at " + text_of(place) + ": one arrival too many");
  if (checking()) check_release(state.brought);
  --state.pending;
  state.bytes += bytes;
  complete_if_done(state);
}

void barrier_arrive(Barrier& barrier, const Place& place) {
  barrier_expect(barrier, 0, place);
}

void barrier_wait(Barrier& barrier, int parity, const Place& place) {
  const InEmulator inside;
  BarrierState& state = state_of(barrier, "barrier_wait", place);
  while ((state.phase & 1) == static_cast<std::uint64_t>(parity)) {
    state.waiting.push_back(current_thread());
    wait_in("barrier_wait", place);
  }
  if (checking()) check_acquire(state.complete);
}

void tensor_load(void* to, const TensorMap& map, Barrier& barrier, int column, int row,
                 const Place& place) {
  const InEmulator inside;
  state_of(barrier, "tensor_load", place);
  const auto bytes = static_cast<std::size_t>(map.box_rows * box_bytes);
  if (!shared_pages().holds(to, bytes)) {
    fail("tensor_load at " + text_of(place) + " to " + describe_address(to));
  }
  if ((static_cast<unsigned char*>(to) - shared_pages().start) % 1024 != 0) {
    fail("tensor_load at " + text_of(place) + ": not to a multiple of 1024 bytes");
  }
  Load load{static_cast<unsigned char*>(to), map, &barrier, column, row, current_thread(), 0};
  if (checking()) {
    visit_pieces(load, [&](unsigned char* piece_to, const std::uint16_t* from) {
      if (from != nullptr) check_access(from, piece, Access::read, place);
      check_access(piece_to, piece, Access::write, place);
      mark_copy(piece_to, from, piece, true);
      if (counting && from != nullptr) count_access(from, piece, Access::read);
      if (counting) count_access(piece_to, piece, Access::write);
    });
    load.issued = check_time_passes();
  }
  if (early()) {
    transfer(load);
    land(load);
  } else {
    hopper.loads.push_back(load);
  }
}

void group_commit(const Place& place) {
  const auto commit = [](Lanes) {
    Group& group = own_group();
    group.committed.push_back(std::exchange(group.open, {}));
  };
  meet_group("group_commit", nullptr, commit, place);
}

}  // namespace fst::kernels::gpu
