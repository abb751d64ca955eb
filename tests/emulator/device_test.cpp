#include "tests/cuda/device.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <stdexcept>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "emulator.h"
#include "planted.h"
#include "streams.h"
#include "tests/cuda/words.h"

namespace fst::emulator::test {
namespace {

using fst::test::device;
using fst::test::DeviceArray;
using kernels::CudaError;

std::string failure_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const CudaError& error) {
    return error.what();
  }
  return "";
}

TEST(EmulatedDevice, RunsNothingBeforeSomebodyWaits) {
  const std::vector<float> x(8, 1.0f);
  std::vector<float> back(8, 0.0f);
  const DeviceArray<float> on_device(x);
  const auto bytes = x.size() * sizeof(float);
  ASSERT_EQ(cudaMemcpyAsync(back.data(), on_device.data(), bytes, cudaMemcpyDeviceToHost,
                            device().stream),
            cudaSuccess);
  EXPECT_NE(back[0], x[0]);
  EXPECT_EQ(cudaStreamQuery(device().stream), cudaErrorNotReady);
  kernels::wait(device());
  EXPECT_EQ(back, x);
}

TEST(EmulatedDevice, NoticesHostMemoryThatIsChangedUnderAQueuedCopy) {
  auto* const host = static_cast<float*>(kernels::allocate_host(device(), 8 * sizeof(float)));
  std::fill_n(host, 8, 1.0f);
  const DeviceArray<float> to(8);
  const auto event = kernels::make_event(device());
  for (const bool waits : {true, false}) {
    kernels::queue_to_device(device(), to.data(), host, 8 * sizeof(float));
    kernels::mark(device(), *event);
    if (waits) kernels::wait(device(), *event);
    host[3] += 1.0f;
    const std::string failure = failure_of([] { kernels::wait(device()); });
    EXPECT_EQ(failure.find("host memory was changed") == std::string::npos, waits) << failure;
    take_report();
  }
  kernels::release_host(device(), host);
}

TEST(EmulatedDevice, HasNothingForTheHostBeforeACopyIsDone) {
  auto* const host = static_cast<float*>(kernels::allocate_host(device(), 8 * sizeof(float)));
  std::fill_n(host, 8, 1.0f);
  const DeviceArray<float> from(std::vector<float>(8, 2.0f));
  const auto event = kernels::make_event(device());
  const std::uint64_t waits = kernels::history(device()).event_waits;
  kernels::wait(device(), *event);  // never marked
  kernels::queue_to_host(device(), host, from.data(), 8 * sizeof(float));
  kernels::mark(device(), *event);
  EXPECT_TRUE(std::isnan(host[0]));
  kernels::wait(device(), *event);
  EXPECT_EQ(host[0], 2.0f);
  kernels::wait(device(), *event);  // reached already
  EXPECT_EQ(kernels::history(device()).event_waits, waits + 1);
  kernels::release_host(device(), host);
}

TEST(EmulatedDevice, WaitsForAnEventAndNotForWhatIsQueuedBehindIt) {
  auto* const host = static_cast<float*>(kernels::allocate_host(device(), 2 * sizeof(float)));
  const DeviceArray<float> from(std::vector<float>(1, 2.0f));
  const auto event = kernels::make_event(device());
  kernels::queue_to_host(device(), host, from.data(), sizeof(float));
  kernels::mark(device(), *event);
  kernels::queue_to_host(device(), host + 1, from.data(), sizeof(float));
  kernels::wait(device(), *event);
  EXPECT_EQ(host[0], 2.0f);
  EXPECT_TRUE(std::isnan(host[1]));
  kernels::wait(device());
  EXPECT_EQ(host[1], 2.0f);
  kernels::release_host(device(), host);
}

TEST(EmulatedDevice, KeepsItsMemoryFromTheHost) {
  set_schedule(1);
  const DeviceArray<float> array(100);
  kernels::wait(device());
  EXPECT_DEATH(array.data()[3] = 1.0f, "bad access of host code: byte 12 of 400 bytes of device");
}

TEST(EmulatedDevice, RefusesCopiesInTheWrongDirection) {
  const DeviceArray<float> array(8);
  float host = 0.0f;
  EXPECT_EQ(cudaMemcpyAsync(array.data(), &host, sizeof host, cudaMemcpyDeviceToHost, nullptr),
            cudaErrorInvalidValue);
  EXPECT_EQ(cudaMemcpyAsync(&host, array.data() + 7, 8, cudaMemcpyDeviceToHost, nullptr),
            cudaErrorInvalidValue);
  EXPECT_EQ(cudaGetLastError(), cudaErrorInvalidValue);
  EXPECT_EQ(cudaGetLastError(), cudaSuccess);
}

TEST(EmulatedDevice, RunsOutOfMemory) {
  std::size_t free = 0, total = 0;
  cudaMemGetInfo(&free, &total);
  set_device_memory(total - free + (std::size_t{1} << 20));
  void* const first = kernels::allocate(device(), 3 << 18);
  EXPECT_NE(first, nullptr);
  EXPECT_EQ(kernels::allocate(device(), 1 << 20), nullptr);
  set_device_memory(total);
  kernels::release(device(), first);
}

TEST(EmulatedDevice, ReplaysWhatItRecordedOnWhatTheMemoryHoldsThen) {
  const DeviceArray<float> from(8), to(std::vector<float>(8, 0.0f));
  kernels::begin_recording(device());
  kernels::copy_on_device(device(), to.data(), from.data(), 8 * sizeof(float));
  const auto record = kernels::end_recording(device());
  ASSERT_NE(record, nullptr);
  EXPECT_EQ(to.host(), std::vector<float>(8, 0.0f));  // nothing has been done
  for (const float value : {1.0f, 2.0f}) {
    const std::vector<float> x(8, value);
    kernels::copy_to_device(device(), from.data(), x.data(), 8 * sizeof(float));
    const Calls before = calls();
    kernels::queue_record(device(), *record);
    EXPECT_EQ(calls().graphs - before.graphs, 1);
    EXPECT_EQ(calls().copies - before.copies, 0);
    EXPECT_EQ(to.host(), x);
  }
}

TEST(EmulatedDevice, SpoilsARecordingThatWaitsOrChangesTheMemory) {
  const DeviceArray<float> array(std::vector<float>(8, 1.0f));
  const std::function<void()> spoils[] = {[] { kernels::wait(device()); },
                                          [] { kernels::allocate(device(), 8); },
                                          [&] { array.host(); }};
  for (const auto& spoil : spoils) {
    kernels::begin_recording(device());
    EXPECT_NE(failure_of(spoil).find("cudaErrorStreamCaptureUnsupported"), std::string::npos);
    EXPECT_EQ(kernels::end_recording(device()), nullptr);
  }
  EXPECT_EQ(array.host(), std::vector<float>(8, 1.0f));  // the stream works on
}

/// Work on the stream that waits for the rest of the world, and what is noted of it.
struct Exchange {
  bool ready = false, awaited = false, abandoned = false;

  void queue() {
    ASSERT_EQ(queue_with_others(
                  device().stream, [this] { return ready || abandoned; }, [] {}),
              cudaSuccess);
    const auto await = [this](const std::function<bool()>& ended) {
      awaited = true;
      for (int looks = 0; !ended(); ++looks) {
        if (looks == 100) throw std::runtime_error("nobody came");
      }
    };
    kernels::note_exchange(device(), {await, [this] { abandoned = true; }});
  }
};

TEST(EmulatedDevice, WaitsForExchangesFirstAndThenForWhatIsBehindThem) {
  const DeviceArray<float> from(std::vector<float>(8, 2.0f)), to(std::vector<float>(8, 0.0f));
  Exchange first, second;
  first.queue();
  kernels::copy_on_device(device(), to.data(), from.data(), 8 * sizeof(float));
  second.queue();
  EXPECT_FALSE(first.awaited);
  first.ready = second.ready = true;
  EXPECT_EQ(to.host(), std::vector<float>(8, 2.0f));
  EXPECT_TRUE(first.awaited && second.awaited);
  EXPECT_FALSE(first.abandoned || second.abandoned);
}

TEST(EmulatedDevice, AbandonsAllExchangesWhereOneIsGivenUp) {
  const DeviceArray<float> array(std::vector<float>(8, 3.0f));
  for (const std::function<void()>& wait : {std::function<void()>([] { kernels::wait(device()); }),
                                            std::function<void()>([&] { array.host(); })}) {
    Exchange first, second;
    first.queue();
    second.queue();
    EXPECT_THROW(wait(), std::runtime_error);
    EXPECT_TRUE(first.abandoned && second.abandoned);
    EXPECT_FALSE(second.awaited);
    EXPECT_EQ(array.host(), std::vector<float>(8, 3.0f));  // the stream works on
  }
}

TEST(EmulatedDevice, ThrowsWhatWasMetInReleaseWhereSomebodyWaits) {
  void* const memory = kernels::allocate(device(), 8);
  Exchange exchange;
  exchange.queue();
  kernels::release(device(), memory);
  EXPECT_TRUE(exchange.abandoned);
  EXPECT_THROW(kernels::wait(device()), std::runtime_error);
  kernels::wait(device());
}

TEST(EmulatedDevice, AwaitsTheOldestExchangeWhereVeryManyAreUnderWay) {
  std::vector<Exchange> exchanges(100);
  for (Exchange& exchange : exchanges) {
    exchange.ready = true;
    exchange.queue();
  }
  EXPECT_TRUE(exchanges.front().awaited);
  EXPECT_FALSE(exchanges.back().awaited);
  kernels::wait(device());
}

TEST(EmulatedDevice, RefusesLaunchesThatNoGpuCouldDo) {
  EXPECT_NE(failure_of([] {
              kernels::test::sum_rows(device(), nullptr, nullptr, 0, 4);
            }).find("kernel launch: cudaErrorInvalidConfiguration"),
            std::string::npos);
}

TEST(EmulatedDevice, FailsForGoodWhenAKernelFails) {
  const DeviceArray<float> array(planted_floats);
  kernels::test::sum_rows(device(), nullptr, array.data(), 1, 8);
  const std::string first = failure_of([] { kernels::wait(device()); });
  EXPECT_EQ(first.rfind("waiting for the device: cudaErrorLaunchFailure, thread ", 0), 0u) << first;
  EXPECT_EQ(failure_of([] { kernels::wait(device()); }), first);
  EXPECT_NE(take_report(), "");
  EXPECT_EQ(failure_of([] { kernels::wait(device()); }), "");
}

/// The checks see the write itself, guard pages what is far enough behind the end; the rest is
/// noticed when the memory is released.
TEST(EmulatedDevice, NoticesWhatIsWrittenJustBehindItsMemory) {
  auto* const memory = static_cast<float*>(kernels::allocate(device(), 5 * sizeof(float)));
  const DeviceArray<float> ones(std::vector<float>(4 * 8, 1.0f));
  kernels::test::sum_rows(device(), ones.data(), memory, 8, 4);
  EXPECT_EQ(failure_of([] { kernels::wait(device()); }) != "", checking());
  kernels::release(device(), memory);
  const std::string report = take_report();
  EXPECT_NE(report.find(checking() ? "out of bounds: writes 4 bytes at" : "a kernel wrote"),
            std::string::npos)
      << report;
  EXPECT_NE(report.find("behind the end of 20 bytes of device memory"), std::string::npos);
}

}  // namespace
}  // namespace fst::emulator::test
