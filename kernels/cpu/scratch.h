#pragma once

#include <cstdint>
#include <cstdlib>
#include <memory>

namespace fst::kernels {

/// Working memory of this thread, aligned to a cache line. Grows to what a call needs (at most some
/// 10 MB) and stays, so that a call in a hot loop does not allocate; its contents never outlive a
/// call.
inline float* scratch(std::int64_t floats) {
  struct Free {
    void operator()(float* p) const { std::free(p); }
  };
  thread_local std::unique_ptr<float, Free> memory;
  thread_local std::int64_t size = 0;
  if (floats > size) {
    constexpr std::int64_t step = 1 << 14;
    size = (floats + step - 1) / step * step;
    memory.reset();
    memory.reset(static_cast<float*>(
        std::aligned_alloc(64, static_cast<std::size_t>(size) * sizeof(float))));
    if (!memory) std::abort();  // kernels have no exceptions; the machine is out of memory
  }
  return memory.get();
}

}  // namespace fst::kernels
