#include <cstdio>

#include "fst/run/arguments.h"
#include "fst/run/check_report.h"
#include "fst/run/continuation.h"
#include "fst/run/deck_file.h"
#include "fst/run/verbs.h"

namespace fst {

namespace {

/// One key a line, columns aligned.
std::string keys_table() {
  std::string text;
  const auto padded = [](std::string cell, std::size_t width) {
    if (cell.size() < width) cell.resize(width, ' ');
    return cell + "  ";
  };
  text += padded("key", 28) + padded("default", 12) + padded("unit", 16) + padded("resumed", 10) +
          "type; meaning\n";
  for (const KeyInfo& key : keys_of(RunConfig{})) {
    text += padded(key.name, 28) + padded(key.text.empty() ? "-" : key.text, 12) +
            padded(key.unit.empty() ? "-" : key.unit, 16) +
            padded(may_change_on_resume(key.name) ? "may change" : "fixed", 10) + key.type + "; " +
            key.help + "\n";
  }
  return text;
}

}  // namespace

int check_verb(World& world, const Words& words) {
  Usage usage;
  usage.verb = "check";
  usage.summary =
      "Resolves a deck and prints what it comes to: every key, ranks, memory, steps, files and "
      "one\n"
      "rendered prompt. Touches nothing.";
  usage.options.add_options()(
      "keys", boost::program_options::bool_switch(),
      "list all keys with default, unit, whether a resumed run may change them, type and meaning")(
      "ranks", boost::program_options::value<std::int64_t>(),
      "ranks of the job; default: those that the deck names, or the fewest that will do");
  const auto call = DeckCall::parse(usage, words);
  if (!call) return EXIT_SUCCESS;
  std::optional<int> ranks;
  if (call->arguments.given("ranks")) {
    ranks = static_cast<int>(call->arguments.integer("ranks", 1, 1'000'000));
  }
  const std::string text =
      call->arguments.flag("keys") ? keys_table() : check_report(call->deck(world), ranks);
  std::fputs(text.c_str(), stdout);
  return EXIT_SUCCESS;
}

}  // namespace fst
