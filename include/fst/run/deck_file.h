#pragma once

#include <string>
#include <vector>

#include "fst/comm/world.h"
#include "fst/run/config.h"
#include "fst/task/task.h"

namespace fst {

/// True for `--section.key=value`, which belongs to the deck and not to the verb.
bool is_override(const std::string& word);
/// Reads the deck at `path` on rank 0 and parses it on every rank. Collective over all ranks.
Deck read_deck(const World& world, const std::string& path,
               const std::vector<std::string>& overrides);
/// What the deck says about ranks.
RankPlan plan_of(const RunConfig& config);
/// What the deck says about the task, in one of its variants; files are read by `read`.
TaskOptions task_options(const RunConfig& config, const std::string& variant, ReadFile read);

}  // namespace fst
