#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include "fst/comm/pack.h"

namespace fst {

/// Bytes one rank moved under one name. What is counted is what the operation means, whatever MPI
/// makes of it: `sent` is what others got of this rank, once for each who got it; `received` is
/// what came from others. So over all ranks both have the same sum. A reduction counts as if every
/// member sent its operand to every other. The lengths that variable messages carry along (8 bytes
/// per partner and call) are in, what a rank gives itself is not.
struct Traffic {
  std::int64_t calls = 0, sent = 0, received = 0;
  Traffic& operator+=(const Traffic& more) {
    calls += more.calls;
    sent += more.sent;
    received += more.received;
    return *this;
  }
};

/// By name: the `what` of the operation, without names of files ("checksum of ...").
using TrafficTable = std::map<std::string, Traffic, std::less<>>;

/// `what` up to the first slash, and "..." in place of the rest.
std::string traffic_name(std::string_view what);

/// An entry of a table on its way, with the communicator it belongs to.
struct TrafficRow {
  std::string communicator, what;
  Traffic traffic;

  void pack(Packer& packer) const;
  static TrafficRow unpack(Unpacker& unpacker);
};

}  // namespace fst
