#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>

namespace fst {

/// The HDF5 file of `fst score`: per case a group /case/<i> with the attribute id, logprob f32
/// [T-1] and, if wanted, logits f32 [T, vocab]. Written under a temporary name until commit(). One
/// rank.
class ScoreFile {
 public:
  /// Throws Error if the file cannot be made or its disk has no room for `payload_bytes` of
  /// numbers.
  ScoreFile(std::filesystem::path target, std::int64_t payload_bytes);
  ScoreFile(const ScoreFile&) = delete;
  ScoreFile& operator=(const ScoreFile&) = delete;
  /// Without commit() nothing is left.
  ~ScoreFile();

  /// Adds the next case; returns its number.
  std::int64_t add(const std::string& id, std::span<const float> logprob);
  /// Logits of case `number`, all rows still to come.
  void make_logits(std::int64_t number, std::int64_t rows, std::int64_t vocab);
  /// Rows [first, first + values.size() / vocab) of them.
  void logits(std::int64_t number, std::int64_t first, std::span<const float> values);
  void commit();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace fst
