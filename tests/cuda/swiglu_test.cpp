#include "kernels/swiglu.h"

#include <limits>

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

struct Case {
  std::int64_t rows, dim;
};

template <class T>
struct CudaSwiglu : testing::Test {};
TYPED_TEST_SUITE(CudaSwiglu, test::Elements, test::ElementName);

TYPED_TEST(CudaSwiglu, HasTheBitsOfTheCpuInBothDirections) {
  using T = TypeParam;
  Noise noise(1);
  std::vector<Case> cases{{1, 1}, {3, 7}, {2, 1024}, {5, 1031}, {0, 4}};
  if (test::large()) cases.push_back({4099, 3072});
  for (const Case& c : cases) {
    std::vector<float> gates = noise.normals(c.rows * 2 * c.dim, 30.0);
    if (!gates.empty()) gates.front() = std::numeric_limits<float>::quiet_NaN();
    if (gates.size() > 4) {
      gates[1] = -std::numeric_limits<float>::infinity();
      gates[2] = -0.0f;
      gates[3] = 1e30f;
    }
    gates = held<T>(gates);
    const std::vector<float> dhs = held<T>(noise.normals(c.rows * c.dim));
    std::vector<float> h_host(dhs.size()), dgate_host(gates.size());
    swiglu_forward(twin(), h_host.data(), gates.data(), c.rows, c.dim);
    swiglu_backward(twin(), dgate_host.data(), dhs.data(), gates.data(), c.rows, c.dim);
    const DeviceArray<T> gate_up(stored_as<T>(gates)), dh(stored_as<T>(dhs)), h(dhs.size()),
        dgate_up(gates.size());
    swiglu_forward(device(), h.data(), gate_up.data(), c.rows, c.dim);
    swiglu_backward(device(), dgate_up.data(), dh.data(), gate_up.data(), c.rows, c.dim);
    expect_same(h_host, h, "h");
    expect_same(dgate_host, dgate_up, "dgate_up");
    swiglu_backward(device(), gate_up.data(), dh.data(), gate_up.data(), c.rows, c.dim);
    expect_same(dgate_host, gate_up, "dgate_up in place of gate_up");
  }
}

}  // namespace
}  // namespace fst::kernels
