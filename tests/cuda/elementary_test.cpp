#include "kernels/elementary.h"

#include <cmath>
#include <cstring>
#include <limits>

#include "device.h"
#include "noise.h"
#include "words.h"

namespace fst::kernels {
namespace {

using fst::test::device;
using fst::test::DeviceArray;
using fst::test::expect_same;
using fst::test::Noise;
using fst::test::twin;

/// Floats from all over the range: every `step`th bit pattern, and what is special.
std::vector<float> patterns() {
  const std::uint32_t step = fst::test::large() ? 997 : 299993;
  std::vector<float> xs{0.0f, -0.0f, 1.0f, -1.0f, 88.722839f, 88.72284f, -87.336544f, -103.97208f};
  for (const float x : {std::numeric_limits<float>::infinity(), std::numeric_limits<float>::max(),
                        std::numeric_limits<float>::min(), std::numeric_limits<float>::denorm_min(),
                        std::numeric_limits<float>::quiet_NaN()}) {
    xs.push_back(x);
    xs.push_back(-x);
  }
  for (std::uint64_t bits = 0; bits < (std::uint64_t{1} << 32); bits += step) {
    const auto word = static_cast<std::uint32_t>(bits);
    float x = 0.0f;
    std::memcpy(&x, &word, sizeof x);
    xs.push_back(x);
  }
  return xs;
}

/// Where the functions are used: half the floats of patterns() are beyond them.
std::vector<float> ordinary() {
  Noise noise(1);
  std::vector<float> xs = noise.normals(5003, 20.0);
  for (const float x : noise.normals(5003, 3.0)) xs.push_back(std::exp(x));
  return xs;
}

TEST(CudaElementary, ExpHasTheBitsOfTheCpu) {
  for (const auto& xs : {patterns(), ordinary()}) {
    std::vector<float> expected(xs.size());
    exp_each(twin(), expected.data(), xs.data(), static_cast<std::int64_t>(xs.size()));
    const DeviceArray<float> x(xs), y(xs.size());
    exp_each(device(), y.data(), x.data(), static_cast<std::int64_t>(xs.size()));
    expect_same(expected, y, "exp");
  }
}

TEST(CudaElementary, ExpUpTo40HasTheSameBitsInFewerSteps) {
  for (auto xs : {patterns(), ordinary()}) {
    std::erase_if(xs, [](float x) { return !(x <= 40.0f); });
    std::vector<float> expected(xs.size());
    exp_each(twin(), expected.data(), xs.data(), static_cast<std::int64_t>(xs.size()));
    const DeviceArray<float> x(xs), y(xs.size());
    test::exp_falling_each(device(), y.data(), x.data(), static_cast<std::int64_t>(xs.size()));
    expect_same(expected, y, "exp");
  }
}

TEST(CudaElementary, LogHasTheBitsOfTheCpu) {
  for (const auto& xs : {patterns(), ordinary()}) {
    std::vector<float> expected(xs.size());
    log_each(twin(), expected.data(), xs.data(), static_cast<std::int64_t>(xs.size()));
    const DeviceArray<float> x(xs);
    log_each(device(), x.data(), x.data(), static_cast<std::int64_t>(xs.size()));
    expect_same(expected, x, "log, in place");
  }
}

TEST(CudaElementary, RowDotAddsInTheOrderOfTheLanes) {
  Noise noise(2);
  for (const std::int64_t n : {0, 1, 7, 15, 16, 17, 33, 255, 1001}) {
    const std::vector<float> xs = noise.normals(n, 3.0), ys = noise.normals(n);
    const DeviceArray<float> x(xs), y(ys);
    const float expected = row_dot(twin(), xs.data(), ys.data(), n);
    const float found = row_dot(device(), x.data(), y.data(), n);
    EXPECT_EQ(fst::test::differing(&expected, &found, 1), 0) << n;
  }
}

TEST(CudaElementary, RowDotKeepsTheSignOfZeroBehindTheEnd) {
  // Lane 0 underflows to -0; a lane that took a padding element by fma would turn +0.
  const std::vector<float> xs(16, -0x1p-100f), ys(16, 0x1p-100f);
  const DeviceArray<float> x(xs), y(ys);
  for (const std::int64_t n : {1, 16}) {
    const float expected = row_dot(twin(), xs.data(), ys.data(), n);
    const float found = row_dot(device(), x.data(), y.data(), n);
    EXPECT_EQ(fst::test::differing(&expected, &found, 1), 0) << n;
  }
}

TEST(CudaElementary, NothingIsLaunchedForNoElements) {
  exp_each(device(), static_cast<float*>(nullptr), static_cast<const float*>(nullptr), 0);
  log_each(device(), static_cast<float*>(nullptr), static_cast<const float*>(nullptr), 0);
  wait(device());
}

}  // namespace
}  // namespace fst::kernels
