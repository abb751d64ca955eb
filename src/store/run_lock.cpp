#include "fst/store/run_lock.h"

#include <cerrno>
#include <chrono>
#include <fcntl.h>
#include <string>
#include <sys/file.h>
#include <thread>
#include <unistd.h>
#include <utility>

#include "fst/base/clock.h"
#include "fst/base/error.h"
#include "fst/base/log.h"
#include "fst/store/files.h"

#include "posix.h"

namespace fst {

namespace {
constexpr auto poll_interval = std::chrono::milliseconds(50);

/// Who wrote the lock file last, for the message.
std::string holder(const std::filesystem::path& file) {
  std::string text = read_text(file);
  while (!text.empty() && text.back() == '\n') text.pop_back();
  return text.empty() ? "another process" : text;
}

std::string myself() {
  char host[256] = {};
  if (gethostname(host, sizeof host - 1) != 0) host[0] = '\0';
  return "process " + std::to_string(getpid()) + " on host " + host + "\n";
}
}  // namespace

RunLock::RunLock(const std::filesystem::path& folder, double seconds) {
  const std::filesystem::path path = folder / "lock";
  descriptor_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (descriptor_ < 0) throw_errno("cannot open", path);
  const Stopwatch clock;
  while (flock(descriptor_, LOCK_EX | LOCK_NB) != 0) {
    const int reason = errno;
    if ((reason != EWOULDBLOCK && reason != EINTR) || clock.seconds() >= seconds) {
      ::close(std::exchange(descriptor_, -1));
      errno = reason;
      if (reason != EWOULDBLOCK) throw_errno("cannot lock", path);
      throw Error(path.string() + ": the folder is in use by " + holder(path) + "; waited " +
                  std::to_string(static_cast<int>(seconds)) + " s");
    }
    std::this_thread::sleep_for(poll_interval);
  }
  const std::string text =
      myself();  // only for the message above; a failure to write it is harmless
  if (ftruncate(descriptor_, 0) != 0 || pwrite(descriptor_, text.data(), text.size(), 0) < 0) {
    log::warn("cannot write " + path.string());
  }
}

RunLock::RunLock(RunLock&& other) noexcept : descriptor_(std::exchange(other.descriptor_, -1)) {}

RunLock::~RunLock() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

}  // namespace fst
