#include "device.h"
#include "kernels/matmul_bf16.h"
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

TEST(CudaBiasBf16, GradientsHaveTheBitsOfTheCpu) {
  Noise noise(1);
  for (const std::int64_t rows : {0, 1, 7, 8, 131}) {
    for (const std::int64_t n : {1, 65, 130}) {
      const std::int64_t lddy = n + 3;
      const std::vector<float> dys = held<Bf16>(noise.normals(rows * lddy));
      std::vector<float> expected = noise.normals(n);
      const DeviceArray<float> dbias(expected);
      const DeviceArray<Bf16> dy(stored_as<Bf16>(dys));
      bias_backward(twin(), expected.data(), dys.data(), lddy, rows, n);
      bias_backward(device(), dbias.data(), dy.data(), lddy, rows, n);
      expect_same(expected, dbias, "dbias");
    }
  }
}

}  // namespace
}  // namespace fst::kernels
