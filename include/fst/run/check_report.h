#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "fst/run/config.h"

namespace fst {

/// What `fst check` prints: the resolved deck, keys that the method ignores, ranks per role, an
/// estimate of each rank's memory, steps, files and one rendered prompt. Reads the models' small
/// files and the task's problems; writes nothing. Throws InputError for what could not start on
/// `ranks` ranks (nothing: those that the deck names, or the fewest that will do).
std::string check_report(const Deck& deck, std::optional<int> ranks);

/// Tokens of the first training prompt, by which memory is planned. Reads the deck's files.
std::int64_t first_prompt_tokens(const RunConfig& config);

/// Throws InputError for what check_report() would refuse on so many ranks: contradictions between
/// roles, degrees, models and ranks, and memory. Before anything is allocated; not collective.
void expect_plan(const RunConfig& config, int ranks);

}  // namespace fst
