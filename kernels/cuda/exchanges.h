#pragma once

#include <deque>
#include <exception>
#include <vector>

#include "kernels/cuda/cuda.h"

namespace fst::kernels {

/// The exchanges of a stream that may be under way, oldest first; see CudaExchange.
class Exchanges {
 public:
  Exchanges() = default;
  Exchanges(const Exchanges&) = delete;
  Exchanges& operator=(const Exchanges&) = delete;
  ~Exchanges();

  void note(cudaStream_t stream, CudaExchange exchange);
  /// Awaits all. What one throws abandons the others and goes through, once.
  void await() { await_all_but(0); }
  /// Awaits those that are in the way of the event, so that the rest of the wait for it is no one
  /// else's.
  void await_before(cudaEvent_t event);
  /// For those who must not throw: what is met is thrown by the next await().
  void await_quietly() noexcept;
  void abandon() noexcept;

 private:
  struct Noted {
    CudaExchange exchange;
    cudaEvent_t end;
  };
  void await_all_but(std::size_t count);
  void await_oldest(cudaEvent_t or_this);
  cudaEvent_t take_event();

  std::deque<Noted> under_way_;
  std::vector<cudaEvent_t> spare_;
  std::exception_ptr failure_;
};

}  // namespace fst::kernels
