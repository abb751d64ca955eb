#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string_view>

namespace fst {

/// metrics.jsonl: one JSON object per line, written as it happens. Rank 0 only.
class MetricsLog {
 public:
  /// Opens or creates; a last line without its newline (a kill while writing) is cut off.
  explicit MetricsLog(const std::filesystem::path& file);
  MetricsLog(MetricsLog&&) noexcept;
  MetricsLog& operator=(MetricsLog&&) = delete;
  MetricsLog(const MetricsLog&) = delete;
  MetricsLog& operator=(const MetricsLog&) = delete;
  ~MetricsLog();

  /// Appends `json` (no newline in it) and a newline in one write. Throws Error if the disk is
  /// full.
  /// Returns when the lines are on the disk.
  void sync();
  void append(std::string_view json);
  /// Lines so far.
  std::int64_t lines() const;
  /// Drops the lines beyond `lines`. Throws Error if there are fewer.
  void cut_back(std::int64_t lines);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace fst
