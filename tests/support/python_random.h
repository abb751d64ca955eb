#pragma once

#include <array>
#include <cstdint>
#include <numeric>
#include <vector>

#include "fst/evolve/choices.h"

namespace fst::test {

/// CPython's random.Random for small integer seeds: the Mersenne Twister seeded by array, and the
/// draws made from it. Recorded runs of the reference are replayed with it.
class PythonRandom {
 public:
  explicit PythonRandom(std::uint32_t seed) {
    fill(19650218u);
    std::uint32_t i = 1;
    for (std::size_t step = 0; step < size; ++step) {
      mix(i, 1664525u, seed);
    }
    for (std::size_t step = 0; step + 1 < size; ++step) {
      mix(i, 1566083941u, 0u - i);
    }
    state_[0] = 0x80000000u;
  }

  std::uint32_t next32() {
    if (place_ == size) twist();
    std::uint32_t y = state_[place_++];
    y ^= y >> 11;
    y ^= (y << 7) & 0x9d2c5680u;
    y ^= (y << 15) & 0xefc60000u;
    return y ^ (y >> 18);
  }

  std::uint64_t below(std::uint64_t n) {
    int bits = 0;
    while (n >> bits != 0) ++bits;
    std::uint64_t drawn = n;
    while (drawn >= n) drawn = next32() >> (32 - bits);
    return drawn;
  }

  double uniform() {
    const double high = next32() >> 5, low = next32() >> 6;
    return (high * 67108864.0 + low) / 9007199254740992.0;
  }

  std::vector<int> shuffled(int n) {
    std::vector<int> list(static_cast<std::size_t>(n));
    std::iota(list.begin(), list.end(), 0);
    fisher_yates(list, [this](std::uint64_t m) { return below(m); });
    return list;
  }

  /// The generator's draws as the choices of an evolution. The generator must outlive them.
  Choices choices() {
    return {
        [this](std::span<const int> list) { return static_cast<std::size_t>(below(list.size())); },
        [this](std::vector<int>& list) {
          fisher_yates(list, [this](std::uint64_t n) { return below(n); });
        },
        [this] { return uniform(); }};
  }

 private:
  static constexpr std::size_t size = 624;

  void fill(std::uint32_t seed) {
    state_[0] = seed;
    for (std::uint32_t i = 1; i < size; ++i) {
      state_[i] = 1812433253u * (state_[i - 1] ^ (state_[i - 1] >> 30)) + i;
    }
  }

  void mix(std::uint32_t& i, std::uint32_t factor, std::uint32_t term) {
    state_[i] = (state_[i] ^ ((state_[i - 1] ^ (state_[i - 1] >> 30)) * factor)) + term;
    if (++i == size) {
      state_[0] = state_[size - 1];
      i = 1;
    }
  }

  void twist() {
    for (std::size_t i = 0; i < size; ++i) {
      const std::uint32_t y = (state_[i] & 0x80000000u) | (state_[(i + 1) % size] & 0x7fffffffu);
      state_[i] = state_[(i + 397) % size] ^ (y >> 1) ^ ((y & 1u) != 0 ? 0x9908b0dfu : 0u);
    }
    place_ = 0;
  }

  std::array<std::uint32_t, size> state_{};
  std::size_t place_ = size;
};

}  // namespace fst::test
