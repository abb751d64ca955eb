#include "planted_hopper.h"

#include <bit>

#include "emulator.h"
#include "tests/cuda/device.h"

namespace fst::emulator::test {
namespace {

using fst::test::device;
using fst::test::DeviceArray;

struct Found {
  std::vector<std::uint32_t> bits;
  std::string report;
};

Found under(std::uint32_t schedule, const PlantedInRing& planted) {
  set_schedule(schedule);
  std::vector<std::uint16_t> values;
  for (int i = 0; i < ring_size * ring_depth; ++i) {
    values.push_back(
        static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(static_cast<float>(i % 83)) >> 16));
  }
  const DeviceArray<std::uint16_t> a(values), b(values);
  const DeviceArray<float> c(std::vector<float>(std::size_t{ring_size} * ring_size));
  Found found;
  try {
    planted.run(device(), a.data(), b.data(), c.data());
    for (const float x : c.host()) found.bits.push_back(std::bit_cast<std::uint32_t>(x));
  } catch (const kernels::CudaError&) {
  }
  found.report = take_report();
  return found;
}

TEST(PlantedInRings, AreFoundAsTheirTableSays) {
  for (const PlantedInRing& planted : planted_in_ring()) {
    SCOPED_TRACE(planted.name);
    const Found first = under(0, planted);
    const std::string expected = planted.checked_report;
    if (checking()) {
      EXPECT_EQ(first.report.empty(), expected.empty()) << first.report;
      EXPECT_NE(first.report.find(expected), std::string::npos) << first.report;
    }
    bool shows = false;
    for (std::uint32_t schedule = 0; schedule < 10; ++schedule) {
      const Found next = under(schedule, planted);
      shows = shows || !next.report.empty() || next.bits != first.bits;
    }
    EXPECT_EQ(shows, checking() ? !expected.empty() : planted.shows);
  }
}

}  // namespace
}  // namespace fst::emulator::test
