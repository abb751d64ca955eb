#pragma once

#include <barrier>
#include <cstddef>
#include <cstring>
#include <functional>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "fst/tensor/tensor_parallel.h"

namespace fst::testing {

/// The ranks of a unit as threads of this process: TensorParallel without MPI. The sum is a plain
/// loop over the definition's tree.
class ThreadUnit final : public TensorParallel {
 public:
  struct Meeting {
    explicit Meeting(int ranks) : barrier(ranks), tensors(static_cast<std::size_t>(ranks)) {}
    std::barrier<> barrier;
    std::vector<Tensor> tensors;
  };
  ThreadUnit(Meeting& meeting, int rank) : meeting_(&meeting), rank_(rank) {}

  int rank() const override { return rank_; }
  int size() const override { return static_cast<int>(meeting_->tensors.size()); }

  void sum(Tensor& x, std::string_view what) const override {
    meet(x, what);
    std::vector<float> joined(static_cast<std::size_t>(x.size()));
    for (std::size_t i = 0; i < joined.size(); ++i) joined[i] = tree(i, 0, size());
    meeting_->barrier.arrive_and_wait();
    std::copy(joined.begin(), joined.end(), x.data<float>());
  }
  void gather(Tensor& all, const Tensor& mine, std::string_view what) const override {
    EXPECT_EQ(all.size(), mine.size() * size()) << what;
    meet(mine, what);
    const auto bytes = static_cast<std::size_t>(mine.size() * size_of(mine.dtype()));
    for (int r = 0; r < size(); ++r) {
      std::memcpy(static_cast<char*>(all.raw()) + static_cast<std::size_t>(r) * bytes,
                  meeting_->tensors[static_cast<std::size_t>(r)].raw(), bytes);
    }
    meeting_->barrier.arrive_and_wait();
  }

 private:
  /// Shows everybody this rank's tensor; all must be of one shape.
  void meet(const Tensor& x, std::string_view what) const {
    EXPECT_TRUE(x.contiguous()) << what;
    meeting_->tensors[static_cast<std::size_t>(rank_)] = x;
    meeting_->barrier.arrive_and_wait();
    for (const Tensor& other : meeting_->tensors) EXPECT_EQ(other.shape(), x.shape()) << what;
  }
  float tree(std::size_t i, int begin, int end) const {
    if (end - begin == 1)
      return meeting_->tensors[static_cast<std::size_t>(begin)].data<float>()[i];
    const int middle = begin + (end - begin) / 2;
    return tree(i, begin, middle) + tree(i, middle, end);
  }
  Meeting* meeting_;
  int rank_;
};

/// Calls rank_body(unit) on one thread per rank and waits. What a rank throws fails the test, and
/// the others go on without it.
inline void run_ranks(int ranks, const std::function<void(const TensorParallel&)>& rank_body) {
  ThreadUnit::Meeting meeting(ranks);
  std::vector<std::thread> threads;
  for (int r = 0; r < ranks; ++r) {
    threads.emplace_back([&, r] {
      try {
        rank_body(ThreadUnit(meeting, r));
      } catch (const std::exception& error) {
        ADD_FAILURE() << "rank " << r << ": " << error.what();
        meeting.barrier.arrive_and_drop();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace fst::testing
