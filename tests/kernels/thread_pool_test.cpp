#include "kernels/thread_pool.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <mutex>
#include <set>
#include <thread>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

namespace fst::kernels {
namespace {

TEST(ThreadPool, RunsEveryPartOnceOnItsOwnThread) {
  for (const int threads : {1, 2, 3, 5}) {
    ThreadPool pool(threads);
    struct Seen {
      std::vector<std::atomic<int>> parts;
      std::mutex mutex;
      std::set<std::thread::id> ids;
    } seen{std::vector<std::atomic<int>>(static_cast<std::size_t>(threads)), {}, {}};
    pool.run(
        [](void* context, int part) {
          auto& s = *static_cast<Seen*>(context);
          ++s.parts[static_cast<std::size_t>(part)];
          const std::lock_guard lock(s.mutex);
          s.ids.insert(std::this_thread::get_id());
        },
        &seen);
    for (const auto& count : seen.parts) EXPECT_EQ(count.load(), 1);
    EXPECT_EQ(seen.ids.size(), static_cast<std::size_t>(threads));
    EXPECT_EQ(pool.threads(), threads);
  }
}

TEST(ThreadPool, RunReturnsAfterAllPartsHaveFinished) {
  ThreadPool pool(3);
  std::int64_t total = 0;
  for (int round = 0; round < 60; ++round) {
    std::int64_t parts[3] = {0, 0, 0};
    pool.run([](void* context, int part) { static_cast<std::int64_t*>(context)[part] = part + 1; },
             parts);
    total += parts[0] + parts[1] + parts[2];  // plain reads: a part still running would be lost
  }
  EXPECT_EQ(total, 60 * 6);
}

TEST(ThreadPool, WakesWorkersThatWentToSleep) {
  ThreadPool pool(2);
  for (int round = 0; round < 5; ++round) {
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
    std::atomic<int> count{0};
    pool.run([](void* context, int) { ++*static_cast<std::atomic<int>*>(context); }, &count);
    EXPECT_EQ(count.load(), 2);
  }
}

TEST(ThreadPool, OfFewerThanOneThreadIsTheCallerAlone) {
  ThreadPool pool(0);
  EXPECT_EQ(pool.threads(), 1);
  int calls = 0;
  pool.run([](void* context, int) { ++*static_cast<int*>(context); }, &calls);
  EXPECT_EQ(calls, 1);
}

TEST(ParallelFor, CoversTheRangeOnceInContiguousPartsOfAtLeastTheGrain) {
  for (const int threads : {1, 2, 3, 4}) {
    ThreadPool pool(threads);
    const Cpu cpu{Isa::scalar, &pool};
    for (const std::int64_t count : {0, 1, 2, 3, 7, 64, 101}) {
      for (const std::int64_t grain : {0, 1, 5, 16, 200}) {
        std::mutex mutex;
        std::vector<std::pair<std::int64_t, std::int64_t>> ranges;
        parallel_for(cpu, count, grain, [&](std::int64_t begin, std::int64_t end) {
          const std::lock_guard lock(mutex);
          ranges.emplace_back(begin, end);
        });
        std::sort(ranges.begin(), ranges.end());
        std::int64_t at = 0;
        for (const auto& [begin, end] : ranges) {
          EXPECT_EQ(begin, at);
          EXPECT_LT(begin, end);
          at = end;
        }
        EXPECT_EQ(at, count);
        EXPECT_LE(ranges.size(), static_cast<std::size_t>(threads));
        if (count <= grain) {
          EXPECT_LE(ranges.size(), 1u);
        }
      }
    }
  }
}

TEST(ParallelFor, WithoutAPoolRunsOnTheCaller) {
  const Cpu cpu;
  int calls = 0;
  parallel_for(cpu, 9, 1, [&](std::int64_t begin, std::int64_t end) {
    ++calls;
    EXPECT_EQ(begin, 0);
    EXPECT_EQ(end, 9);
  });
  EXPECT_EQ(calls, 1);
}

}  // namespace
}  // namespace fst::kernels
