#include "planted.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include <gtest/gtest.h>

#include "emulator.h"
#include "kernels/cuda/gpu.h"

namespace fst::emulator::test {
namespace {

constexpr std::uint32_t schedules = 10;

struct Found {
  std::vector<float> out;
  std::string report;
  bool nan() const {
    return std::any_of(out.begin(), out.end(), [](float x) { return std::isnan(x); });
  }
  bool same_bits(const Found& other) const {
    return std::memcmp(out.data(), other.out.data(), out.size() * sizeof(float)) == 0;
  }
};

/// Different numbers, which are also pairs of small ones in bf16.
float number(std::size_t i) {
  const auto half = [](std::size_t n) {
    return std::bit_cast<std::uint32_t>(static_cast<float>(n + 1)) >> 16;
  };
  return std::bit_cast<float>(half(i % 128) << 16 | half(i / 128));
}

/// A device, an input of different numbers and a zeroed output.
class PlantedMistakes : public testing::Test {
 protected:
  PlantedMistakes() : cuda_(kernels::open_cuda(0)), values_(planted_floats) {
    for (std::size_t i = 0; i < values_.size(); ++i) values_[i] = number(i);
    kernels::check(cudaMalloc(&in_, bytes), "cudaMalloc");
    kernels::check(cudaMalloc(&out_, bytes), "cudaMalloc");
    kernels::copy_to_device(cuda_, in_, values_.data(), bytes);
  }
  ~PlantedMistakes() override {
    cudaFree(in_);
    cudaFree(out_);
    kernels::close_cuda(cuda_);
  }

  template <class Run>
  Found under(std::uint32_t schedule, const Run& run) {
    set_schedule(schedule);
    kernels::check(cudaMemsetAsync(out_, 0, bytes, cuda_.stream), "cudaMemset");
    Found found{std::vector<float>(planted_floats), {}};
    try {
      run();
      kernels::copy_to_host(cuda_, found.out.data(), out_, bytes);
    } catch (const kernels::CudaError&) {
      found.out.assign(planted_floats, 0.0f);  // nothing arrived
    }
    found.report = take_report();
    return found;
  }

  static constexpr std::size_t bytes = planted_floats * sizeof(float);
  kernels::Cuda cuda_;
  std::vector<float> values_;
  float *in_ = nullptr, *out_ = nullptr;
};

void expect_part(const std::string& part, const std::string& report) {
  EXPECT_NE(report.find(part), std::string::npos) << "expected: " << part << "\nfound: " << report;
}

/// The first schedule is enough for the checks; without them it takes ten.
TEST_F(PlantedMistakes, AreFoundAsTheirTableSays) {
  for (const Planted& planted : planted_mistakes()) {
    SCOPED_TRACE(planted.name);
    const Found first = under(0, [&] { planted.run(cuda_, in_, out_); });
    if (checking()) {
      expect_part(planted.checked_report, first.report);
      continue;
    }
    bool nan = first.nan(), differ = false;
    for (std::uint32_t schedule = 1; schedule < schedules; ++schedule) {
      const Found next = under(schedule, [&] { planted.run(cuda_, in_, out_); });
      EXPECT_EQ(next.report.empty(), first.report.empty()) << next.report;
      nan = nan || next.nan();
      differ = differ || !next.same_bits(first);
    }
    EXPECT_EQ(nan, planted.shows == Shows::as_nan);
    EXPECT_EQ(differ && !nan, planted.shows == Shows::in_bits);
    EXPECT_EQ(!first.report.empty(), planted.shows == Shows::as_failure);
    expect_part(planted.fast_report, first.report);
  }
}

template <class Pointer>
concept CanBeAddedToAtomically = requires(Pointer to) {
  kernels::gpu::add_atomic(to, *to);
};
static_assert(CanBeAddedToAtomically<std::int64_t*>);
static_assert(!CanBeAddedToAtomically<float*>, "their order would show in the bits");

TEST_F(PlantedMistakes, OfAForgottenEventAreFound) {
  bool failed = false, nan = false;
  for (std::uint32_t schedule = 0; schedule < schedules; ++schedule) {
    const Found found =
        under(schedule, [&] { run_two_streams(cuda_, in_, out_, /*forget_event=*/true); });
    if (!found.report.empty()) expect_part("uninitialised read", found.report);
    failed = failed || !found.report.empty();
    nan = nan || found.nan();
  }
  EXPECT_EQ(failed, checking());
  EXPECT_EQ(nan, !checking());
}

TEST_F(PlantedMistakes, AreNotSeenInTwoStreamsThatWaitForEachOther) {
  for (std::uint32_t schedule = 0; schedule < schedules; ++schedule) {
    const Found found =
        under(schedule, [&] { run_two_streams(cuda_, in_, out_, /*forget_event=*/false); });
    EXPECT_EQ(found.report, "");
    for (std::size_t i = 0; i < planted_floats; ++i) {
      ASSERT_EQ(found.out[i], 2.0f * (values_[i] + 1.0f));
    }
  }
}

}  // namespace
}  // namespace fst::emulator::test
