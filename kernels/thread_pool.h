#pragma once

#include <cstdint>

#include "kernels/exec.h"

namespace fst::kernels {

/// A fixed set of threads that run the same range cut into equal contiguous parts. Waiting threads
/// spin briefly and then sleep, so that an idle pool takes no core from other ranks.
class ThreadPool {
 public:
  /// `threads` counts the caller: 1 starts none.
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int threads() const { return threads_; }
  /// Calls `body(context, part)` for part = 0 .. threads-1, each on its own thread, and waits for
  /// all. `body` must not throw and must not call run() again.
  void run(void (*body)(void* context, int part), void* context);

 private:
  struct State;
  int threads_;
  State* state_;
};

/// Calls `f(begin, end)` on contiguous parts of [0, count), at most one per thread, each at least
/// `grain` long. How the range is cut must not matter for the result.
template <class F>
void parallel_for(const Cpu& cpu, std::int64_t count, std::int64_t grain, F&& f) {
  if (count <= 0) return;
  std::int64_t parts = cpu.pool == nullptr ? 1 : cpu.pool->threads();
  if (grain < 1) grain = 1;
  if (parts > (count + grain - 1) / grain) parts = (count + grain - 1) / grain;
  if (parts <= 1) {
    f(std::int64_t{0}, count);
    return;
  }
  struct Context {
    F* f;
    std::int64_t count, parts;
  } context{&f, count, parts};
  cpu.pool->run(
      [](void* opaque, int part) {
        auto& c = *static_cast<Context*>(opaque);
        if (part >= c.parts) return;
        const std::int64_t begin = c.count * part / c.parts;
        const std::int64_t end = c.count * (part + 1) / c.parts;
        (*c.f)(begin, end);
      },
      &context);
}

}  // namespace fst::kernels
