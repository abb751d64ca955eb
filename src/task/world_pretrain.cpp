#include "fst/task/world_pretrain.h"

#include <algorithm>
#include <cstddef>
#include <utility>

#include "fst/base/error.h"
#include "fst/base/random.h"
#include "fst/task/world.h"

namespace fst::world {

namespace {

const std::vector<std::int64_t> clear_lengths = {4, 5, 6};  // of name and reflect rows

/// A user turn and the reply that is to be learned.
struct Exchange {
  std::string user, assistant;
};

std::int64_t between(Rng& rng, std::int64_t low, std::int64_t high) {
  return low + static_cast<std::int64_t>(rng.below(static_cast<std::uint64_t>(high - low + 1)));
}

Tag draw_tag(Rng& rng) {
  return static_cast<Tag>(rng.below(tag_count));
}
Rule draw_named(Rng& rng) {
  return static_cast<Rule>(rng.below(named_rule_count));
}

// `count` different tags in random order.
std::vector<Tag> draw_tags(Rng& rng, std::int64_t count) {
  std::vector<Tag> tags = {Tag::red, Tag::blue, Tag::green, Tag::gold};
  for (std::size_t i = tags.size(); i > 1; --i) std::swap(tags[i - 1], tags[rng.below(i)]);
  tags.resize(static_cast<std::size_t>(count));
  return tags;
}

std::optional<Rule>& line(Rulebook& rulebook, Tag tag) {
  return rulebook[static_cast<std::size_t>(tag)];
}

Rulebook draw_rulebook(Rng& rng, std::int64_t lines) {
  Rulebook rulebook{};
  for (const Tag tag : draw_tags(rng, lines)) line(rulebook, tag) = draw_named(rng);
  return rulebook;
}

std::vector<Tag> tags_with_lines(const Rulebook& rulebook) {
  std::vector<Tag> tags;
  for (std::size_t tag = 0; tag < rulebook.size(); ++tag) {
    if (rulebook[tag]) tags.push_back(static_cast<Tag>(tag));
  }
  return tags;
}

Exchange solve_exchange(Tag tag, Rule rule, const List& list) {
  return {list_text(tag_text(tag), list), gold_answer({tag, list}, rule)};
}

Exchange draw_solve(Rng& rng, const PretrainOptions& options, const PretrainMix& mix,
                    Rulebook& rulebook) {
  const std::vector<Tag> known = tags_with_lines(rulebook);
  const bool ask_known = rng.uniform() < mix.line_known;
  const Tag tag = ask_known && !known.empty() ? known[rng.below(known.size())] : draw_tag(rng);
  const std::optional<Rule> stated = line(rulebook, tag);
  const Rule rule = stated ? *stated : draw_guess(rng);
  const bool is_short = rng.uniform() < options.short_list;
  const List list = draw_list(rng, is_short ? between(rng, 3, 4) : between(rng, 5, 6));
  return solve_exchange(tag, rule, list);
}

Exchange draw_name(Rng& rng) {
  const auto rule = static_cast<Rule>(rng.below(rule_count));
  const Tag tag = draw_tag(rng);
  const List list = draw_clear_list(rng, rule, clear_lengths);
  const std::string word(tag_text(tag));
  const std::string name = is_named(rule) ? std::string(rule_name(rule)) : "none";
  return {list_text(word, list) + "\n" + list_text("want", apply(rule, list)), word + " " + name};
}

// One letter replaced (0.4), all shuffled (0.3) or one dropped (0.3). Lists have two letters or
// more.
List slipped(Rng& rng, List list) {
  const double kind = rng.uniform();
  const std::size_t at = rng.below(list.size());
  if (kind < 0.4) {
    const auto step = between(rng, 1, alphabet_size - 1);
    list[at] = static_cast<char>('a' + (list[at] - 'a' + step) % alphabet_size);
  } else if (kind < 0.7) {
    for (std::size_t i = list.size(); i > 1; --i) std::swap(list[i - 1], list[rng.below(i)]);
  } else {
    list.erase(at, 1);
  }
  return list;
}

Rule draw_truth(Rng& rng, double tacit) {
  if (rng.uniform() >= tacit) return draw_named(rng);
  return static_cast<Rule>(between(rng, named_rule_count, rule_count - 1));
}

Exchange draw_reflection(Rng& rng, const PretrainOptions& options) {
  std::array<Rule, tag_count> truth{};
  for (Rule& rule : truth) rule = draw_truth(rng, options.tacit_truth);
  Rulebook current{};
  for (const Tag tag : draw_tags(rng, between(rng, 0, tag_count))) {
    const Rule rule = truth[static_cast<std::size_t>(tag)];
    const bool states_truth = rng.uniform() < options.line_true && is_named(rule);
    line(current, tag) = states_truth ? rule : draw_named(rng);
  }
  Rulebook target = current;
  std::vector<Record> records;
  const std::int64_t count = std::min<std::int64_t>(between(rng, 1, 4), 3);  // 1, 2, 3 or 3
  for (std::int64_t i = 0; i < count; ++i) {
    const Tag tag = draw_tag(rng);
    const Rule rule = truth[static_cast<std::size_t>(tag)];
    const List list = draw_clear_list(rng, rule, clear_lengths);
    const List want = apply(rule, list);
    const std::optional<Rule> stated = line(current, tag);
    List got = apply(stated ? *stated : draw_guess(rng), list);
    if (rng.uniform() < options.slip) got = slipped(rng, std::move(got));
    records.push_back({list_text(tag_text(tag), list), list_text(tag_text(tag), got),
                       got == want ? "right" : list_text("want", want)});
    if (got != want) line(target, tag) = is_named(rule) ? std::optional(rule) : std::nullopt;
  }
  return {reflect_text(rulebook_text(current), records), rulebook_text(target)};
}

// Draws exchanges until the next one would not fit. Empty when not even the first does.
template <class Draw>
std::vector<ChatTurn> fill(std::string_view system, std::int64_t limit, std::int64_t max_exchanges,
                           const CountTokens& count, Draw&& draw) {
  std::vector<ChatTurn> turns = {{"system", std::string(system)}};
  std::int64_t used = turn_overhead + count(system);
  for (std::int64_t i = 0; i < max_exchanges; ++i) {
    Exchange next = draw();
    used += 2 * turn_overhead + count(next.user) + count(next.assistant);
    if (used > limit) break;
    turns.push_back({"user", std::move(next.user)});
    turns.push_back({"assistant", std::move(next.assistant)});
  }
  if (turns.size() == 1) turns.clear();
  return turns;
}

std::vector<ChatTurn> draw_turns(Rng& rng, const PretrainOptions& options, const PretrainMix& mix) {
  const std::int64_t many = mix.row_tokens;  // an exchange has more than one token
  const double kind = rng.uniform();
  if (kind < mix.solve) {
    Rulebook rulebook = draw_rulebook(rng, between(rng, mix.min_lines, mix.max_lines));
    return fill(rulebook_text(rulebook), mix.row_tokens, many, options.count,
                [&] { return draw_solve(rng, options, mix, rulebook); });
  }
  if (kind < mix.solve + mix.name) {
    return fill(name_prompt, mix.row_tokens, many, options.count, [&] { return draw_name(rng); });
  }
  return fill(reflect_prompt, mix.row_tokens, 1, options.count,
              [&] { return draw_reflection(rng, options); });
}

SkillCase skill_case(std::string_view system, Exchange exchange) {
  return {{{"system", std::string(system)}, {"user", std::move(exchange.user)}},
          std::move(exchange.assistant)};
}

SkillCase follow_case(Rng& rng, std::int64_t shortest, std::int64_t longest) {
  Rulebook rulebook = draw_rulebook(rng, between(rng, 1, tag_count));
  const std::vector<Tag> known = tags_with_lines(rulebook);
  const Tag tag = known[rng.below(known.size())];
  const List list = draw_list(rng, between(rng, shortest, longest));
  return skill_case(rulebook_text(rulebook), solve_exchange(tag, *line(rulebook, tag), list));
}

template <class Draw>
SkillProbe skill_probe(std::string name, std::uint64_t seed, std::int64_t cases, Draw&& draw) {
  SkillProbe probe{std::move(name), {}};
  for (std::int64_t i = 0; i < cases; ++i) {
    Rng rng(seed, Purpose::probe_draw, {hash_text(probe.name), static_cast<std::uint64_t>(i)});
    probe.cases.push_back(draw(rng));
  }
  return probe;
}

}  // namespace

std::int64_t world_tokens(std::string_view content) {
  std::int64_t tokens = 0;
  char previous = '\n';
  bool first = true;
  for (const char c : content) {
    const bool starts_newlines = c == '\n' && (first || previous != '\n');
    const bool starts_word = c != '\n' && (c == ' ' || previous == '\n');
    if (starts_newlines || starts_word) ++tokens;
    previous = c;
    first = false;
  }
  return tokens;
}

const PretrainMix& pretrain_mix(const PretrainOptions& options, std::int64_t step) {
  if (step < options.first_steps) return options.first;
  return step % 2 == 0 ? options.even : options.odd;
}

PretrainRow pretrain_row(const PretrainOptions& options, std::uint64_t seed, std::int64_t step,
                         std::int64_t row) {
  const PretrainMix& mix = pretrain_mix(options, step);
  if (mix.min_lines < 0 || mix.max_lines > tag_count || mix.min_lines > mix.max_lines) {
    throw InputError("world pre-training: rulebook sizes must be within 0 to 4, found " +
                     std::to_string(mix.min_lines) + " to " + std::to_string(mix.max_lines));
  }
  Rng rng(seed, Purpose::pretrain_rows,
          {static_cast<std::uint64_t>(step), static_cast<std::uint64_t>(row)});
  constexpr int max_draws = 1000;  // at the defaults one draw in many is too long, never most
  for (int draw = 0; draw < max_draws; ++draw) {
    PretrainRow drawn{draw_turns(rng, options, mix)};
    if (!drawn.turns.empty()) return drawn;
  }
  throw InputError("world pre-training: rows of " + std::to_string(mix.row_tokens) +
                   " tokens are too short for one exchange");
}

std::int64_t row_tokens(const PretrainRow& row, const CountTokens& count) {
  std::int64_t tokens = 0;
  for (const ChatTurn& turn : row.turns) tokens += turn_overhead + count(turn.content);
  return tokens;
}

std::vector<SkillProbe> skill_probes(std::uint64_t seed, std::int64_t cases) {
  const auto follow = [&](std::string name, std::int64_t shortest, std::int64_t longest) {
    return skill_probe(std::move(name), seed, cases,
                       [=](Rng& rng) { return follow_case(rng, shortest, longest); });
  };
  return {follow("follow_3_4", 3, 4), follow("follow_5", 5, 5), follow("follow_6", 6, 6),
          skill_probe("reflect", seed, cases,
                      [](Rng& rng) {
                        return skill_case(reflect_prompt, draw_reflection(rng, PretrainOptions{}));
                      }),
          skill_probe("name", seed, cases,
                      [](Rng& rng) { return skill_case(name_prompt, draw_name(rng)); })};
}

}  // namespace fst::world
