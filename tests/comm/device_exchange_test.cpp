#include "fst/comm/device_exchange.h"

#include <gtest/gtest.h>

#include "fst/base/error.h"

namespace fst {
namespace {

DevicePlace place(const char* host, const char* gpu) {
  return {host, gpu, "", 22809};
}

TEST(DeviceExchange, NcclServesRanksWithAGpuEach) {
  EXPECT_EQ(against_nccl({place("a", "GPU-0"), place("a", "GPU-1"), place("b", "GPU-2")}), "");
  // Emulated devices have the same names on every node.
  EXPECT_EQ(against_nccl({place("a", "GPU-0"), place("b", "GPU-0")}), "");
}

TEST(DeviceExchange, NcclDoesNotServeRanksThatShareAGpu) {
  EXPECT_EQ(against_nccl({place("a", "GPU-0"), place("a", "GPU-1"), place("a", "GPU-0")}),
            "rank 0 and rank 2 share GPU-0 of node a");
}

TEST(DeviceExchange, NcclDoesNotServeTheCpu) {
  EXPECT_EQ(against_nccl({place("a", "GPU-0"), place("b", "")}), "rank 1 computes on the CPU");
}

TEST(DeviceExchange, NcclMustBeThereOnEveryRankInOneVersion) {
  std::vector<DevicePlace> places{place("a", "GPU-0"), place("b", "GPU-1")};
  places[1].nccl_problem = "libnccl.so.2: not found";
  EXPECT_EQ(against_nccl(places), "rank 1: libnccl.so.2: not found");
  places[1] = place("b", "GPU-1");
  places[1].nccl_version = 22600;
  EXPECT_EQ(against_nccl(places), "rank 0 and rank 1 have different versions of NCCL");
}

TEST(DeviceExchange, PlacesTravel) {
  const DevicePlace sent{"node", "GPU-7", "no library", 21805};
  Packer packer;
  sent.pack(packer);
  Unpacker unpacker(packer.bytes());
  const DevicePlace place = DevicePlace::unpack(unpacker);
  unpacker.expect_done();
  EXPECT_EQ(place.host + place.gpu + place.nccl_problem, "nodeGPU-7no library");
  EXPECT_EQ(place.nccl_version, 21805);
}

TEST(DeviceExchange, IsNamedByADeck) {
  EXPECT_EQ(device_exchange_named("auto"), DeviceExchange::automatic);
  EXPECT_EQ(device_exchange_named("nccl"), DeviceExchange::nccl);
  EXPECT_EQ(device_exchange_named("host"), DeviceExchange::host);
  EXPECT_THROW(device_exchange_named("mpi"), InputError);
}

}  // namespace
}  // namespace fst
