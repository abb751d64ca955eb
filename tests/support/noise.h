#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

#include "kernels/philox.h"

namespace fst::test {

/// Random inputs for tests of the kernels, which know nothing of base/random.h. The same numbers on
/// every run.
class Noise {
 public:
  explicit Noise(std::uint32_t seed) : seed_(seed) {}

  std::uint64_t bits() {
    const auto words = kernels::philox({count_++, 0, 0, 0}, {seed_, 0x7e57u});
    return (std::uint64_t{words[1]} << 32) | words[0];
  }
  /// Uniform in [0, n).
  std::int64_t below(std::int64_t n) {
    return static_cast<std::int64_t>(bits() % static_cast<std::uint64_t>(n));
  }
  double uniform() { return static_cast<double>(bits() >> 11) * 0x1p-53; }
  double normal() {
    const double u = 1.0 - uniform();
    return std::sqrt(-2.0 * std::log(u)) * std::cos(6.283185307179586 * uniform());
  }
  std::vector<float> normals(std::int64_t n, double scale = 1.0) {
    std::vector<float> xs(static_cast<std::size_t>(n));
    for (float& x : xs) x = static_cast<float>(scale * normal());
    return xs;
  }

 private:
  std::uint32_t seed_;
  std::uint32_t count_ = 0;
};

}  // namespace fst::test
