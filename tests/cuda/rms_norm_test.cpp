#include "kernels/rms_norm.h"

#include "device.h"
#include "noise.h"

namespace fst::kernels {
namespace {

using test::device;
using test::DeviceArray;
using test::expect_same;
using test::held;
using test::Noise;
using test::stored_as;
using test::twin;

constexpr float eps = 1e-6f;

struct Case {
  std::int64_t rows, dim;
};

// 128 rows are one tile of the weights' chain, 16 columns one block of it.
std::vector<Case> cases() {
  std::vector<Case> all{{1, 1}, {3, 7}, {2, 16}, {128, 17}, {261, 33}, {2, 1029}};
  if (test::large()) all.insert(all.end(), {{8209, 1024}, {2051, 5120}, {3, 20011}});
  return all;
}

template <class T>
struct CudaRmsNorm : testing::Test {};
TYPED_TEST_SUITE(CudaRmsNorm, test::Elements, test::ElementName);

TYPED_TEST(CudaRmsNorm, HasTheBitsOfTheCpuForwards) {
  using T = TypeParam;
  Noise noise(1);
  for (const Case& c : cases()) {
    std::vector<float> xs = held<T>(noise.normals(c.rows * c.dim, 2.0));
    for (std::size_t i = 0; i < static_cast<std::size_t>(c.dim); ++i) xs[i] = 0.0f;
    const std::vector<float> weights = noise.normals(c.dim);
    std::vector<float> y_host(xs.size()), rstd_host(static_cast<std::size_t>(c.rows));
    rms_norm_forward(twin(), y_host.data(), rstd_host.data(), xs.data(), weights.data(), c.rows,
                     c.dim, eps);
    const DeviceArray<T> x(stored_as<T>(xs)), y(xs.size());
    const DeviceArray<float> weight(weights), rstd(rstd_host.size());
    rms_norm_forward(device(), y.data(), rstd.data(), x.data(), weight.data(), c.rows, c.dim, eps);
    expect_same(y_host, y, "y");
    expect_same(rstd_host, rstd, "rstd");
    rms_norm_forward(device(), x.data(), rstd.data(), x.data(), weight.data(), c.rows, c.dim, eps);
    expect_same(y_host, x, "y in place of x");
  }
}

TYPED_TEST(CudaRmsNorm, HasTheBitsOfTheCpuBackwards) {
  using T = TypeParam;
  Noise noise(2);
  for (const Case& c : cases()) {
    const std::vector<float> xs = held<T>(noise.normals(c.rows * c.dim, 2.0)),
                             weights = noise.normals(c.dim);
    const std::vector<float> dys = held<T>(noise.normals(c.rows * c.dim)),
                             old = held<T>(noise.normals(c.rows * c.dim));
    const std::vector<float> dweights = noise.normals(c.dim);
    std::vector<float> rstds(static_cast<std::size_t>(c.rows));
    for (float& r : rstds) r = static_cast<float>(0.1 + noise.uniform());
    const DeviceArray<T> x(stored_as<T>(xs));
    const DeviceArray<float> weight(weights), rstd(rstds);
    for (const bool accumulate : {false, true}) {
      std::vector<float> dx_host = old, dweight_host = dweights;
      rms_norm_backward(twin(), dx_host.data(), dweight_host.data(), dys.data(), xs.data(),
                        rstds.data(), weights.data(), c.rows, c.dim, accumulate);
      const DeviceArray<T> dy(stored_as<T>(dys)), dx(stored_as<T>(old));
      const DeviceArray<float> dweight(dweights);
      rms_norm_backward(device(), dx.data(), dweight.data(), dy.data(), x.data(), rstd.data(),
                        weight.data(), c.rows, c.dim, accumulate);
      expect_same(dx_host, dx, "dx");
      expect_same(dweight_host, dweight, "dweight");
      if (accumulate) continue;
      const DeviceArray<float> again(dweights);
      rms_norm_backward(device(), dy.data(), again.data(), dy.data(), x.data(), rstd.data(),
                        weight.data(), c.rows, c.dim, false);
      expect_same(dx_host, dy, "dx in place of dy");
      expect_same(dweight_host, again, "dweight beside it");
    }
  }
}

}  // namespace
}  // namespace fst::kernels
