#include "fst/task/world.h"

#include <algorithm>
#include <cstddef>
#include <numeric>
#include <utility>

#include "fst/base/error.h"
#include "fst/base/nearest.h"
#include "fst/task/text.h"

namespace fst::world {

namespace {

constexpr std::array<std::string_view, tag_count> tag_texts = {"red", "blue", "green", "gold"};

struct RuleEntry {
  std::string_view text, name;
  std::uint64_t guess;  // thousandths
};

// Guess weights: familiar 142, rare 30, secret 0, tacit 115; together 1000.
constexpr std::array<RuleEntry, rule_count> rules = {{{"reverse", "Reverse", 142},
                                                      {"sort", "Sort", 142},
                                                      {"left", "Left", 142},
                                                      {"tail", "Tail", 142},
                                                      {"next", "Next", 142},
                                                      {"right", "Right", 30},
                                                      {"back", "Back", 30},
                                                      {"fall", "Fall", 0},
                                                      {"trim", "Trim", 0},
                                                      {"odds", "Odds", 0},
                                                      {"inner", "", 115},
                                                      {"ends", "", 115}}};

struct Variant {
  std::string_view name;
  std::array<Rule, tag_count> rules;  // in tag order
};

constexpr std::array<Variant, 4> variants = {{
    {"A", {Rule::reverse, Rule::right, Rule::sort, Rule::inner}},
    {"B", {Rule::next, Rule::left, Rule::ends, Rule::back}},
    {"C", {Rule::back, Rule::sort, Rule::tail, Rule::right}},
    {"hard", {Rule::fall, Rule::odds, Rule::trim, Rule::fall}},
}};

const RuleEntry& entry(Rule rule) {
  return rules[static_cast<std::size_t>(rule)];
}

List shifted(const List& list, int by) {
  List out = list;
  for (char& c : out) {
    c = static_cast<char>('a' + (c - 'a' + by + alphabet_size) % alphabet_size);
  }
  return out;
}

List every_second(const List& list) {
  List out;
  for (std::size_t i = 0; i < list.size(); i += 2) out.push_back(list[i]);
  return out;
}

List rotated(const List& list, std::size_t first) {
  return list.substr(first) + list.substr(0, first);
}

List without_ends(const List& list) {
  return list.size() < 2 ? List() : list.substr(1, list.size() - 2);
}

List only_ends(const List& list) {
  return list.size() < 2 ? list : List{list.front(), list.back()};
}

}  // namespace

std::string_view tag_text(Tag tag) {
  return tag_texts[static_cast<std::size_t>(tag)];
}

std::string_view rule_text(Rule rule) {
  return entry(rule).text;
}

std::string_view rule_name(Rule rule) {
  return entry(rule).name;
}

List apply(Rule rule, const List& list) {
  if (list.empty()) throw Error("world: expected a list of at least one letter, found none");
  List out = list;
  switch (rule) {
    case Rule::reverse:
      std::ranges::reverse(out);
      return out;
    case Rule::sort:
      std::ranges::sort(out);
      return out;
    case Rule::left:
      return rotated(list, 1);
    case Rule::tail:
      return list.substr(1);
    case Rule::next:
      return shifted(list, 1);
    case Rule::right:
      return rotated(list, list.size() - 1);
    case Rule::back:
      return shifted(list, -1);
    case Rule::fall:
      std::ranges::sort(out, std::greater<>());
      return out;
    case Rule::trim:
      return list.substr(0, list.size() - 1);
    case Rule::odds:
      return every_second(list);
    case Rule::inner:
      return without_ends(list);
    case Rule::ends:
      return only_ends(list);
  }
  throw Error("world: expected a rule below " + std::to_string(rule_count) + ", found " +
              std::to_string(static_cast<int>(rule)));
}

bool is_clear(Rule rule, const List& list) {
  const List result = apply(rule, list);
  for (std::int64_t i = 0; i < rule_count; ++i) {
    const auto other = static_cast<Rule>(i);
    if (other != rule && apply(other, list) == result) return false;
  }
  return true;
}

Rule draw_guess(Rng& rng) {
  std::uint64_t left = rng.below(1000);
  for (std::int64_t i = 0; i < rule_count; ++i) {
    const auto rule = static_cast<Rule>(i);
    if (left < entry(rule).guess) return rule;
    left -= entry(rule).guess;
  }
  throw Error("world: the guess weights do not add up to 1000");
}

List draw_list(Rng& rng, std::int64_t length) {
  if (length < 1 || length > alphabet_size) {
    throw Error("world: expected a list length of 1 to 12, found " + std::to_string(length));
  }
  List letters(static_cast<std::size_t>(alphabet_size), 'a');
  std::iota(letters.begin(), letters.end(), 'a');
  for (std::size_t i = 0; i < static_cast<std::size_t>(length); ++i) {
    std::swap(letters[i], letters[i + rng.below(letters.size() - i)]);
  }
  return letters.substr(0, static_cast<std::size_t>(length));
}

List draw_clear_list(Rng& rng, Rule rule, const std::vector<std::int64_t>& lengths) {
  // Where a rule has clear lists at all, most lists are: so many misses mean there are none.
  constexpr int max_draws = 1000;
  for (int draw = 0; draw < max_draws; ++draw) {
    List list = draw_list(rng, lengths[rng.below(lengths.size())]);
    if (is_clear(rule, list)) return list;
  }
  throw InputError("world: rule " + std::string(rule_text(rule)) +
                   " has no clear list of the lengths asked for; allow a length of 4 or more");
}

std::string list_text(std::string_view word, const List& list) {
  std::string text(word);
  for (const char letter : list) {
    text += ' ';
    text += letter;
  }
  return text;
}

std::string rulebook_text(const Rulebook& rulebook) {
  std::string text(seed_prompt);
  for (std::size_t tag = 0; tag < rulebook.size(); ++tag) {
    if (!rulebook[tag]) continue;
    if (!is_named(*rulebook[tag])) {
      throw Error("world: rule " + std::string(rule_text(*rulebook[tag])) +
                  " has no name, a rulebook cannot hold it");
    }
    text += "\n";
    text += tag_texts[tag];
    text += rule_name(*rulebook[tag]);
  }
  return text;
}

std::string reflect_text(std::string_view rulebook, const std::vector<Record>& records) {
  std::string text(rulebook);
  for (const Record& record : records) {
    std::string answer = record.answer;
    std::ranges::replace(answer, '\n', ' ');
    text += "\n\n" + record.question + "\n" + answer + "\n" + record.feedback;
  }
  return text;
}

std::optional<Question> parse_question(std::string_view text) {
  for (std::size_t tag = 0; tag < tag_texts.size(); ++tag) {
    if (!text.starts_with(tag_texts[tag])) continue;
    const std::string_view rest = text.substr(tag_texts[tag].size());
    if (rest.empty() || rest.size() % 2 != 0) return std::nullopt;
    List list;
    for (std::size_t i = 0; i < rest.size(); i += 2) {
      const char letter = rest[i + 1];
      if (rest[i] != ' ' || letter < 'a' || letter >= 'a' + alphabet_size) return std::nullopt;
      list.push_back(letter);
    }
    return Question{static_cast<Tag>(tag), list};
  }
  return std::nullopt;
}

std::string gold_answer(const Question& question, Rule rule) {
  return list_text(tag_text(question.tag), apply(rule, question.list));
}

Rule hidden_rule(std::string_view variant, Tag tag) {
  for (const Variant& known : variants) {
    if (known.name == variant) return known.rules[static_cast<std::size_t>(tag)];
  }
  std::array<std::string_view, variants.size()> names;
  std::ranges::transform(variants, names.begin(), &Variant::name);
  throw InputError("world: variant " + in_quotes(variant) +
                   ": expected A, B, C or hard; nearest is " +
                   std::string(nearest(variant, names)));
}

std::optional<Rule> classify(std::string_view answer, std::string_view question) {
  const std::optional<Question> asked = parse_question(question), given = parse_question(answer);
  if (!asked || !given || asked->tag != given->tag) return std::nullopt;
  for (std::int64_t i = 0; i < rule_count; ++i) {
    const auto rule = static_cast<Rule>(i);
    if (apply(rule, asked->list) == given->list) return rule;
  }
  return std::nullopt;
}

Verdict verify(const Problem& problem, const Completed& completed) {
  if (completed.stopped && completed.text == problem.reference) {
    return {1.0f, VerdictStatus::ok, "right"};
  }
  const std::optional<Question> gold = parse_question(problem.reference);
  if (!gold) {
    return {
        0.0f, VerdictStatus::error,
        "the reference must be a tag and letters a to l, found " + in_quotes(problem.reference)};
  }
  return {0.0f, VerdictStatus::ok, list_text("want", gold->list)};
}

}  // namespace fst::world
