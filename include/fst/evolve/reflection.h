#pragma once

#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace fst {

/// A value in a record shown to the reflection model: text, a list, or named values in order.
struct RecordValue {
  enum class Kind { text, list, map };
  Kind kind = Kind::text;
  std::string text;
  std::vector<std::pair<std::string, RecordValue>> entries;  ///< a list's names are empty

  static RecordValue of(std::string text);
  static RecordValue list(std::vector<RecordValue> values);
  static RecordValue map(std::vector<std::pair<std::string, RecordValue>> values);
};

/// Records as the reference writes them: a heading "Example n" each, below it a heading per key and
/// the trimmed value; one level deeper per nesting, at most six; list members are "Item n".
std::string render_records(std::span<const RecordValue> records);

/// What a rollout of the parent shows.
struct Evidence {
  std::string question;
  std::string completion;
  std::string feedback;
  double reward = 0;
};

/// How a reflection model is asked, read from a text file. Lines before the first section are
/// comment. A section begins with a line `%% name` and ends before the next; its last newline is
/// dropped. Sections:
///
///     %% system   the system message; without the section there is none
///     %% user     the user message. Placeholders: <curr_param> (the current prompt, required here
///     or
///                 in the system message) and <side_info> (the records, required)
///     %% record   one record. Placeholders: <number>, <question>, <answer>, <answer_line>
///     (newlines
///                 replaced by spaces), <feedback>, <reward>. Records are joined by a blank line.
///                 Without the section records are rendered by render_records with the keys Inputs,
///                 Generated Outputs, Feedback.
///
/// Substituted text is never searched for placeholders again.
struct ReflectionLayout {
  std::string system, user, record;
  bool has_system = false, has_record = false;
};

/// `name` is the file's name, for errors. Throws InputError for an unknown, repeated or missing
/// section and for a missing placeholder.
ReflectionLayout parse_layout(std::string_view text, const std::string& name);

/// The two messages for the reflection model; no system message if `has_system` is false.
struct ReflectionChat {
  std::string system, user;
  bool has_system = false;
};

struct RenderOptions {
  /// Longest question, completion and feedback in bytes, each; 0: no limit. A longer one keeps its
  /// head and its tail, cut between characters.
  std::int64_t evidence_bytes = 0;
};

ReflectionChat render_reflection(const ReflectionLayout& layout, std::string_view prompt,
                                 std::span<const Evidence> evidence, const RenderOptions& options);

/// Replaces each placeholder by its text in one pass from left to right.
std::string fill_placeholders(
    std::string_view text,
    std::initializer_list<std::pair<std::string_view, std::string_view>> values);

/// At most `bytes` bytes (0: all): head, " [...] ", tail.
std::string head_and_tail(std::string_view text, std::int64_t bytes);

}  // namespace fst
