#include "fst/store/files.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>
#include <utility>

#include "fst/base/error.h"

#include "posix.h"

namespace fst {

namespace fs = std::filesystem;

namespace {
constexpr const char* temporary_suffix = ".tmp";

/// Retries where a signal came in between.
template <class F>
auto uninterrupted(F&& call) {
  auto result = call();
  while (result < 0 && errno == EINTR) result = call();
  return result;
}
}  // namespace

void throw_errno(const std::string& doing, const fs::path& file) {
  const int reason = errno;
  throw Error(doing + " " + file.string() + ": " + std::strerror(reason));
}

Descriptor::Descriptor(fs::path file, int flags, mode_t mode) : file_(std::move(file)) {
  number_ = uninterrupted([&] { return ::open(file_.c_str(), flags | O_CLOEXEC, mode); });
  if (number_ < 0) throw_errno("cannot open", file_);
}

Descriptor::Descriptor(Descriptor&& other) noexcept
    : file_(std::move(other.file_)), number_(std::exchange(other.number_, -1)) {}

Descriptor::~Descriptor() {
  if (number_ >= 0) ::close(number_);
}

std::int64_t Descriptor::size() const {
  struct stat status {};
  if (fstat(number_, &status) != 0) throw_errno("cannot examine", file_);
  return status.st_size;
}

void Descriptor::write_at(std::int64_t offset, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const auto count =
        uninterrupted([&] { return ::pwrite(number_, bytes.data(), bytes.size(), offset); });
    if (count < 0) throw_errno("cannot write", file_);
    bytes = bytes.subspan(static_cast<std::size_t>(count));
    offset += count;
  }
}

void Descriptor::read_at(std::int64_t offset, std::span<std::byte> bytes) const {
  while (!bytes.empty()) {
    const auto count =
        uninterrupted([&] { return ::pread(number_, bytes.data(), bytes.size(), offset); });
    if (count < 0) throw_errno("cannot read", file_);
    if (count == 0) {
      throw Error(file_.string() + ": ends at byte " + std::to_string(offset) + ", " +
                  std::to_string(bytes.size()) + " more expected");
    }
    bytes = bytes.subspan(static_cast<std::size_t>(count));
    offset += count;
  }
}

void Descriptor::truncate(std::int64_t size) {
  if (uninterrupted([&] { return ::ftruncate(number_, size); }) != 0) {
    throw_errno("cannot cut", file_);
  }
}

void Descriptor::sync() {
  if (uninterrupted([&] { return ::fsync(number_); }) != 0) throw_errno("cannot flush", file_);
}

fs::path temporary_name(const fs::path& target) {
  return target.string() + temporary_suffix;
}

void publish(const fs::path& temporary, const fs::path& target) {
  Descriptor(temporary, O_RDONLY).sync();
  if (std::rename(temporary.c_str(), target.c_str()) != 0) {
    throw_errno("cannot rename " + temporary.string() + " to", target);
  }
  const fs::path folder = target.has_parent_path() ? target.parent_path() : fs::path(".");
  Descriptor(folder, O_RDONLY | O_DIRECTORY).sync();
}

void write_text(const fs::path& target, std::string_view text) {
  const fs::path temporary = temporary_name(target);
  try {
    Descriptor file(temporary, O_WRONLY | O_CREAT | O_TRUNC);
    file.write_at(0, std::as_bytes(std::span(text)));
    publish(temporary, target);
  } catch (...) {
    std::error_code ignored;  // the first error is the one to report
    fs::remove(temporary, ignored);
    throw;
  }
}

std::string read_text(const fs::path& file) {
  const Descriptor descriptor(file, O_RDONLY);
  std::string text(static_cast<std::size_t>(descriptor.size()), '\0');
  descriptor.read_at(0, std::as_writable_bytes(std::span(text)));
  return text;
}

void expect_space(const fs::path& folder, std::int64_t bytes) {
  struct statvfs disk {};
  if (statvfs(folder.c_str(), &disk) != 0) throw_errno("cannot examine the disk of", folder);
  const auto free = static_cast<std::int64_t>(disk.f_bavail * disk.f_frsize);
  if (free < bytes) {
    throw Error(folder.string() + ": " + std::to_string(bytes) + " bytes needed, " +
                std::to_string(free) + " available on its disk");
  }
  rlimit limit{};
  if (getrlimit(RLIMIT_FSIZE, &limit) != 0) throw_errno("cannot read the limits of", folder);
  if (limit.rlim_cur != RLIM_INFINITY && limit.rlim_cur < static_cast<rlim_t>(bytes)) {
    throw Error(folder.string() + ": a file of " + std::to_string(bytes) +
                " bytes needed, but files may not grow beyond " + std::to_string(limit.rlim_cur) +
                " (ulimit -f)");
  }
}

void remove_temporaries(const fs::path& folder) {
  std::error_code failed;
  for (const auto& entry : fs::directory_iterator(folder, failed)) {
    const std::string name = entry.path().filename().string();
    const bool ours = name.starts_with("checkpoint-") || name.starts_with("history.") ||
                      name.starts_with("config.") || name.starts_with("metrics.");
    if (ours && name.ends_with(temporary_suffix)) fs::remove(entry.path());
  }
  if (failed) throw Error("cannot list " + folder.string() + ": " + failed.message());
}

}  // namespace fst
