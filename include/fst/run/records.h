#pragma once

#include <cstdint>
#include <functional>
#include <initializer_list>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "fst/base/error.h"
#include "fst/base/types.h"
#include "fst/comm/world.h"

namespace fst {

/// One line of a JSON Lines file that the user gave: an object whose members are asked for. What
/// does not fit is an InputError with file, line, what was expected and what was found.
class Record {
 public:
  /// Parses one line. `place` is "file:line". Refuses what is not UTF-8 (with the offset), not a
  /// JSON object, and members given twice.
  Record(const std::string& line, std::string place);
  Record(Record&&) noexcept;
  Record& operator=(Record&&) noexcept;
  Record(const Record&) = delete;
  Record& operator=(const Record&) = delete;
  ~Record();

  const std::string& place() const { return place_; }
  std::vector<std::string> names() const;
  bool has(const std::string& name) const;  // and is not null
  std::string text(const std::string& name) const;
  /// Nothing if absent or null.
  std::optional<bool> flag(const std::string& name) const;
  /// A list of token ids, each in [0, vocab). `whose` says what has `vocab` ids, for messages.
  std::vector<TokenId> tokens(const std::string& name, std::int64_t vocab,
                              const std::string& whose) const;
  /// The member as JSON text.
  std::string json(const std::string& name) const;
  /// The one member of `names` that is there; refuses none and more than one.
  std::string one_of(std::initializer_list<const char*> names) const;
  [[noreturn]] void refuse(const std::string& why) const;

 private:
  struct Object;
  std::string place_;
  std::unique_ptr<Object> object_;
};

/// work(); an InputError that it throws gets the line's place in front.
template <class F>
auto in_line(const Record& line, F&& work) {
  try {
    return work();
  } catch (const InputError& error) {
    line.refuse(error.what());
  }
}

/// The lines of a file as records; blank lines are skipped. Members that are not in `known` are
/// ignored, with one warning for each name. Throws InputError if there is no record.
std::vector<Record> parse_records(const std::string& path, const std::string& text,
                                  std::initializer_list<const char*> known);

/// Throws InputError unless there is a file at `path`, and not a folder.
void expect_file(const std::string& path);
/// The bytes of a file that the user named. Throws InputError naming it if it is not there, a
/// folder or unreadable.
std::string read_input(const std::string& path);
/// The same, read by rank 0 for all. Collective over all ranks.
std::string read_input(const World& world, const std::string& path);

/// Runs `work` on rank 0; what it throws (InputError or else Error) is thrown on every rank alike.
/// Collective over all ranks.
void on_first_rank(const World& world, const std::string& what, const std::function<void()>& work);

/// Throws InputError unless the folder that `target` lies in exists and may be written.
void expect_parent(const std::string& target);
/// The same, and what is at `target`, if anything, is a regular file.
void expect_output(const std::string& target);

}  // namespace fst
