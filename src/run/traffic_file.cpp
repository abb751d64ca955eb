#include "fst/run/traffic_file.h"

#include <nlohmann/json.hpp>

#include "fst/comm/exchange.h"
#include "fst/store/files.h"

namespace fst {

namespace {

/// The tables of one rank.
struct RankTraffic {
  std::int32_t rank = 0;
  std::vector<TrafficRow> rows;

  void pack(Packer& packer) const {
    packer.put(rank);
    packer.put(rows);
  }
  static RankTraffic unpack(Unpacker& unpacker) {
    const auto rank = unpacker.get<std::int32_t>();
    return {rank, unpacker.get<std::vector<TrafficRow>>()};
  }
};

}  // namespace

void write_traffic(const World& world, const std::string& file) {
  using Json = nlohmann::ordered_json;
  const std::vector<RankTraffic> mine{{world.all().rank(), world.traffic()}};
  const auto all = all_gather<RankTraffic>(world.all(), mine, "traffic");
  if (world.all().rank() != 0) return;
  Json rows = Json::array();
  for (const RankTraffic& one : all) {
    for (const TrafficRow& row : one.rows) {
      rows.push_back({{"rank", one.rank},
                      {"communicator", row.communicator},
                      {"what", row.what},
                      {"calls", row.traffic.calls},
                      {"sent", row.traffic.sent},
                      {"received", row.traffic.received}});
    }
  }
  const Json json{
      {"ranks", world.all().size()}, {"layout", world.layout()}, {"traffic", std::move(rows)}};
  write_text(file, json.dump(1) + "\n");
}

}  // namespace fst
