#include "kernels/adamw.h"

#include <cmath>
#include <limits>

#include "device.h"
#include "noise.h"

namespace fst::kernels {
namespace {

using test::device;
using test::DeviceArray;
using test::expect_same;
using test::Noise;
using test::twin;

TEST(CudaAdamW, StepsWithTheBitsOfTheCpu) {
  Noise noise(1);
  const AdamWScalars scalars{0.7f, 0.999f, 0.9f, 0.1f, 0.95f, 0.05f, 3e-4f, 1.7f, 1e-8f};
  std::vector<std::int64_t> sizes{0, 1, 1023, 1024, 4099};
  if (test::large()) sizes.push_back(10000019);
  for (const std::int64_t n : sizes) {
    std::vector<float> parameters = noise.normals(n), ms = noise.normals(n, 1e-3);
    std::vector<float> vs = noise.normals(n, 1e-3);
    for (float& v : vs) v = v * v;
    std::vector<float> gradients = noise.normals(n);
    if (n > 2) {
      gradients[0] = std::numeric_limits<float>::quiet_NaN();
      gradients[1] = vs[1] = ms[1] = 0.0f;
    }
    const DeviceArray<float> parameter(parameters), m(ms), v(vs), gradient(gradients);
    adamw(twin(), parameters.data(), ms.data(), vs.data(), gradients.data(), n, scalars);
    adamw(device(), parameter.data(), m.data(), v.data(), gradient.data(), n, scalars);
    expect_same(parameters, parameter, "parameter");
    expect_same(ms, m, "m");
    expect_same(vs, v, "v");
  }
}

void expect_same_sum(const std::vector<float>& xs, const char* what) {
  ExactSum cpu, cuda;
  cpu.add(0.1);
  cuda.add(0.1);
  const auto n = static_cast<std::int64_t>(xs.size());
  const DeviceArray<float> x(xs);
  sum_of_squares(twin(), cpu, xs.data(), n);
  sum_of_squares(device(), cuda, x.data(), n);
  EXPECT_EQ(cpu.state(), cuda.state()) << what;
}

TEST(CudaSumOfSquares, IsExact) {
  Noise noise(2);
  expect_same_sum({}, "nothing");
  expect_same_sum({0.0f, -0.0f}, "zeros");
  std::vector<std::int64_t> sizes{1, 255, 1025, 9001};
  if (test::large()) sizes.push_back(10000019);
  for (const std::int64_t n : sizes) {
    const std::vector<float> xs = noise.normals(n);
    expect_same_sum(xs, "of like magnitude");
    std::vector<float> wide = xs;
    for (float& x : wide) x *= static_cast<float>(std::exp2(noise.normal() * 12.0));
    expect_same_sum(wide, "of very different magnitude");
    for (float& x : wide) x = std::ldexp(x, static_cast<int>(noise.below(277)) - 149);
    expect_same_sum(wide, "from all over the range");
  }
}

TEST(CudaSumOfSquares, TakesTheLeastAndTheGreatestFloats) {
  const float greatest = std::numeric_limits<float>::max();
  const float least = std::numeric_limits<float>::denorm_min();
  const float normal = std::numeric_limits<float>::min();
  expect_same_sum({greatest, -greatest, least, -least, normal, normal / 3, 1.0f}, "extremes");
  expect_same_sum(std::vector<float>(5000, greatest), "greatest");
  expect_same_sum(std::vector<float>(5000, normal - least), "denormals");
}

TEST(CudaSumOfSquares, CountsWhatIsNotFinite) {
  std::vector<float> xs(3001, 1.5f);
  xs[7] = std::numeric_limits<float>::infinity();
  xs[1200] = -xs[7];
  xs[3000] = std::numeric_limits<float>::quiet_NaN();
  expect_same_sum(xs, "three of them");
}

}  // namespace
}  // namespace fst::kernels
