// What goes wrong with NCCL ends the exchange on every rank, with its name and place.

#include <cstdlib>
#include <string>

#include "fst/base/error.h"
#include "fst/comm/unit.h"
#include "fst/tensor/host_view.h"
#include "fst/tensor/ops.h"
#include "fst/tensor/recordings.h"

#include "moves.h"
#include "mpi_main.h"

namespace fst {
namespace {

constexpr double patience = 1;  // s until a rank that waits for another gives up

const Communicator& all() {
  return test::world().all();
}

/// FST_NCCL_RECORDER for the time of a test.
class Planted {
 public:
  explicit Planted(const std::string& fault) {
    setenv("FST_NCCL_RECORDER", fault.c_str(), 1);
    test::note_moves();  // counts begin anew
  }
  Planted(const Planted&) = delete;
  Planted& operator=(const Planted&) = delete;
  ~Planted() { unsetenv("FST_NCCL_RECORDER"); }
};

class NcclFault : public ::testing::Test {
 protected:
  NcclFault() {
    comm_.connect(gpu_, DeviceExchange::nccl);
    comm_.set_deadline(patience);
  }
  // The next test begins when all have ended this one, at different times.
  ~NcclFault() override { all().barrier("end of a test"); }

  /// Every rank to the next one; the message of what is thrown, "" if nothing is.
  std::string around(std::int64_t sent = 1001, std::int64_t expected = 1001) {
    Buffer mine(gpu_, DType::f32, {sent}), theirs(gpu_, DType::f32, {expected});
    const int size = comm_.size();
    const OutgoingTensor out{{(comm_.rank() + 1) % size}, mine.tensor()};
    const IncomingTensor in{(comm_.rank() + size - 1) % size, theirs.tensor()};
    return message([&] {
      comm_.transfer(std::span(&out, 1), std::span(&in, 1), "the ring");
      gpu_.synchronize();
    });
  }
  std::string gathered() {
    Buffer mine(gpu_, DType::f32, {3}), whole(gpu_, DType::f32, {3 * comm_.size()});
    return message([&] {
      comm_.all_gather_into(whole.tensor(), mine.tensor(), "the parts");
      gpu_.synchronize();
    });
  }
  template <class F>
  static std::string message(F&& f) {
    try {
      f();
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  }
  static void expect_in(const std::string& text, const std::string& part) {
    EXPECT_NE(text.find(part), std::string::npos) << "\"" << text << "\" has no \"" << part << "\"";
  }

  Device gpu_ = Device::cuda(all().rank());
  Communicator comm_ = all().subset(0, all().rank(), "gpus");
};

TEST_F(NcclFault, WithoutOneNothingIsThrownAndTheCommunicatorServesOn) {
  EXPECT_EQ(around(), "");
  EXPECT_EQ(gathered(), "");
  EXPECT_EQ(around(), "");
}

TEST_F(NcclFault, AnErrorOfACallNamesTheCallTheExchangeAndTheRank) {
  for (const char* call : {"ncclCommInitRankConfig", "ncclGroupStart", "ncclSend", "ncclRecv",
                           "ncclGroupEnd", "ncclAllGather"}) {
    const Planted fault(std::string("fail:") + call + ":1:0");
    comm_ = all().subset(0, all().rank(), "gpus");
    comm_.connect(gpu_, DeviceExchange::nccl);
    comm_.set_deadline(patience);
    const bool gathers = std::string(call) == "ncclAllGather";
    const std::string text = gathers ? gathered() : around();
    if (comm_.rank() == 0) {
      expect_in(text, std::string(call) + ": unhandled system error (planted at " + call + ")");
      expect_in(text, "communicator gpus, its rank 0 of " + std::to_string(comm_.size()));
      expect_in(text, "NCCL 2.28.9");
      if (std::string(call) != "ncclCommInitRankConfig") {
        expect_in(text, gathers ? "all_gather_into of the parts" : "transfer of the ring");
      }
    } else if (gathers || comm_.rank() == 1 || std::string(call) == "ncclCommInitRankConfig") {
      // These wait for rank 0, the others of a ring do not.
      expect_in(text, "waited ");
      expect_in(text, "on its rank " + std::to_string(comm_.rank()));
    }
    all().barrier("end of a fault");
  }
}

TEST_F(NcclFault, AnErrorThatIsFoundLaterEndsTheExchange) {
  EXPECT_EQ(around(), "");
  const Planted fault("lost:1:0");
  const std::string text = around();
  if (comm_.rank() == 0) {
    expect_in(text, "NCCL: remote process exited or there was a network error");
    expect_in(text, "at the transfer of the ring (communicator gpus, its rank 0");
  }
  all().barrier("end of the fault");
}

TEST_F(NcclFault, ARankThatNeverComesIsWaitedForUntilTheDeadline) {
  EXPECT_EQ(gathered(), "");
  const bool absent = comm_.rank() == comm_.size() - 1;
  const std::string text = absent ? "" : gathered();
  if (!absent) {
    expect_in(text, " s for the parts (all_gather_into, wait ");
    expect_in(text, "of communicator gpus) on its rank " + std::to_string(comm_.rank()));
    expect_in(text, "the last one completed was all_gather_into of the parts");
    expect_in(text, "; rank " + std::to_string(comm_.size() - 1) + " of ");
    // NCCL is aborted, so that its kernels leave the GPU; what comes later fails at once.
    expect_in(gathered(), "NCCL was aborted before the all_gather_into");
  }
}

TEST_F(NcclFault, ARankWhoseGpuHangsIsNamedByAll) {
  for (const char* fault : {"hang:1:0", "stall:1:0"}) {
    comm_ = all().subset(0, all().rank(), "gpus");
    comm_.connect(gpu_, DeviceExchange::nccl);
    comm_.set_deadline(patience);
    EXPECT_EQ(gathered(), "");
    const Planted planted(fault);
    expect_in(gathered(), " s for the parts (all_gather_into, wait ");
    all().barrier("end of a fault");
  }
}

// The first of the exchanges under way that does not end is the one to name, whatever was queued
// behind it, and whoever waits for the device first.
TEST_F(NcclFault, TheOldestExchangeUnderWayIsNamedByWhoWaitsForTheDevice) {
  EXPECT_EQ(gathered(), "");
  const Planted fault("stall:2:0");
  Buffer mine(gpu_, DType::f32, {3}), whole(gpu_, DType::f32, {3 * comm_.size()});
  for (const char* what : {"the first", "the second", "the third"}) {
    comm_.all_gather_into(whole.tensor(), mine.tensor(), what);
  }
  const std::string text = message([&] { HostView<const float>{whole.tensor()}; });
  expect_in(text, " s for the second (all_gather_into, wait ");
  expect_in(text, "the last one completed was all_gather_into of the first");
}

TEST_F(NcclFault, WhatIsMetWhenMemoryIsGivenBackIsThrownByTheNextOneWhoWaits) {
  const Planted fault("stall:1:0");
  {
    Buffer mine(gpu_, DType::f32, {3}), whole(gpu_, DType::f32, {3 * comm_.size()});
    comm_.all_gather_into(whole.tensor(), mine.tensor(), "the parts");
  }
  expect_in(message([&] { gpu_.synchronize(); }), " s for the parts (all_gather_into, wait ");
  EXPECT_EQ(message([&] { gpu_.synchronize(); }), "");
}

/// Recorded work of two exchanges, which has been replayed.
class NcclFaultOfARecord : public NcclFault {
 protected:
  NcclFaultOfARecord() {
    ops::fill(x_.tensor(), 1.0f);
    for (int i = 0; i < replays; ++i) EXPECT_EQ(run(), "");
  }
  std::string run() {
    return message([&] {
      recordings_.run({7}, [&] {
        unit_.sum(x_.tensor(), "the first");
        unit_.sum(x_.tensor(), "the last");
      });
      gpu_.synchronize();
    });
  }
  static constexpr int replays = 3;
  const Unit unit_{comm_};
  Buffer x_{gpu_, DType::f32, {101}};
  Recordings recordings_{gpu_, &unit_};
};

TEST_F(NcclFaultOfARecord, ARankWhoseGpuHangsInAReplayIsWaitedForByAllUntilTheDeadline) {
  const Planted fault("stall:2:0");
  const std::string text = run();
  expect_in(text, " s for a recorded step, the first to the last (replay, wait ");
  expect_in(text, "of communicator gpus) on its rank " + std::to_string(comm_.rank()));
  expect_in(text, "the last one completed was replay of a recorded step, the first to the last");
  expect_in(run(), "NCCL was aborted before the all_gather_into");  // the record is destroyed
}

TEST_F(NcclFaultOfARecord, ARankThatNeverComesToAReplayIsNamed) {
  if (comm_.rank() == comm_.size() - 1) return;
  const std::string text = run();
  expect_in(text, " s for a recorded step, the first to the last (replay, wait ");
  expect_in(text, "; rank " + std::to_string(comm_.size() - 1) + " of ");
}

TEST_F(NcclFaultOfARecord, AnErrorThatNcclMeetsInAReplayEndsIt) {
  const Planted fault("lost:1:0");
  const std::string text = run();
  if (comm_.rank() == 0) {
    expect_in(text, "NCCL: remote process exited or there was a network error");
    expect_in(text, "at the replay of a recorded step, the first to the last (communicator gpus");
  } else {
    expect_in(text, " s for a recorded step, the first to the last (replay, wait ");
  }
}

TEST_F(NcclFaultOfARecord, AnErrorWhileItIsRecordedNamesTheExchange) {
  Recordings others(gpu_, &unit_);
  const auto work = [&] {
    unit_.sum(x_.tensor(), "a");
    unit_.sum(x_.tensor(), "b");
  };
  others.run({1}, work);
  gpu_.synchronize();
  const Planted fault("fail:ncclAllGather:2:0");
  const std::string text = message([&] {
    others.run({1}, work);
    gpu_.synchronize();
  });
  if (comm_.rank() == 0) {
    expect_in(text,
              "ncclAllGather: unhandled system error (planted at ncclAllGather), at the "
              "all_gather_into of b (communicator gpus, its rank 0");
  } else {
    expect_in(text, " s for a recorded step, a to b (replay, wait ");
  }
}

TEST_F(NcclFaultOfARecord, ANewCommunicatorDestroysTheRecordsOfTheOldOneAndHasItsOwn) {
  comm_.connect(gpu_, DeviceExchange::nccl);
  for (int i = 0; i < replays; ++i) EXPECT_EQ(run(), "");
}

TEST_F(NcclFault, PiecesThatDoNotMatchAreFound) {
  const std::string text = around(1001, comm_.rank() == 0 ? 1002 : 1001);
  if (comm_.rank() == 0) expect_in(text, "sent \"s 4004 7\" where rank 0 expected \"s 4008 7\"");
}

TEST_F(NcclFault, RanksThatShareAGpuGoThroughTheHost) {
  const Device shared = Device::cuda(0);
  Communicator comm = all().subset(0, all().rank(), "sharers");
  comm.connect(shared, DeviceExchange::automatic);
  expect_in(comm.against_nccl(), "rank 0 and rank 1 share GPU-000");
  try {
    comm.connect(shared, DeviceExchange::nccl);
    ADD_FAILURE() << "nothing was thrown";
  } catch (const InputError& error) {
    expect_in(error.what(),
              "engine.exchange = nccl: tensors cannot travel by NCCL between the "
              "ranks of sharers: rank 0 and rank 1 share GPU-000");
  }
  comm.connect(gpu_, DeviceExchange::automatic);
  EXPECT_EQ(comm.against_nccl(), "");
  comm.connect(all().rank() == 1 ? Device::cpu() : gpu_, DeviceExchange::automatic);
  EXPECT_EQ(comm.against_nccl(), "rank 1 computes on the CPU");
  comm.connect(gpu_, DeviceExchange::host);
  EXPECT_EQ(comm.against_nccl(), "engine.exchange = host");
}

}  // namespace
}  // namespace fst
