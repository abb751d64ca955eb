#include <array>
#include <string>
#include <vector>

#include "fst/comm/communicator.h"

#include "mpi_main.h"

namespace fst {
namespace {

class TrafficTest : public ::testing::TestWithParam<std::int64_t> {
 protected:
  TrafficTest() : comm_(test::world().all().subset(0, test::world().all().rank(), "traffic")) {
    comm_.set_chunk_bytes(GetParam());
  }
  std::int64_t rank() const { return comm_.rank(); }
  std::int64_t size() const { return comm_.size(); }
  /// With one member nothing is moved and nothing counted.
  void expect(const char* what, std::int64_t calls, std::int64_t sent, std::int64_t received) {
    if (size() == 1) {
      EXPECT_TRUE(comm_.traffic().empty());
      return;
    }
    const auto entry = comm_.traffic().find(what);
    ASSERT_NE(entry, comm_.traffic().end()) << what;
    EXPECT_EQ(entry->second.calls, calls) << what;
    EXPECT_EQ(entry->second.sent, sent) << what;
    EXPECT_EQ(entry->second.received, received) << what;
  }
  Communicator comm_;
};

INSTANTIATE_TEST_SUITE_P(Chunks, TrafficTest, ::testing::Values(std::int64_t{1} << 30, 1237));

TEST_P(TrafficTest, ABroadcastCountsAtTheRootOncePerReceiver) {
  std::vector<float> x(1001);
  comm_.broadcast(std::span<float>(x), 0, "weights");
  comm_.broadcast(std::span<float>(x), 0, "weights");
  const bool root = rank() == 0;
  expect("weights", 2, root ? 2 * 4004 * (size() - 1) : 0, root ? 0 : 2 * 4004);
}

TEST_P(TrafficTest, AReductionCountsAsIfEverybodySentToEverybody) {
  std::array<std::int64_t, 7> x{};
  comm_.all_reduce_sum(std::span<std::int64_t>(x), "sums");
  expect("sums", 1, 56 * (size() - 1), 56 * (size() - 1));
}

TEST_P(TrafficTest, AGatheringCountsLengthsAndContents) {
  const auto bytes_of = [](std::int64_t r) { return 700 * (r + 1); };
  const std::vector<std::byte> mine(static_cast<std::size_t>(bytes_of(rank())));
  comm_.all_gather(mine, "parts");
  std::int64_t others = 0;
  for (std::int64_t r = 0; r < size(); ++r) others += r == rank() ? 0 : 8 + bytes_of(r);
  expect("parts", 1, (8 + bytes_of(rank())) * (size() - 1), others);
}

TEST_P(TrafficTest, AGatheringIntoMemoryCountsContentsAlone) {
  const std::vector<std::byte> mine(601);
  std::vector<std::byte> all(601 * static_cast<std::size_t>(size()));
  comm_.all_gather_into(all, mine, "slices");
  expect("slices", 1, 601 * (size() - 1), 601 * (size() - 1));
}

TEST_P(TrafficTest, AnExchangeLeavesOutWhatARankGivesItself) {
  const auto bytes_of = [](std::int64_t from, std::int64_t to) { return 300 * from + 20 * to + 1; };
  std::vector<std::vector<std::byte>> to;
  std::int64_t sent = 0, received = 0;
  for (std::int64_t r = 0; r < size(); ++r) {
    to.emplace_back(static_cast<std::size_t>(bytes_of(rank(), r)));
    sent += r == rank() ? 0 : 8 + bytes_of(rank(), r);
    received += r == rank() ? 0 : 8 + bytes_of(r, rank());
  }
  comm_.exchange(to, "messages");
  expect("messages", 1, sent, received);
}

TEST_P(TrafficTest, ATransferCountsItsPieces) {
  const auto next = static_cast<int>((rank() + 1) % size());
  const auto before = static_cast<int>((rank() + size() - 1) % size());
  std::vector<std::byte> out(2503), in(2503);
  const std::array<Outgoing, 1> outgoing{{{next, out}}};
  const std::array<Incoming, 1> incoming{{{before, in}}};
  comm_.transfer(outgoing, incoming, "ring");
  expect("ring", 1, 2503, 2503);
}

TEST_P(TrafficTest, NamesOfFilesAreLeftOut) {
  std::string text = "seven..";
  comm_.broadcast(text, 0, "checksum of /a/b.h5");
  comm_.broadcast(text, 0, "checksum of /a/c.h5");
  const std::int64_t both = 2 * (8 + 7);
  expect("checksum of ...", 4, rank() == 0 ? both * (size() - 1) : 0, rank() == 0 ? 0 : both);
  EXPECT_EQ(traffic_name("rewards"), "rewards");
  EXPECT_EQ(traffic_name("/state"), "...");
}

TEST_P(TrafficTest, ABarrierMovesNothing) {
  comm_.barrier("start");
  EXPECT_TRUE(comm_.traffic().empty());
}

TEST(WorldTraffic, RowsNameTheirCommunicator) {
  const Communicator& all = test::world().all();
  std::array<std::int64_t, 1> x{1};
  all.all_reduce_sum(std::span<std::int64_t>(x), "a count of this test");
  bool found = false;
  for (const TrafficRow& row : test::world().traffic()) {
    found = found || (row.communicator == "all" && row.what == "a count of this test" &&
                      row.traffic.sent == 8 * (all.size() - 1));
  }
  EXPECT_EQ(found, all.size() > 1);
}

}  // namespace
}  // namespace fst
