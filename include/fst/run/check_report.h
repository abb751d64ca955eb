#pragma once

#include <string>

#include "fst/run/config.h"

namespace fst {

/// What `fst check` prints: the resolved deck, keys that the method ignores, ranks per role, an
/// estimate of each rank's memory, steps, files and one rendered prompt. Reads the models' small
/// files and the task's problems; writes nothing. Throws InputError for what could not start.
std::string check_report(const Deck& deck);

}  // namespace fst
