#include <utility>

#include "kernels/cuda/exchanges.h"

namespace fst::kernels {

namespace {

// A driver takes about a thousand launches ahead and blocks then, where nobody could give up.
// Layers have some twenty between two exchanges.
constexpr std::size_t most_under_way = 32;

bool reached(cudaEvent_t event) {
  const cudaError_t error = cudaEventQuery(event);
  if (error == cudaErrorNotReady) return false;
  check(error, "waiting for an exchange");
  return true;
}

}  // namespace

Exchanges::~Exchanges() {
  abandon();
  for (const cudaEvent_t event : spare_) cudaEventDestroy(event);
}

cudaEvent_t Exchanges::take_event() {
  cudaEvent_t event = nullptr;
  if (spare_.empty()) {
    check(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "cudaEventCreate");
  } else {
    event = spare_.back();
    spare_.pop_back();
  }
  return event;
}

void Exchanges::note(cudaStream_t stream, CudaExchange exchange) {
  under_way_.push_back({std::move(exchange), take_event()});
  check(cudaEventRecord(under_way_.back().end, stream), "cudaEventRecord");
  await_all_but(most_under_way);
}

/// Until the oldest has ended, or, where one is named, the event is reached. What it throws
/// abandons the others.
void Exchanges::await_oldest(cudaEvent_t or_this) {
  try {
    const Noted& oldest = under_way_.front();
    const auto ends = [&] { return reached(oldest.end); };
    oldest.exchange.await([&] { return ends() || (or_this != nullptr && reached(or_this)); });
    if (!ends()) return;
    spare_.push_back(oldest.end);
    under_way_.pop_front();
  } catch (...) {
    abandon();
    throw;
  }
}

void Exchanges::await_all_but(std::size_t count) {
  if (failure_) std::rethrow_exception(std::exchange(failure_, nullptr));
  while (under_way_.size() > count) await_oldest(nullptr);
}

void Exchanges::await_before(cudaEvent_t event) {
  if (failure_) std::rethrow_exception(std::exchange(failure_, nullptr));
  while (!under_way_.empty() && !reached(event)) await_oldest(event);
}

void Exchanges::await_quietly() noexcept {
  try {
    if (!failure_) await();
  } catch (...) {
    failure_ = std::current_exception();
  }
}

void Exchanges::abandon() noexcept {
  for (const Noted& noted : under_way_) {
    noted.exchange.abandon();
    spare_.push_back(noted.end);
  }
  under_way_.clear();
}

}  // namespace fst::kernels
