#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "fst/store/row.h"

namespace fst {

/// What every file of a run says about itself.
struct FileIdentity {
  std::string git_commit;
  std::string version;
  std::string config;  // the full resolved configuration
};

/// Rows per table, by table name.
using RowCounts = std::map<std::string, std::int64_t>;

/// The rows of a run: history.h5 and, for the rows since the last seal, history.journal. Rank 0
/// only.
///
/// append() writes one checksummed record to the journal; seal() moves the journal's rows into a
/// new copy of history.h5 that replaces the old one by renaming, and empties the journal. A kill at
/// any instant loses at most the row being appended: opening again finds the sealed rows in
/// history.h5 and the others in the journal. Readers may open history.h5 at any time; it is always
/// complete. Tables without a column of DigestUse::digest (attempt) survive cut_back().
class History {
 public:
  /// Opens what `folder` holds or starts afresh; rows left in the journal are taken over (a torn
  /// last record is dropped with a warning). Throws Error where the files are damaged or of another
  /// schema.
  History(std::filesystem::path folder, FileIdentity identity);
  History(History&&) noexcept;
  History& operator=(History&&) = delete;
  History(const History&) = delete;
  History& operator=(const History&) = delete;
  ~History();

  /// Throws Error if a column of the row is not set or the disk is full.
  void append(const Row& row);
  /// After it, everything appended is in history.h5, on disk. Throws Error (and leaves the old file
  /// and the journal as they were) if it cannot be written.
  void seal();
  /// Rows so far, sealed or not; every table of the schema is there.
  RowCounts row_counts() const;
  /// Drops the rows of each table beyond its count, and seals. Throws Error if there are fewer rows
  /// than a count says. Tables that are not named are cut to nothing.
  void cut_back(const RowCounts& counts);

  /// history.h5 and history.journal of a run folder; removes them, as for a fresh start.
  static std::filesystem::path file_in(const std::filesystem::path& folder);
  static std::filesystem::path journal_in(const std::filesystem::path& folder);
  static void remove(const std::filesystem::path& folder);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace fst
