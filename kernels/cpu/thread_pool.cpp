#include "kernels/thread_pool.h"

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

namespace fst::kernels {

namespace {
// About 20 microseconds: longer than the gap between two kernels of one layer, shorter than a
// scheduler slice, so a waiting rank gives its core back between steps.
constexpr int spins_before_sleep = 4000;

void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}
}  // namespace

struct ThreadPool::State {
  std::vector<std::thread> workers;
  std::mutex mutex;
  std::condition_variable wake;
  std::atomic<std::uint64_t> generation{0};
  std::atomic<int> pending{0};
  std::atomic<bool> stop{false};
  void (*body)(void*, int) = nullptr;
  void* context = nullptr;

  void work(int part) {
    std::uint64_t seen = 0;
    for (;;) {
      int spins = 0;
      while (generation.load(std::memory_order_acquire) == seen && spins < spins_before_sleep) {
        relax();
        ++spins;
      }
      if (generation.load(std::memory_order_acquire) == seen) {
        std::unique_lock lock(mutex);
        wake.wait(lock, [&] { return generation.load(std::memory_order_acquire) != seen; });
      }
      ++seen;
      if (stop.load(std::memory_order_acquire)) return;
      body(context, part);
      pending.fetch_sub(1, std::memory_order_acq_rel);
    }
  }

  void publish() {
    {
      const std::lock_guard lock(mutex);
      generation.fetch_add(1, std::memory_order_acq_rel);
    }
    wake.notify_all();
  }
};

ThreadPool::ThreadPool(int threads) : threads_(threads < 1 ? 1 : threads), state_(new State) {
  for (int part = 1; part < threads_; ++part) {
    state_->workers.emplace_back([state = state_, part] { state->work(part); });
  }
}

ThreadPool::~ThreadPool() {
  state_->stop.store(true, std::memory_order_release);
  state_->publish();
  for (auto& worker : state_->workers) worker.join();
  delete state_;
}

void ThreadPool::run(void (*body)(void*, int), void* context) {
  if (threads_ == 1) {
    body(context, 0);
    return;
  }
  state_->body = body;
  state_->context = context;
  state_->pending.store(threads_ - 1, std::memory_order_release);
  state_->publish();
  body(context, 0);
  int spins = 0;
  while (state_->pending.load(std::memory_order_acquire) != 0) {
    if (++spins < spins_before_sleep) {
      relax();
    } else {
      std::this_thread::yield();
    }
  }
}

}  // namespace fst::kernels
