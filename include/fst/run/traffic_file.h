#pragma once

#include <string>

#include "fst/comm/world.h"

namespace fst {

/// Writes what every rank has moved so far to `file` as one JSON object: "ranks", "layout", and
/// "traffic", a list of {"rank", "communicator", "what", "calls", "sent", "received"} by rank. The
/// numbers are as in comm/traffic.h; analysis/ has the formulas for them. Collective over all
/// ranks.
void write_traffic(const World& world, const std::string& file);

}  // namespace fst
