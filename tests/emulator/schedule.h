#pragma once

#include <cstddef>
#include <utility>
#include <vector>

#include "emulator.h"

/// Within the emulator: the choices of the schedule.
namespace fst::emulator {

/// Below count: the first, the last or any.
std::size_t choose(std::size_t count);

template <class T>
void shuffle_by_schedule(std::vector<T>& items) {
  for (std::size_t i = items.size(); i > 1; --i) std::swap(items[i - 1], items[choose(i)]);
}

/// The threads of a block that can go on. Schedules 2, 3, 6, 7, ... let some warps run as far ahead
/// of the others as they can.
class ReadyThreads {
 public:
  void reset(std::size_t warps);
  void push(unsigned thread);
  unsigned pop();
  bool empty() const { return count_ == 0; }

 private:
  std::vector<std::size_t> list_of_warp_;
  std::vector<std::vector<unsigned>> lists_;  // one, or one a warp, those that run ahead first
  std::size_t count_ = 0, first_ = 0;         // first_: no list before it has any
  std::size_t head_ = 0;                      // of the list, where it is a queue
};

}  // namespace fst::emulator
