#include "faults.h"

#include <cstdlib>
#include <cstring>
#include <string>

namespace fst::emulator {
namespace {

/// The number in an environment variable; `otherwise` where it is not set.
long long number_in(const char* variable, long long otherwise) {
  const char* const text = std::getenv(variable);
  return text == nullptr ? otherwise : std::atoll(text);
}

const std::string& asked_failure() {
  static const std::string asked = [] {
    const char* const text = std::getenv("FST_EMULATOR_FAIL");
    return std::string(text == nullptr ? "" : text);
  }();
  return asked;
}

}  // namespace

int asked_devices() {
  return static_cast<int>(number_in("FST_EMULATOR_DEVICES", 1));
}

std::size_t asked_memory() {
  return static_cast<std::size_t>(number_in("FST_EMULATOR_MEMORY", 16ll << 30));
}

int asked_major(int index, int otherwise) {
  const char* text = std::getenv("FST_EMULATOR_MAJOR");
  for (; text != nullptr && index > 0; --index) {
    text = std::strchr(text, ',');
    if (text != nullptr) ++text;
  }
  return text == nullptr ? otherwise : std::atoi(text);
}

Loss asked_error() {
  return asked_failure().ends_with(":ecc") ? Loss::memory : Loss::launch;
}

bool must_fail(const char* call) {
  const std::string& asked = asked_failure();
  static long long calls = 0;
  const auto colon = asked.find(':');
  if (colon == std::string::npos || asked.compare(0, colon, call) != 0) return false;
  return ++calls == std::atoll(asked.c_str() + colon + 1);
}

}  // namespace fst::emulator
