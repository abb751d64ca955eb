#include "fst/comm/traffic.h"

namespace fst {

std::string traffic_name(std::string_view what) {
  const auto slash = what.find('/');
  if (slash == std::string_view::npos) return std::string(what);
  return std::string(what.substr(0, slash)) + "...";
}

void TrafficRow::pack(Packer& packer) const {
  packer.put(std::string_view(communicator));
  packer.put(std::string_view(what));
  packer.put(traffic.calls);
  packer.put(traffic.sent);
  packer.put(traffic.received);
}

TrafficRow TrafficRow::unpack(Unpacker& unpacker) {
  TrafficRow row;
  row.communicator = unpacker.get<std::string>();
  row.what = unpacker.get<std::string>();
  row.traffic.calls = unpacker.get<std::int64_t>();
  row.traffic.sent = unpacker.get<std::int64_t>();
  row.traffic.received = unpacker.get<std::int64_t>();
  return row;
}

}  // namespace fst
