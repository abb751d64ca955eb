#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <span>
#include <vector>

#include "fst/store/h5.h"
#include "fst/store/history.h"

#include "column.h"

namespace fst {

using TableRows = std::array<std::int64_t, tables.size()>;

/// The HDF5 side of a history: columns of equal length per table.
class HistoryFile {
 public:
  /// Checks envelope, kind and schema. Throws Error naming what is wrong.
  static HistoryFile open(const std::filesystem::path& file);
  /// `temporary` as a copy of `file`, or with empty tables if there is no `file`, open for
  /// appending. Throws Error if there is no room for it and `more_bytes`.
  static HistoryFile copy(const std::filesystem::path& file, const std::filesystem::path& temporary,
                          std::int64_t more_bytes);

  void identify(const FileIdentity& identity);
  bool identified_as(const FileIdentity& identity) const;
  TableRows rows() const;
  /// Shortens each table to its number of rows.
  void cut(const TableRows& rows);
  void close() { file_.close(); }

  h5::File& h5() { return file_; }
  const h5::File& h5() const { return file_; }

 private:
  explicit HistoryFile(h5::File file) : file_(std::move(file)) {}
  void make_tables();
  h5::File file_;
};

/// Collects cells of one column and appends them in one write.
class ColumnAppender {
 public:
  explicit ColumnAppender(std::size_t column) : column_(columns[column]) {}
  void add(std::span<const std::byte> cell);
  /// `rows`: how many the column has.
  void write(HistoryFile& file, std::int64_t rows) const;

 private:
  const Column& column_;
  std::vector<std::byte> values_;
  std::vector<std::int64_t> ends_;  // in bytes
};

/// "2026-05-12T08:30:00Z"
std::string utc_now();
/// Sets the attributes that all our files carry.
void set_identity(h5::File& file, const std::string& filetype, const FileIdentity& identity,
                  const std::string& created);

}  // namespace fst
