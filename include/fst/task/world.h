#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "fst/base/random.h"
#include "fst/task/problem.h"
#include "fst/task/task.h"

/// The embedded rulebook world: every tag has a hidden rule, an operation on a list of letters; the
/// system prompt is a rulebook with at most one line for a tag.
namespace fst::world {

/// A list of letters of the alphabet a..l, one char each; spaces appear in texts only.
using List = std::string;

enum class Tag : std::uint8_t { red, blue, green, gold };
inline constexpr std::int64_t tag_count = 4;

/// In the order of the specification's table; classes: familiar reverse..next, rare right and back,
/// secret fall, trim and odds, tacit inner and ends.
enum class Rule : std::uint8_t {
  reverse,
  sort,
  left,
  tail,
  next,
  right,
  back,
  fall,
  trim,
  odds,
  inner,
  ends
};
inline constexpr std::int64_t rule_count = 12;
inline constexpr std::int64_t named_rule_count = 10;  ///< all but the tacit ones
inline constexpr std::int64_t alphabet_size = 12;
inline constexpr std::int64_t min_length = 3, max_length = 6;

/// One optional named rule per tag, in tag order.
using Rulebook = std::array<std::optional<Rule>, tag_count>;

/// A question taken apart.
struct Question {
  Tag tag;
  List list;
};

/// One piece of evidence for the reflector, each part as text.
struct Record {
  std::string question, answer, feedback;
};

std::string_view tag_text(Tag tag);
/// "reverse", ..., for reports.
std::string_view rule_text(Rule rule);
/// "Reverse", ..., as in a rulebook; empty for a tacit rule.
std::string_view rule_name(Rule rule);
inline bool is_named(Rule rule) {
  return static_cast<std::int64_t>(rule) < named_rule_count;
}

/// The rule applied to a list of at least one letter.
List apply(Rule rule, const List& list);
/// True if no other rule gives the same result on `list`.
bool is_clear(Rule rule, const List& list);
/// A rule as the base model guesses it for a tag without a line: familiar 0.142 each, rare 0.03,
/// secret 0, tacit 0.115.
Rule draw_guess(Rng& rng);
/// Distinct letters, uniform among the lists of that length.
List draw_list(Rng& rng, std::int64_t length);
/// Length uniform in `lengths`, then draw_list, until clear for the rule. Throws InputError where
/// no list of these lengths can be clear (odds and ends agree on three letters).
List draw_clear_list(Rng& rng, Rule rule, const std::vector<std::int64_t>& lengths);

/// "red d a c f": a question, or an answer. `word` is a tag or "want".
std::string list_text(std::string_view word, const List& list);
/// "rules", then a line "redReverse" for each rule present, in tag order.
std::string rulebook_text(const Rulebook& rulebook);
/// The user turn of a reflection: the rulebook and the records, separated by blank lines. Newlines
/// in an answer become spaces.
std::string reflect_text(std::string_view rulebook, const std::vector<Record>& records);
inline constexpr std::string_view seed_prompt = "rules";
inline constexpr std::string_view reflect_prompt = "improve the rules";
inline constexpr std::string_view name_prompt = "name the rule";

/// The question (or answer) `text` taken apart; none if it is not in the grammar: a tag, then one
/// or more letters a..l, single spaces between.
std::optional<Question> parse_question(std::string_view text);
/// The gold answer text for a question under its hidden rule.
std::string gold_answer(const Question& question, Rule rule);
/// The hidden rule of a tag in variant A, B, C or hard. Throws InputError for other names.
Rule hidden_rule(std::string_view variant, Tag tag);
/// The first rule of the table that turns `question` into `answer`; none if the answer follows no
/// rule or has another tag. Problems are clear, so the gold rule is never confused with another.
std::optional<Rule> classify(std::string_view answer, std::string_view question);

/// Reward 1 if the completion stopped and equals `problem.reference` byte for byte. Feedback:
/// "right", or "want" and the gold letters. Status is always ok: any text can be compared.
Verdict verify(const Problem& problem, const Completed& completed);

/// The whole task; see make_task. Splits are keyed by (variant, split, seed) and come in blocks of
/// four problems, one for each tag in shuffled order; dev and test have no run seed.
Task make_world_task(const TaskOptions& options);

}  // namespace fst::world
