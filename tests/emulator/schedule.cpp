#include <random>

#include "machine.h"

namespace fst::emulator {
namespace {

std::uint32_t seed = 0;
std::mt19937 numbers{0};

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

}  // namespace fst::emulator
