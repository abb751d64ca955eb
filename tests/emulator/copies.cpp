#include <algorithm>
#include <cstring>
#include <deque>

#include "machine.h"

namespace fst::emulator {
namespace {

constexpr std::size_t piece = 16;

struct Copy {
  void* to;
  const void* from;
  bool inside;
  Place place;
};

/// The copies that a thread has asked for: closed groups, oldest first, and the open one.
struct Copies {
  std::deque<std::vector<Copy>> groups;
  std::vector<Copy> open;
};

std::vector<Copies> all_copies;
Copies& own_copies() {
  return all_copies[current_thread()];
}

/// Odd schedules copy when they are asked to, even ones when somebody waits.
bool early() {
  return schedule() % 2 == 1;
}

void perform(const Copy& copy) {
  if (copy.inside) {
    std::memcpy(copy.to, copy.from, piece);
  } else {
    std::memset(copy.to, 0, piece);
  }
}

void land(const Copy& copy) {
  if (!early()) perform(copy);
  if (!checking()) return;
  mark_copy(copy.to, copy.inside ? copy.from : nullptr, piece, false);
  check_access(copy.to, piece, Access::write, copy.place);
}

}  // namespace

void begin_copies(unsigned threads) {
  if (all_copies.size() < threads) all_copies.resize(threads);
}

void end_copies() {
  const auto end = [](const Copy& copy) {
    if (checking()) mark_copy(copy.to, copy.inside ? copy.from : nullptr, piece, false);
  };
  for (Copies& copies : all_copies) {
    for (const auto& group : copies.groups) std::for_each(group.begin(), group.end(), end);
    std::for_each(copies.open.begin(), copies.open.end(), end);
    copies.groups.clear();
    copies.open.clear();
  }
}

void wait_for_copies(std::size_t groups_under_way) {
  const InEmulator inside;
  Copies& own = own_copies();
  while (own.groups.size() > groups_under_way) {
    for (const Copy& copy : own.groups.front()) land(copy);
    own.groups.pop_front();
  }
}

}  // namespace fst::emulator

namespace fst::kernels::gpu {

using namespace emulator;

void copy_async_16(void* to, const void* from, bool within, const Place& place) {
  const InEmulator inside;
  const auto aligned = [](const void* p) {
    return reinterpret_cast<std::uintptr_t>(p) % piece == 0;
  };
  const std::string where = "copy_async_16 at " + text_of(place);
  if (!shared_pages().holds(to, piece)) fail(where + " to " + describe_address(to));
  if (within && find_allocation(from, piece) == nullptr) {
    fail(where + " from " + describe_address(from));
  }
  if (!aligned(to) || (within && !aligned(from))) fail(where + ": a misaligned address");
  if (checking()) {
    if (within) check_access(from, piece, Access::read, place);
    check_access(to, piece, Access::write, place);
    mark_copy(to, within ? from : nullptr, piece, true);
  }
  if (counting) {
    if (within) count_access(from, piece, Access::read);
    count_access(to, piece, Access::write);
  }
  own_copies().open.push_back({to, from, within, place});
  if (early()) perform(own_copies().open.back());
}

void copy_async_commit() {
  const InEmulator inside;
  Copies& own = own_copies();
  own.groups.push_back(std::exchange(own.open, {}));
}

}  // namespace fst::kernels::gpu
