#include "schedule.h"

#include <numeric>
#include <random>

namespace fst::emulator {
namespace {

std::uint32_t seed = 0;
std::mt19937 numbers{0};

constexpr std::size_t slack = 4096;  // threads taken from a queue before it is moved up
constexpr unsigned warp_size = 32;

}  // namespace

void set_schedule(std::uint32_t chosen) {
  seed = chosen;
  numbers.seed(chosen);
}
std::uint32_t schedule() {
  return seed;
}

std::size_t choose(std::size_t count) {
  if (seed == 0) return 0;
  if (seed == 1) return count - 1;
  return numbers() % count;
}

void ReadyThreads::reset(std::size_t warps) {
  const bool apart = seed / 2 % 2 == 1;
  lists_.resize(apart ? warps : 1);
  for (auto& list : lists_) list.clear();
  list_of_warp_.assign(warps, 0);
  if (apart) {
    std::iota(list_of_warp_.begin(), list_of_warp_.end(), std::size_t{0});
    shuffle_by_schedule(list_of_warp_);
  }
  count_ = first_ = head_ = 0;
}

void ReadyThreads::push(unsigned thread) {
  const std::size_t list = list_of_warp_[thread / warp_size];
  lists_[list].push_back(thread);
  if (list < first_) first_ = list;
  ++count_;
}

unsigned ReadyThreads::pop() {
  while (lists_[first_].empty()) ++first_;
  std::vector<unsigned>& list = lists_[first_];
  --count_;
  if (seed == 0) {
    const unsigned next = list[head_++];
    if (head_ == list.size() || head_ == slack) {
      list.erase(list.begin(), list.begin() + static_cast<std::ptrdiff_t>(head_));
      head_ = 0;
    }
    return next;
  }
  std::swap(list[choose(list.size())], list.back());
  const unsigned next = list.back();
  list.pop_back();
  return next;
}

}  // namespace fst::emulator
