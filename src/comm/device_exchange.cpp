#include "fst/comm/device_exchange.h"

#include <map>
#include <utility>

#include "fst/base/error.h"

namespace fst {

DeviceExchange device_exchange_named(const std::string& name) {
  if (name == "auto") return DeviceExchange::automatic;
  if (name == "nccl") return DeviceExchange::nccl;
  if (name == "host") return DeviceExchange::host;
  throw InputError("exchange " + name + ": expected auto, nccl or host");
}

void DevicePlace::pack(Packer& packer) const {
  packer.put(std::string_view(host));
  packer.put(std::string_view(gpu));
  packer.put(std::string_view(nccl_problem));
  packer.put(nccl_version);
}

DevicePlace DevicePlace::unpack(Unpacker& unpacker) {
  DevicePlace place;
  place.host = unpacker.get<std::string>();
  place.gpu = unpacker.get<std::string>();
  place.nccl_problem = unpacker.get<std::string>();
  place.nccl_version = unpacker.get<int>();
  return place;
}

std::string against_nccl(const std::vector<DevicePlace>& places) {
  const auto rank = [](std::size_t r) { return "rank " + std::to_string(r); };
  for (std::size_t r = 0; r < places.size(); ++r) {
    if (places[r].gpu.empty()) return rank(r) + " computes on the CPU";
  }
  for (std::size_t r = 0; r < places.size(); ++r) {
    if (!places[r].nccl_problem.empty()) return rank(r) + ": " + places[r].nccl_problem;
    if (places[r].nccl_version != places[0].nccl_version) {
      return rank(0) + " and " + rank(r) + " have different versions of NCCL";
    }
  }
  std::map<std::pair<std::string, std::string>, std::size_t> owners;
  for (std::size_t r = 0; r < places.size(); ++r) {
    const auto [other, first] = owners.try_emplace({places[r].host, places[r].gpu}, r);
    if (first) continue;
    return rank(other->second) + " and " + rank(r) + " share " + places[r].gpu + " of node " +
           places[r].host;
  }
  return "";
}

}  // namespace fst
