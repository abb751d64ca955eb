#include <cstdlib>

#include <gtest/gtest.h>

#include "emulator.h"

/// Runs all tests under the schedule that FST_EMULATOR_SCHEDULE names; with --gtest_repeat=n under
/// n schedules in turn. FST_EMULATOR_CORE=ampere chooses that tensor core. A test fails if the
/// emulator found something that nobody asked for.
namespace {

class Schedules final : public testing::EmptyTestEventListener {
  void OnTestIterationStart(const testing::UnitTest&, int iteration) override {
    const char* const first = std::getenv("FST_EMULATOR_SCHEDULE");
    seed_ = static_cast<std::uint32_t>((first == nullptr ? 0 : std::atoi(first)) + iteration);
  }
  void OnTestStart(const testing::TestInfo&) override { fst::emulator::set_schedule(seed_); }
  void OnTestEnd(const testing::TestInfo& test) override {
    const std::string report = fst::emulator::take_report();
    if (!report.empty()) ADD_FAILURE() << test.name() << ": " << report;
  }

  std::uint32_t seed_ = 0;
};

}  // namespace

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  const char* const core = std::getenv("FST_EMULATOR_CORE");
  if (core != nullptr && std::string(core) == "ampere") {
    fst::emulator::set_tensor_core(fst::emulator::TensorCore::ampere);
  }
  testing::UnitTest::GetInstance()->listeners().Append(new Schedules);
  return RUN_ALL_TESTS();
}
