#include <cmath>
#include <cstring>
#include <numeric>
#include <string>
#include <vector>

#include "fst/base/error.h"
#include "fst/comm/exchange.h"

#include "mpi_main.h"

namespace fst {
namespace {

// A chunk that cuts elements in two, so that every operation takes several odd pieces.
constexpr std::int64_t odd_chunk_bytes = 1237;

class CommunicatorTest : public ::testing::TestWithParam<std::int64_t> {
 protected:
  CommunicatorTest() : comm_(all().subset(0, all().rank(), "test")) {
    comm_.set_chunk_bytes(GetParam());
  }
  static const Communicator& all() { return test::world().all(); }
  int rank() const { return comm_.rank(); }
  int size() const { return comm_.size(); }
  Communicator comm_;
};

INSTANTIATE_TEST_SUITE_P(Chunks, CommunicatorTest,
                         ::testing::Values(std::int64_t{1} << 30, odd_chunk_bytes));

/// An element that depends on who made it and on its place.
float element(int rank, std::size_t i) {
  return static_cast<float>(rank) * 1000.5f + static_cast<float>(i) * 0.25f;
}

std::vector<float> elements(int rank, std::size_t count) {
  std::vector<float> x(count);
  for (std::size_t i = 0; i < count; ++i) x[i] = element(rank, i);
  return x;
}

TEST_P(CommunicatorTest, BroadcastGivesEverybodyTheRootsElements) {
  for (int root = 0; root < size(); ++root) {
    for (const std::size_t count : {0u, 1u, 3001u, 40001u}) {
      auto x = elements(rank(), count);
      comm_.broadcast(std::span<float>(x), root, "floats");
      EXPECT_EQ(x, elements(root, count));
    }
  }
}

TEST_P(CommunicatorTest, AllGatherIntoPutsEqualPiecesInRankOrder) {
  for (const std::size_t count : {0u, 1u, 301u, 40001u}) {
    const auto mine = elements(rank(), count);
    std::vector<float> all(count * static_cast<std::size_t>(size()));
    comm_.all_gather_into(std::as_writable_bytes(std::span(all)), std::as_bytes(std::span(mine)),
                          "floats");
    for (int r = 0; r < size(); ++r) {
      const auto first = all.begin() + static_cast<std::ptrdiff_t>(count) * r;
      EXPECT_EQ(std::vector<float>(first, first + static_cast<std::ptrdiff_t>(count)),
                elements(r, count));
    }
    all.push_back(0.0f);
    EXPECT_THROW(comm_.all_gather_into(std::as_writable_bytes(std::span(all)),
                                       std::as_bytes(std::span(mine)), "floats"),
                 Error);
  }
}

TEST_P(CommunicatorTest, BroadcastMovesTexts) {
  std::string text = rank() == size() - 1 ? std::string(2500, 'z') + "\n" : "old";
  comm_.broadcast(text, size() - 1, "text");
  EXPECT_EQ(text, std::string(2500, 'z') + "\n");
  comm_.broadcast(text = "", 0, "empty text");
  EXPECT_EQ(text, "");
}

TEST_P(CommunicatorTest, SumsOfIntegersWrapAndMaximaHold) {
  std::vector<std::int64_t> x(997);
  for (std::size_t i = 0; i < x.size(); ++i) {
    x[i] = static_cast<std::int64_t>(i) * (rank() + 1) - 500;
  }
  auto greatest = x;
  comm_.all_reduce_sum(std::span<std::int64_t>(x), "sums");
  comm_.all_reduce_max(std::span<std::int64_t>(greatest), "maxima");
  const std::int64_t ranks = size();
  for (std::size_t i = 0; i < x.size(); ++i) {
    const auto n = static_cast<std::int64_t>(i);
    EXPECT_EQ(x[i], n * ranks * (ranks + 1) / 2 - 500 * ranks);
    EXPECT_EQ(greatest[i], n * ranks - 500);
  }
  std::vector<std::uint64_t> wrap{~std::uint64_t{0}};
  comm_.all_reduce_sum(std::span<std::uint64_t>(wrap), "wrap");
  EXPECT_EQ(wrap[0], ~std::uint64_t{0} * static_cast<std::uint64_t>(ranks));
  std::vector<double> reals{rank() * 0.1, -1.0 - rank()};
  comm_.all_reduce_max(std::span<double>(reals), "reals");
  EXPECT_EQ(reals, (std::vector<double>{(size() - 1) * 0.1, -1.0}));
}

TEST_P(CommunicatorTest, ExactSumIsTheSameHoweverItIsSpread) {
  kernels::ExactSum whole, part;
  for (int i = 0; i < 1000; ++i) {
    const double x = std::ldexp(1.0 + i * 1e-3, (i * 37) % 200 - 100) * (i % 3 == 0 ? -1 : 1);
    whole.add(x);
    if (i % size() == rank()) part.add(x);
  }
  comm_.all_reduce_sum(part, "exact sum");
  EXPECT_EQ(part.value(), whole.value());
}

TEST_P(CommunicatorTest, AllGatherKeepsRankOrderAndLengths) {
  const auto count = static_cast<std::size_t>(rank() * rank() * 211);  // rank 0: nothing
  const auto mine = elements(rank(), count);
  const auto parts = comm_.all_gather(std::as_bytes(std::span(mine)), "parts");
  ASSERT_EQ(parts.size(), static_cast<std::size_t>(size()));
  for (int r = 0; r < size(); ++r) {
    const auto expected = elements(r, static_cast<std::size_t>(r * r * 211));
    const auto& part = parts[static_cast<std::size_t>(r)];
    ASSERT_EQ(part.size(), expected.size() * sizeof(float));
    if (!part.empty()) {
      EXPECT_EQ(std::memcmp(part.data(), expected.data(), part.size()), 0);
    }
  }
}

TEST_P(CommunicatorTest, ExchangeDeliversToEachRankItsOwn) {
  std::vector<std::vector<std::byte>> to(static_cast<std::size_t>(size()));
  for (int r = 0; r < size(); ++r) {
    const auto length = static_cast<std::size_t>((rank() * 3 + r * 5) % 7 * 333);
    to[static_cast<std::size_t>(r)].assign(length, static_cast<std::byte>(rank() * 16 + r));
  }
  const auto from = comm_.exchange(to, "letters");
  for (int r = 0; r < size(); ++r) {
    const auto length = static_cast<std::size_t>((r * 3 + rank() * 5) % 7 * 333);
    const std::vector<std::byte> expected(length, static_cast<std::byte>(r * 16 + rank()));
    EXPECT_EQ(from[static_cast<std::size_t>(r)], expected);
  }
}

TEST_P(CommunicatorTest, TransferMatchesPiecesInOrder) {
  // Everybody sends the two halves of its elements to everybody, the second half first.
  const std::size_t count = 1001, half = 500;
  const auto mine = elements(rank(), count);
  const auto bytes = std::as_bytes(std::span(mine));
  std::vector<std::vector<float>> received(static_cast<std::size_t>(size()),
                                           std::vector<float>(count));
  std::vector<Outgoing> out;
  std::vector<Incoming> in;
  for (int r = 0; r < size(); ++r) {
    out.push_back({r, bytes.subspan(half * 4)});
    out.push_back({r, bytes.first(half * 4)});
    const auto space = std::as_writable_bytes(std::span(received[static_cast<std::size_t>(r)]));
    in.push_back({r, space.subspan(half * 4)});
    in.push_back({r, space.first(half * 4)});
  }
  comm_.transfer(out, in, "halves");
  for (int r = 0; r < size(); ++r) {
    EXPECT_EQ(received[static_cast<std::size_t>(r)], elements(r, count));
  }
  comm_.transfer(std::span<const Outgoing>{}, std::span<const Incoming>{}, "nothing");
}

TEST_P(CommunicatorTest, AllOfIsTrueOnlyIfEverybodySaysSo) {
  EXPECT_TRUE(comm_.all_of(true, "yes"));
  EXPECT_FALSE(comm_.all_of(rank() != size() - 1, "not the last"));
}

TEST_P(CommunicatorTest, ManyOperationsInARowDoNotMix) {
  for (std::int64_t i = 0; i < 200; ++i) {
    std::vector<std::int64_t> x{i + rank()};
    comm_.all_reduce_max(std::span<std::int64_t>(x), "max");
    ASSERT_EQ(x[0], i + size() - 1);
    comm_.broadcast(std::span<std::int64_t>(x), static_cast<int>(i) % size(), "value");
    comm_.barrier("next");
  }
}

struct Note {
  int from = 0, index = 0;
  std::string text;
  void pack(Packer& packer) const {
    packer.put(from);
    packer.put(index);
    packer.put(text);
  }
  static Note unpack(Unpacker& unpacker) {
    Note note;
    note.from = unpacker.get<int>();
    note.index = unpacker.get<int>();
    note.text = unpacker.get<std::string>();
    return note;
  }
};

TEST_P(CommunicatorTest, RouteOrdersBySourceThenIndex) {
  std::vector<Note> mine;
  for (int i = 0; i < 13 + rank(); ++i) {
    mine.push_back({rank(), i, std::string(static_cast<std::size_t>(i * 7), 'n')});
  }
  const auto to_rank = [&](const Note& note) { return (note.from + note.index) % size(); };
  const auto notes = route(comm_, std::span<const Note>(mine), to_rank, "notes");
  std::size_t next = 0;
  for (int from = 0; from < size(); ++from) {
    for (int i = 0; i < 13 + from; ++i) {
      if ((from + i) % size() != rank()) continue;
      ASSERT_LT(next, notes.size());
      EXPECT_EQ(notes[next].from, from);
      EXPECT_EQ(notes[next].index, i);
      EXPECT_EQ(notes[next].text.size(), static_cast<std::size_t>(i * 7));
      ++next;
    }
  }
  EXPECT_EQ(next, notes.size());

  const auto everything = all_gather(comm_, std::span<const Note>(mine), "notes");
  std::size_t total = 0;
  for (int from = 0; from < size(); ++from) total += static_cast<std::size_t>(13 + from);
  ASSERT_EQ(everything.size(), total);
  EXPECT_EQ(everything.back().from, size() - 1);
}

TEST_P(CommunicatorTest, SubsetsCommunicateOnTheirOwn) {
  const Communicator odd = comm_.subset(rank() % 2 == 1 ? 0 : -1, -rank(), "odd");
  EXPECT_EQ(odd.member(), rank() % 2 == 1);
  std::vector<std::int64_t> x{rank()};
  odd.all_reduce_sum(std::span<std::int64_t>(x), "odd ranks");
  const std::int64_t odd_sum = size() == 4 ? 4 : 1;  // 1 + 3, or 1 alone
  EXPECT_EQ(x[0], odd.member() ? odd_sum : rank());
  // The key is minus the rank: the highest odd rank comes first.
  const int highest_odd = size() == 4 ? 3 : 1;
  if (odd.member()) {
    EXPECT_EQ(odd.rank(), (highest_odd - rank()) / 2);
  }
}

}  // namespace
}  // namespace fst
