#include "fst/run/signals.h"

#include <csignal>

namespace fst {

namespace {
// A signal handler can reach nothing but globals.
volatile std::sig_atomic_t stop_received = 0;
void note(int) {
  stop_received = 1;
}
}  // namespace

StopSignals::StopSignals() {
  struct sigaction action {};
  action.sa_handler = note;
  sigemptyset(&action.sa_mask);
  action.sa_flags = SA_RESTART;
  sigaction(SIGTERM, &action, nullptr);
  sigaction(SIGUSR1, &action, nullptr);
}

StopSignals::~StopSignals() {
  std::signal(SIGTERM, SIG_DFL);
  std::signal(SIGUSR1, SIG_DFL);
  stop_received = 0;
}

bool StopSignals::received() const {
  return stop_received != 0;
}

}  // namespace fst
