#pragma once

#include <filesystem>

namespace fst {

/// Holds `folder`/lock (flock) for as long as it lives, so that no second run writes there. Rank 0
/// only. The kernel lets go when the process dies, however it dies.
class RunLock {
 public:
  /// Waits up to `seconds` for another holder, then throws Error naming the file and its holder.
  explicit RunLock(const std::filesystem::path& folder, double seconds = 30);
  RunLock(RunLock&& other) noexcept;
  RunLock& operator=(RunLock&&) = delete;
  RunLock(const RunLock&) = delete;
  RunLock& operator=(const RunLock&) = delete;
  ~RunLock();

 private:
  int descriptor_ = -1;
};

}  // namespace fst
