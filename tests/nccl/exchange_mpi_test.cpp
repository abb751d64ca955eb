// Tensors between ranks with a GPU each, by NCCL and through the host's memory: the same calls in
// the same order, the same bytes, the same bits. The GPUs are emulated, and so is NCCL
// (recorder.cpp).

#include <algorithm>
#include <span>
#include <string>
#include <tuple>
#include <vector>

#include "fst/comm/unit.h"
#include "fst/learn/gradient_tree.h"
#include "fst/learn/optimizer.h"
#include "fst/learn/reshard.h"
#include "fst/tensor/host_view.h"

#include "moves.h"
#include "mpi_main.h"
#include "noise.h"
#include "tests/emulator/emulator.h"
#include "tiny_model.h"

namespace fst {
namespace {

using Bytes = std::vector<std::byte>;

const Communicator& all() {
  return test::world().all();
}
Device own_gpu() {
  return Device::cuda(all().rank());
}

void append(Bytes& bytes, const Tensor& x) {
  if (x.empty()) return;
  const HostView<const std::byte> view(x);
  bytes.insert(bytes.end(), view.data(), view.data() + view.size());
}

/// Bytes of any value, a function of the seed.
void fill(Tensor x, std::int64_t seed) {
  HostView<std::byte> view(x, Contents::undefined);
  test::Noise noise(static_cast<std::uint32_t>(seed));
  for (std::byte& b : view.span()) b = static_cast<std::byte>(noise.below(256));
  view.store();
}
/// Floats of very different size, so that another order of additions shows.
void fill_floats(Tensor x, std::int64_t seed) {
  if (x.empty()) return;
  HostView<float> view(x, Contents::undefined);
  test::Noise noise(static_cast<std::uint32_t>(seed));
  for (float& f : view.span()) {
    const auto scale = static_cast<float>(std::int64_t{1} << noise.below(20));
    f = scale * static_cast<float>(noise.uniform() - 0.5);
  }
  view.store();
}

// Programs: each moves tensors over `comm` and returns what came of it.

// Sums that are sent whole and sums in slices, some of which are empty.
Bytes sums(const Communicator& comm, const Device& device) {
  const Unit unit(comm);
  Bytes result;
  for (const std::int64_t n : {1, 1001, 8193, 20011}) {
    Buffer x(device, DType::f32, {n});
    fill_floats(x.tensor(), 100 * comm.rank() + n);
    unit.sum(x.tensor(), "sums");
    append(result, x.tensor());
  }
  return result;
}

Bytes gathers(const Communicator& comm, const Device& device) {
  const Unit unit(comm);
  Bytes result;
  for (const DType type :
       {DType::u8, DType::bf16, DType::f16, DType::f32, DType::i32, DType::f64, DType::i64}) {
    for (const std::int64_t n : {0, 1, 77}) {
      Buffer mine(device, type, {n}), gathered(device, type, {comm.size(), n});
      fill(mine.tensor(), 10 * n + comm.rank());
      unit.gather(gathered.tensor(), mine.tensor(), "gathers");
      append(result, gathered.tensor());
    }
  }
  return result;
}

/// Elements of piece i from one rank to another; some pieces are empty.
std::int64_t piece_size(int from, int to, int i) {
  return (37 * from + 11 * to + 29 * i) % 5 == 0 ? 0 : 1 + 13 * from + 7 * to + 3 * i;
}
constexpr int pieces = 3;

// Every rank to every rank, itself too. The ranks name their partners in orders that would block
// each other for ever if the pieces were moved one after another: everybody receives first, and
// from the rank before it, which has not sent yet.
Bytes transfers(const Communicator& comm, const Device& device) {
  const int me = comm.rank(), size = comm.size();
  std::vector<Buffer> memory;
  std::vector<OutgoingTensor> out;
  std::vector<IncomingTensor> in;
  const auto next = [&](std::int64_t n) {
    return memory.emplace_back(device, DType::f32, std::initializer_list<std::int64_t>{n}).tensor();
  };
  for (int step = 0; step < size; ++step) {
    const int to = (me + step) % size, from = (me + size - 1 - step) % size;
    for (int i = 0; i < pieces; ++i) {
      out.push_back({{to}, next(piece_size(me, to, i))});
      fill(out.back().x, 100 * me + 10 * to + i);
      in.push_back({from, next(piece_size(from, me, i))});
    }
  }
  OutgoingTensor shared{{}, next(91)};  // one tensor to all others
  fill(shared.x, me);
  for (int r = 0; r < size; ++r) {
    if (r == me) continue;
    shared.peers.push_back(r);
    in.push_back({r, next(91)});
  }
  out.push_back(shared);
  comm.transfer(out, in, "transfers");
  comm.transfer(std::span<const OutgoingTensor>{}, std::span<const IncomingTensor>{}, "nothing");
  if (me == 0) {  // the others have nothing to move
    const IncomingTensor own{0, in.front().x};
    const OutgoingTensor same{{0}, own.x};
    comm.transfer(std::span(&same, 1), std::span(&own, 1), "own");
  } else {
    comm.transfer(std::span<const OutgoingTensor>{}, std::span<const IncomingTensor>{}, "own");
  }
  Bytes result;
  for (const IncomingTensor& piece : in) append(result, piece.x);
  return result;
}

Bytes gradient_tree(const Communicator& comm, const Device& device) {
  GradientTree tree(testing::tiny_config(), device, comm, 8);
  const Tensor& shard = tree.reduce([&](std::int64_t leaf, Gradients& gradients) {
    fill_floats(gradients.embedding(), leaf);
    fill_floats(gradients.layer(1).down, 50 + leaf);
  });
  Bytes result;
  append(result, shard);
  return result;
}

/// The tiny model with sizes that two ranks can share.
Qwen3Config shared_config() {
  Qwen3Config config = testing::tiny_config();
  config.vocab_size = 104;
  config.intermediate_size = 56;
  return config;
}

Parameters random_parameters(const Device& device, std::int64_t seed, const Shard& shard,
                             const Holding& holding) {
  Parameters wide(shared_config(), device, shard);
  fill_floats(wide.flat(), seed);
  return testing::held(wide, holding);
}

template <DType dtype>
Bytes optimizer(const Communicator& comm, const Device& device) {
  const Range shard = GradientTree::shard_of(shared_config().parameter_count(), comm);
  Parameters parameters = random_parameters(device, 7, {}, {dtype, shard});
  Optimizer adam(parameters, shard, LearnerGrid(comm), {});
  Buffer gradient(device, DType::f32, {shard.size()});
  fill_floats(gradient.tensor(), comm.rank());
  adam.step(gradient.tensor(), 0.01);
  Bytes result;
  append(result, parameters.flat());
  append(result, parameters.masters(shard));
  return result;
}

/// Weights of the ranks [0, teachers) to the ranks [first_pupil, size), in buckets of some rows.
template <DType dtype>
Bytes adopted(const Communicator& comm, const Device& device, Range degrees, int teachers,
              int first_pupil) {
  const auto from = static_cast<int>(degrees.begin), to = static_cast<int>(degrees.end);
  std::vector<int> ranks(static_cast<std::size_t>(comm.size()));
  for (int r = 0; r < comm.size(); ++r) ranks[static_cast<std::size_t>(r)] = r;
  const Holders holders{from, {ranks.begin(), ranks.begin() + teachers}};
  const Holders pupils{to, {ranks.begin() + first_pupil, ranks.end()}};
  const bool teaches = comm.rank() < teachers, learns = comm.rank() >= first_pupil;
  const Parameters weights = random_parameters(device, 3, {comm.rank() % from, from}, {dtype});
  const int place = learns ? (comm.rank() - first_pupil) % to : 0;
  Parameters parameters = random_parameters(device, 4, {place, to}, {dtype});
  const Resharding resharding(shared_config(), holders, pupils, comm, 4000);
  resharding.run(teaches ? &weights : nullptr, learns ? &parameters : nullptr);
  Bytes result;
  append(result, parameters.flat());
  return result;
}

// Weights of every degree that the ranks allow to every other: from the first ranks to the last
// ones, one of which is both where they are odd, and from one unit to all ranks.
template <DType dtype>
Bytes adoption(const Communicator& comm, const Device& device) {
  Bytes result;
  const auto add = [&](const Bytes& more) {
    result.insert(result.end(), more.begin(), more.end());
  };
  for (const int from : {1, 2}) {
    for (const int to : {1, 2}) {
      if (comm.size() % 2 != 0 && from * to != 1) continue;
      const int half = (comm.size() + 1) / 2;
      const int teachers = half % from == 0 ? half : comm.size();
      const int first_pupil = (comm.size() - half) % to == 0 ? half : 0;
      add(adopted<dtype>(comm, device, {from, to}, teachers, first_pupil));
      add(adopted<dtype>(comm, device, {from, to}, from, 0));
    }
  }
  return result;
}

// Tensors of every rank to all others, and rank 0's weights in buckets, the last of which is small.
template <DType dtype>
Bytes broadcasts(const Communicator& comm, const Device& device) {
  Bytes result;
  for (const std::int64_t n : {0, 1, 20011}) {
    Buffer x(device, dtype, {n});
    for (int root = comm.size() - 1; root >= 0; --root) {
      if (comm.rank() == root) fill(x.tensor(), 10 * n + root);
      comm.broadcast(x.tensor(), root, "broadcasts");
      append(result, x.tensor());
    }
  }
  Parameters weights = random_parameters(device, comm.rank(), {}, {dtype});
  broadcast_weights(weights, comm, 4001);
  append(result, weights.flat());
  return result;
}

/// What a program did on this rank.
struct Outcome {
  Bytes result;
  std::vector<test::Move> moves;
  TrafficTable traffic;
};

using Program = Bytes (*)(const Communicator&, const Device&);

Outcome run(Program program, const Device& device, DeviceExchange exchange) {
  Communicator comm = all().subset(0, all().rank(), "gpus");
  comm.connect(device, exchange);
  Buffer first(device, DType::u8, {1});
  comm.broadcast(first.tensor(), 0, "first");  // NCCL's id goes by MPI, once
  test::note_moves();
  Outcome outcome{program(comm, device), {}, comm.traffic()};
  outcome.moves = test::moves_by_mpi();
  const std::vector<test::Move> by_nccl = test::moves_by_nccl();
  if (exchange == DeviceExchange::host) {
    EXPECT_TRUE(by_nccl.empty());
  } else {
    EXPECT_TRUE(outcome.moves.empty()) << "bytes of tensors went by MPI";
    outcome.moves = by_nccl;
  }
  return outcome;
}

bool same_traffic(const TrafficTable& a, const TrafficTable& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](const auto& x, const auto& y) {
    const Traffic &s = x.second, &t = y.second;
    return x.first == y.first &&
           std::tie(s.calls, s.sent, s.received) == std::tie(t.calls, t.sent, t.received);
  });
}

/// Sizes that `from` sends to `to` meet those that `to` expects from it, in order.
void expect_matched(const std::vector<test::Move>& mine) {
  Packer packer;
  for (const test::Move& move : mine) {
    packer.put(move.kind);
    packer.put(move.bytes);
    packer.put(move.peer);
  }
  std::vector<std::vector<test::Move>> of_rank;
  for (const auto& part : all().all_gather(packer.bytes(), "moves")) {
    Unpacker unpacker(part);
    auto& moves = of_rank.emplace_back();
    while (!unpacker.done()) {
      test::Move move;
      move.kind = unpacker.get<std::string>();
      move.bytes = unpacker.get<std::int64_t>();
      move.peer = unpacker.get<int>();
      moves.push_back(move);
    }
  }
  const auto sizes = [&](int rank, const std::string& kind, int peer) {
    std::vector<std::int64_t> list;
    for (const test::Move& move : of_rank[static_cast<std::size_t>(rank)]) {
      if (move.kind == kind && move.peer == peer) list.push_back(move.bytes);
    }
    return list;
  };
  for (int r = 0; r < all().size(); ++r) {
    EXPECT_EQ(sizes(all().rank(), "send", r), sizes(r, "recv", all().rank())) << "to rank " << r;
    EXPECT_EQ(sizes(all().rank(), "all_gather", 0), sizes(r, "all_gather", 0));
    for (int root = 0; root < all().size(); ++root) {
      EXPECT_EQ(sizes(all().rank(), "broadcast", root), sizes(r, "broadcast", root));
    }
  }
}

struct Named {
  const char* name;
  Program program;
};
class Exchange : public ::testing::TestWithParam<Named> {};
INSTANTIATE_TEST_SUITE_P(Of, Exchange,
                         ::testing::Values(Named{"Sums", sums}, Named{"Gathers", gathers},
                                           Named{"Transfers", transfers},
                                           Named{"GradientTrees", gradient_tree},
                                           Named{"Optimizers", optimizer<DType::f32>},
                                           Named{"OptimizersInBf16", optimizer<DType::bf16>},
                                           Named{"Broadcasts", broadcasts<DType::f32>},
                                           Named{"BroadcastsInBf16", broadcasts<DType::bf16>},
                                           Named{"Adoptions", adoption<DType::f32>},
                                           Named{"AdoptionsInBf16", adoption<DType::bf16>}),
                         [](const auto& test_info) { return test_info.param.name; });

TEST_P(Exchange, MakesTheSameCallsByNcclAsThroughTheHostAndLeavesTheSameBits) {
  const Device gpu = own_gpu();
  const Outcome cpu = run(GetParam().program, Device::cpu(), DeviceExchange::host);
  const Outcome host = run(GetParam().program, gpu, DeviceExchange::host);
  const Outcome nccl = run(GetParam().program, gpu, DeviceExchange::nccl);
  EXPECT_FALSE(all().all_of(host.moves.empty(), "ranks that moved nothing"));
  EXPECT_TRUE(host.moves == nccl.moves);
  EXPECT_TRUE(host.moves == cpu.moves);
  EXPECT_TRUE(same_traffic(host.traffic, nccl.traffic));
  EXPECT_FALSE(nccl.traffic.empty());
  EXPECT_FALSE(cpu.result.empty());
  EXPECT_TRUE(host.result == cpu.result);
  EXPECT_TRUE(nccl.result == cpu.result);
  expect_matched(nccl.moves);
}

/// Sums that follow each other, one in halves and one whole, in place.
void queue_sums(const Unit& unit, std::vector<Buffer>& tensors) {
  for (int round = 0; round < 20; ++round) {
    for (Buffer& x : tensors) unit.sum(x.tensor(), "sums");
  }
}

// The kernels behind an exchange are queued while it has not even begun. The exchanges are more
// than may be under way, so that the oldest are awaited; nobody waits for the device.
TEST(Queue, HoldsExchangesAndTheKernelsBehindThemWithoutAnyoneWaiting) {
  const auto results = [](const Device& device, DeviceExchange exchange, bool queues) {
    Communicator comm = all().subset(0, all().rank(), "gpus");
    comm.connect(device, exchange);
    const Unit unit(comm);
    std::vector<Buffer> tensors;
    for (const std::int64_t n : {20011, 1001}) {
      tensors.emplace_back(device, DType::f32, std::initializer_list<std::int64_t>{n});
      unit.sum(tensors.back().tensor(), "zeros");  // makes what is made once
      fill_floats(tensors.back().tensor(), 100 * comm.rank() + n);
    }
    device.synchronize();
    test::note_moves();
    const emulator::Calls before = emulator::calls();
    unit.sum(tensors.front().tensor(), "sums");
    EXPECT_EQ(test::pieces_come(), 0);
    queue_sums(unit, tensors);
    const emulator::Calls after = emulator::calls();
    EXPECT_EQ(after.waits == before.waits, queues);
    EXPECT_EQ(after.allocations, before.allocations);
    EXPECT_EQ(after.launches > before.launches + 40, !device.on_host());
    Bytes bytes;
    for (const Buffer& x : tensors) append(bytes, x.tensor());
    EXPECT_EQ(test::pieces_come() > 0, exchange == DeviceExchange::nccl);
    return bytes;
  };
  const Device gpu = own_gpu();
  const Bytes cpu = results(Device::cpu(), DeviceExchange::host, true);
  EXPECT_TRUE(results(gpu, DeviceExchange::nccl, true) == cpu);
  EXPECT_TRUE(results(gpu, DeviceExchange::host, false) == cpu);
}

TEST(Queue, LetsMemoryOfAnExchangeUnderWayBeGivenBack) {
  const Device gpu = own_gpu();
  Communicator comm = all().subset(0, all().rank(), "gpus");
  comm.connect(gpu, DeviceExchange::nccl);
  const std::int64_t n = 501;
  Buffer whole(gpu, DType::f32, {comm.size(), n});
  {
    Buffer mine(gpu, DType::f32, {n});
    fill_floats(mine.tensor(), comm.rank());
    comm.all_gather_into(whole.tensor(), mine.tensor(), "parts");
  }
  Buffer next(gpu, DType::f32, {n});  // perhaps at the same place
  Bytes expected, found;
  append(found, whole.tensor());
  for (int r = 0; r < comm.size(); ++r) {
    fill_floats(next.tensor(), r);
    append(expected, next.tensor());
  }
  EXPECT_TRUE(found == expected);
}

// Each rank sends a byte once at most, to however many ranks it goes.
TEST(Adoption, SendsNoByteTwice) {
  const Device gpu = own_gpu();
  Communicator comm = all().subset(0, all().rank(), "gpus");
  comm.connect(gpu, DeviceExchange::nccl);
  static_cast<void>(adopted<DType::bf16>(comm, gpu, {1, 1}, 1, 1));
  const std::int64_t bytes = size_of(DType::bf16) * shared_config().parameter_count();
  const Traffic moved = comm.traffic().find("policy weights")->second;
  EXPECT_EQ(moved.sent, comm.rank() == comm.size() - 1 ? 0 : bytes);
  EXPECT_EQ(moved.received, comm.rank() == 0 ? 0 : bytes);
}

}  // namespace
}  // namespace fst
