#pragma once

namespace fst {

/// Notices SIGTERM and SIGUSR1 for as long as it lives. The run asks at its safe points, so a
/// signal never interrupts a step. A second one beside the first notices the same signals, those
/// that came before it too.
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
