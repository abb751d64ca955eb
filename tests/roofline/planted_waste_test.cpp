#include "roofline/planted_waste.h"

#include <type_traits>

#include <gtest/gtest.h>

#include "fst/tensor/ops.h"

#include "emulator/record.h"
#include "kernels/cuda/cuda.h"
#include "roofline/promise.h"

/// That the counts are right, and that a wasteful kernel breaks the promise.
namespace fst::roofline {
namespace {

using emulator::Bytes;
using emulator::Traffic;
using emulator::Work;

class PlantedWaste : public ::testing::Test {
 protected:
  void SetUp() override { emulator::record_launches(emulator::Recording::counts); }
  void TearDown() override { emulator::record_launches(emulator::Recording::off); }
};

/// out = in + 1 of 4096 floats by a planted kernel, as an operation of that least.
struct Planted {
  explicit Planted(Waste waste) {
    constexpr std::int64_t n = 4096;
    const Device device = Device::cuda(0);
    Buffer in(device, DType::f32, {2 * n}), out(device, DType::f32, {n});
    Buffer copy(device, DType::f32, {n});
    ops::fill(in.tensor(), 1.0f);
    device.synchronize();
    emulator::take_launches();
    device.run([&](const auto& exec) {
      if constexpr (std::is_same_v<std::decay_t<decltype(exec)>, kernels::Cuda>) {
        const emulator::Operating operating({"add_one",
                                             "{}",
                                             "f32",
                                             [] {
                                               return Work{4 * n, 4 * n, n};
                                             },
                                             {}});
        add_one(exec, waste, out.tensor().data<float>(), copy.tensor().data<float>(),
                in.tensor().data<float>(), n);
      }
    });
    ran = operations_that_ran(device).at(0);
    traffic = ran.launches.at(0).traffic;
  }
  Ran ran;
  Traffic traffic;
};

TEST_F(PlantedWaste, CountsWhatAKernelReadsAndWrites) {
  const Planted planted(Waste::none);
  for (const Bytes& bytes : {planted.traffic.read, planted.traffic.written}) {
    EXPECT_EQ(bytes.issued, 4 * 4096);
    EXPECT_EQ(bytes.brought, 4 * 4096);
    EXPECT_EQ(bytes.touched, 4 * 4096);
  }
  EXPECT_EQ(broken_promise(planted.ran), "");
}

TEST_F(PlantedWaste, AKernelThatUsesHalfOfItsSectorsFails) {
  const Planted planted(Waste::other_half);
  EXPECT_EQ(planted.traffic.read.issued, 4 * 4096);
  EXPECT_EQ(planted.traffic.read.touched, 2 * 4 * 4096);
  EXPECT_NE(broken_promise(planted.ran), "");
}

TEST_F(PlantedWaste, AKernelThatWritesACopyFails) {
  const Planted planted(Waste::twice);
  EXPECT_EQ(planted.traffic.written.touched, 2 * 4 * 4096);
  EXPECT_NE(broken_promise(planted.ran), "");
}

/// Caches may serve what several blocks read, so it is no more bytes touched; it shows in those
/// brought.
TEST_F(PlantedWaste, WhatEveryBlockReadsIsBroughtToEach) {
  const Planted planted(Waste::by_blocks);
  const std::int64_t blocks = 4096 / 256;
  EXPECT_EQ(planted.traffic.read.touched, 4 * 4096);
  EXPECT_EQ(planted.traffic.read.brought, blocks * 4 * 4096);
  EXPECT_EQ(planted.traffic.read.issued, (blocks + 1) * 4 * 4096);
}

}  // namespace
}  // namespace fst::roofline
