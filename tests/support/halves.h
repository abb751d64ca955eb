#pragma once

#include <cstdint>
#include <vector>

#include "kernels/bf16.h"

namespace fst::test {

/// The floats as T, float or Bf16, by the definition in kernels/bf16.h.
template <class T>
std::vector<T> stored_as(const std::vector<float>& x) {
  std::vector<T> y;
  y.reserve(x.size());
  for (const float value : x) y.push_back(kernels::narrowed_to<T>(value));
  return y;
}
inline std::vector<kernels::Bf16> narrowed(const std::vector<float>& x) {
  return stored_as<kernels::Bf16>(x);
}
template <class T>
std::vector<float> widened(const std::vector<T>& x) {
  std::vector<float> y;
  y.reserve(x.size());
  for (const T value : x) y.push_back(kernels::widened(value));
  return y;
}

/// What a kernel over bfloat16 gives where the kernel over float32 gave x.
inline std::vector<float> rounded(const std::vector<float>& x) {
  return widened(narrowed(x));
}

}  // namespace fst::test
