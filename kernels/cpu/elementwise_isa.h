#pragma once

#include <cstdint>

#include "kernels/cpu/dispatch.h"
#include "kernels/elementwise.h"

namespace fst::kernels {

/// One row of each elementwise kernel, per instruction set.
template <Isa isa>
struct ElementwiseRow {
  /// Y and X: float or Bf16.
  template <class Y, class X>
  static void add(Y* y, const X* x, std::int64_t count);
  /// kernels::join for elements [begin, end).
  static void join(float* y, const float* const* parts, const std::int32_t* joins,
                   std::int64_t count, std::int64_t begin, std::int64_t end);
  template <class T>
  static void fill(T* y, float value, std::int64_t count);
  static void widen(float* y, const void* x, Storage storage, std::int64_t count);
  static void narrow(void* y, Storage storage, const float* x, std::int64_t count);
};

}  // namespace fst::kernels
