#pragma once

#include <atomic>

namespace fst {

/// Notices SIGTERM and SIGUSR1 for as long as it lives; one per process. The run asks at its safe
/// points, so a signal never interrupts a step.
class StopSignals {
 public:
  StopSignals();
  ~StopSignals();
  StopSignals(const StopSignals&) = delete;
  StopSignals& operator=(const StopSignals&) = delete;
  /// A signal came to this process.
  bool received() const;
};

}  // namespace fst
