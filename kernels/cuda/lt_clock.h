#pragma once

#include <algorithm>
#include <limits>

#include "kernels/cuda/cuda.h"

namespace fst::kernels {

/// The least time of a call that queues work: behind two calls of three samples of four, or, of a
/// long one, of one.
class Clock {
 public:
  explicit Clock(const Cuda& cuda) : cuda_(cuda) {
    check(cudaEventCreateWithFlags(&begin_, 0), "cudaEventCreate");
    check(cudaEventCreateWithFlags(&end_, 0), "cudaEventCreate");
  }
  Clock(const Clock&) = delete;
  Clock& operator=(const Clock&) = delete;
  ~Clock() {
    cudaEventDestroy(begin_);
    cudaEventDestroy(end_);
  }
  template <class Call>
  float milliseconds(const Call& call) {
    call();  // which may have its code to load
    const int calls = sample(call, 1) < long_call ? calls_of_sample : 1;
    float least = std::numeric_limits<float>::infinity();
    for (int i = 0; i < samples; ++i) least = std::min(least, sample(call, calls));
    return least;
  }

 private:
  static constexpr int samples = 3, calls_of_sample = 4;
  static constexpr float long_call = 1.0f;  // ms

  template <class Call>
  float sample(const Call& call, int calls) {
    check(cudaEventRecord(begin_, cuda_.stream), "cudaEventRecord");
    for (int c = 0; c < calls; ++c) call();
    check(cudaEventRecord(end_, cuda_.stream), "cudaEventRecord");
    check(cudaEventSynchronize(end_), "cudaEventSynchronize");
    float time = 0.0f;
    check(cudaEventElapsedTime(&time, begin_, end_), "cudaEventElapsedTime");
    return time / static_cast<float>(calls);
  }

  const Cuda& cuda_;
  cudaEvent_t begin_ = nullptr, end_ = nullptr;
};

}  // namespace fst::kernels
