#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <sys/types.h>

namespace fst {

/// Throws Error "<doing> <file>: <reason of errno>".
[[noreturn]] void throw_errno(const std::string& doing, const std::filesystem::path& file);

/// An open file, closed with the object. Functions throw Error naming the file.
class Descriptor {
 public:
  Descriptor(std::filesystem::path file, int flags, mode_t mode = 0644);
  Descriptor(Descriptor&& other) noexcept;
  Descriptor& operator=(Descriptor&&) = delete;
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor();

  int number() const { return number_; }
  const std::filesystem::path& file() const { return file_; }
  std::int64_t size() const;
  void write_at(std::int64_t offset, std::span<const std::byte> bytes);
  /// Throws Error if the file ends before.
  void read_at(std::int64_t offset, std::span<std::byte> bytes) const;
  void truncate(std::int64_t size);
  void sync();

 private:
  std::filesystem::path file_;
  int number_ = -1;
};

}  // namespace fst
