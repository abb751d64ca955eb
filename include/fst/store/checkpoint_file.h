#pragma once

#include <compare>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "fst/comm/communicator.h"
#include "fst/store/history.h"

namespace fst {

/// checkpoint-<step>.h5, or checkpoint-<step>.r<round>.h5 between two evolution rounds. Ordered by
/// age: with equal steps, later rounds are newer than earlier ones and than the plain file, because
/// keep_checkpoints() removes a step's round files once its plain file is complete.
struct CheckpointId {
  std::int64_t step = 0;
  std::int32_t round = -1;  // -1: none
  friend auto operator<=>(const CheckpointId&, const CheckpointId&) = default;
};
std::string file_name(const CheckpointId& id);
/// Nothing if `name` is not the name of a checkpoint.
std::optional<CheckpointId> parse_checkpoint_name(std::string_view name);
/// Those that `folder` holds, newest first, good or bad.
std::vector<CheckpointId> list_checkpoints(const std::filesystem::path& folder);

/// Elements of a global array that lie one after another in memory: those from `begin` on, or, with
/// `width`, runs of `width` elements, `stride` apart there (a block of columns of a matrix).
template <class Float>
struct ArrayPart {
  std::int64_t begin = 0;
  std::span<Float> values;
  std::int64_t width = 0, stride = 0;  // width 0: one run; else it divides the number of values

  std::int64_t run_length() const {
    return width > 0 ? width : static_cast<std::int64_t>(values.size());
  }
  std::int64_t runs() const {
    return values.empty() ? 0 : static_cast<std::int64_t>(values.size()) / run_length();
  }
  /// Just behind the last element.
  std::int64_t end() const {
    return values.empty() ? begin : begin + (runs() - 1) * stride + run_length();
  }
  std::span<Float> run(std::int64_t index) const {
    const auto length = static_cast<std::size_t>(run_length());
    return values.subspan(static_cast<std::size_t>(index) * length, length);
  }
};
using ArrayPiece = ArrayPart<const float>;

/// Writes one checkpoint in parallel: under a temporary name until commit() has flushed, verified
/// and renamed it. All functions are collective over `comm`, which must outlive the writer, with
/// the same names, sizes and order on every member. Names are paths ("/policy/weights").
class CheckpointWriter {
 public:
  /// Throws Error on every member if the disk has not room for `payload_bytes` (all arrays and
  /// blobs together) and a margin; the message says what is needed and what is there.
  CheckpointWriter(const Communicator& comm, std::filesystem::path target,
                   const FileIdentity& identity, std::int64_t payload_bytes);
  CheckpointWriter(const CheckpointWriter&) = delete;
  CheckpointWriter& operator=(const CheckpointWriter&) = delete;
  /// Without commit(): nothing appears under the target's name.
  ~CheckpointWriter();

  /// A flat f32 array of `size` elements. The members' pieces (any number, also none) together
  /// cover every element exactly once; anything else is an Error in commit().
  void array(const std::string& name, std::int64_t size, std::span<const ArrayPiece> mine);
  /// Bytes, and 64-bit integers, of rank 0; what the others pass is not looked at.
  void blob(const std::string& name, std::string_view bytes, DigestUse use);
  void integers(const std::string& name, std::span<const std::int64_t> values, DigestUse use);
  /// Throws Error on every member, and removes the temporary file, if anything failed.
  void commit();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// Reads a checkpoint with any number of ranks and any ranges.
class CheckpointReader {
 public:
  /// Checks every byte of the file against its envelope, the members sharing the work. Collective
  /// over `comm`; throws Error on every member alike.
  CheckpointReader(const Communicator& comm, std::filesystem::path file);
  CheckpointReader(CheckpointReader&&) noexcept;
  CheckpointReader& operator=(CheckpointReader&&) noexcept;
  CheckpointReader(const CheckpointReader&) = delete;
  CheckpointReader& operator=(const CheckpointReader&) = delete;
  ~CheckpointReader();

  // Not collective. A name that is not there, or of another kind, is an Error that lists what is.
  const std::filesystem::path& file() const;
  std::vector<std::string> names() const;
  bool has(const std::string& name) const;
  std::int64_t array_size(const std::string& name) const;
  /// Fills `parts`, checked against the sums taken when the elements were written. Whole chunks of
  /// the file are read, each once where the parts ascend.
  void array(const std::string& name, std::span<const ArrayPart<float>> parts) const;
  /// Elements [begin, begin + out.size()).
  void array(const std::string& name, std::int64_t begin, std::span<float> out) const;
  std::string blob(const std::string& name) const;
  std::vector<std::int64_t> integers(const std::string& name) const;
  /// The configuration of the run that wrote it.
  std::string config() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// The newest checkpoint of `folder` that passes CheckpointReader's checks; each bad one is
/// reported as a warning and passed over. Leftover temporary files are removed. Collective over
/// `comm`, same result on every member; nothing if there is none.
std::optional<CheckpointReader> newest_good_checkpoint(const Communicator& comm,
                                                       const std::filesystem::path& folder);

/// Renames the checkpoints of `folder` that are newer than `taken` to <name>.aside, with a warning
/// for each: a run that goes on from `taken` must not meet them again. For rank 0 alone.
void set_aside(const std::filesystem::path& folder, const CheckpointId& taken);

/// To be called by rank 0 after `newest` was committed: removes the round files of its step (if it
/// is a plain one) and all checkpoints but the newest two and those of steps that `keep_every`
/// divides (0: none).
void keep_checkpoints(const std::filesystem::path& folder, const CheckpointId& newest,
                      std::int64_t keep_every);

}  // namespace fst
