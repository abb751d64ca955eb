#pragma once

#include <cstdint>
#include <cstring>
#include <vector>

#include "kernels/exec.h"

namespace fst::test {

/// The instruction sets this CPU can run, the plain one first.
inline std::vector<kernels::Isa> isas() {
  std::vector<kernels::Isa> all;
  for (const auto isa : {kernels::Isa::scalar, kernels::Isa::scalar_fma, kernels::Isa::avx2,
                         kernels::Isa::avx512, kernels::Isa::amx}) {
    if (kernels::supports(isa)) all.push_back(isa);
  }
  return all;
}

/// How many elements differ in their bits; NaN equals NaN whatever its payload.
template <class T>
std::int64_t differing(const T* a, const T* b, std::size_t n) {
  std::int64_t count = 0;
  for (std::size_t i = 0; i < n; ++i) {
    const bool both_nan = a[i] != a[i] && b[i] != b[i];
    if (!both_nan && std::memcmp(a + i, b + i, sizeof(T)) != 0) ++count;
  }
  return count;
}
template <class T>
std::int64_t differing(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() ? differing(a.data(), b.data(), a.size()) : -1;
}

}  // namespace fst::test
