#pragma once

#include <optional>
#include <string>
#include <vector>

#include "fst/comm/world.h"
#include "fst/run/arguments.h"
#include "fst/run/config.h"
#include "fst/task/task.h"

namespace fst {

/// A verb called with a deck: its own options, and `--section.key=value` for the deck.
struct DeckCall {
  Arguments arguments;
  std::vector<std::string> overrides;

  /// Nothing if `words` hold --help: the usage was printed. Mistakes as Arguments::parse.
  static std::optional<DeckCall> parse(Usage usage, const std::vector<std::string>& words);
  /// Reads the deck on rank 0 and parses it on every rank. Collective over all ranks.
  Deck deck(const World& world) const;
};

/// What the deck says about the task, in one of its variants; files are read by `read`.
TaskOptions task_options(const RunConfig& config, const std::string& variant, ReadFile read);

}  // namespace fst
