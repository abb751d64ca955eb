#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "fst/store/schema.h"

namespace fst {

/// Reads the sealed rows of a history.h5, column by column. The whole file is checked against its
/// envelope first; throws Error naming the file if anything is damaged.
class HistoryReader {
 public:
  explicit HistoryReader(const std::filesystem::path& file);
  HistoryReader(HistoryReader&&) noexcept;
  HistoryReader& operator=(HistoryReader&&) = delete;
  HistoryReader(const HistoryReader&) = delete;
  HistoryReader& operator=(const HistoryReader&) = delete;
  ~HistoryReader();

  std::int64_t rows(std::size_t table_number) const;
  /// One value per row; f64 holds every numeric type but large i64.
  std::vector<double> reals(Dataset column) const;
  /// i32, i64 and u8 columns.
  std::vector<std::int64_t> integers(Dataset column) const;
  std::vector<std::string> texts(Dataset column) const;
  std::vector<std::vector<double>> real_lists(Dataset column) const;
  std::vector<std::vector<std::int64_t>> integer_lists(Dataset column) const;
  /// A file attribute: "config", "git_commit", "created", ...
  std::string attribute(const std::string& name) const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace fst
