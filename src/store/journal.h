#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <vector>

#include "posix.h"

namespace fst {

/// A file of records, each behind its length and CRC-32, in the order they were appended.
///   header  "FSTJRNL1", fingerprint u64, CRC-32 of these 16 bytes      (little-endian throughout)
///   record  length u32, CRC-32 of the length and the payload u32, payload
class Journal {
 public:
  using Record = std::vector<std::byte>;

  /// Opens or creates. `left` receives the records found. What follows the first incomplete or
  /// damaged record is cut off with a warning. Throws Error if the fingerprint is another one.
  Journal(const std::filesystem::path& file, std::uint64_t fingerprint, std::vector<Record>& left);

  /// Throws Error, with the file as it was before, if the record cannot be written.
  void append(std::span<const std::byte> payload);
  /// Drops all records.
  void reset();
  void sync() { file_.sync(); }

 private:
  void read(std::uint64_t fingerprint, std::vector<Record>& left);
  void write_header(std::uint64_t fingerprint);
  void cut(std::int64_t end, const std::string& why);

  Descriptor file_;
  std::int64_t end_ = 0;  // where the next record goes
};

}  // namespace fst
