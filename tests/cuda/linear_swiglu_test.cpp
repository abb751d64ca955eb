#include "kernels/linear_swiglu.h"

#include "device.h"
#include "kernels/matmul.h"
#include "kernels/matmul_bf16.h"
#include "kernels/swiglu.h"
#include "noise.h"

namespace fst::kernels {
namespace {

using test::device;
using test::DeviceArray;
using test::Noise;
using test::stored_as;

struct Case {
  std::int64_t rows, dim, k, gap;  // gap: elements between rows of x
};

// Halves that fill no block, chains that end within a step, and one that is no eights.
std::vector<Case> cases() {
  std::vector<Case> all{{1, 24, 72, 0},  {5, 40, 264, 8},   {13, 8, 128, 0},
                        {29, 72, 40, 0}, {64, 33, 136, 16}, {3, 10, 21, 1}};
  if (test::large()) all.push_back({9, 12288, 4096, 0});
  return all;
}

/// Against the two passes, whose bits other tests tie to the definition of a tensor core's.
TEST(CudaLinearSwiglu, HasTheBitsOfTheProductsAndTheGatesBehindThem) {
  Noise noise(12);
  for (const Case& c : cases()) {
    const std::int64_t ldx = c.k + c.gap;
    const DeviceArray<Bf16> weight(stored_as<Bf16>(noise.normals(2 * c.dim * c.k)));
    const DeviceArray<Bf16> x(stored_as<Bf16>(noise.normals(c.rows * ldx)));
    const auto size = static_cast<std::size_t>(c.rows * c.dim);
    const DeviceArray<Bf16> h(size), expected(size), between(2 * size), working(2 * size);
    linear_forward(device(), between.data(), 2 * c.dim, x.data(), ldx, weight.data(), nullptr,
                   c.rows, 2 * c.dim, c.k, SumOrder::chain, Update::overwrite);
    swiglu_forward(device(), expected.data(), between.data(), c.rows, c.dim);
    linear_swiglu(device(), h.data(), working.data(), x.data(), ldx, weight.data(), c.rows, c.dim,
                  c.k);
    EXPECT_EQ(test::differing(test::widened(expected.host()), test::widened(h.host())), 0)
        << c.rows << " rows, " << c.dim << " columns";
  }
}

/// In float32 the CPU's.
TEST(CudaLinearSwiglu, HasTheBitsOfTheCpuInFloat) {
  Noise noise(13);
  const std::int64_t rows = 5, dim = 19, k = 37;
  const auto weights = noise.normals(2 * dim * k), xs = noise.normals(rows * k);
  const auto size = static_cast<std::size_t>(packed_weight_size(2 * dim, k));
  std::vector<float> packed(size), hs(static_cast<std::size_t>(rows * dim)), between(2 * hs.size());
  pack_weight(test::twin(), packed.data(), weights.data(), Storage::f32, 2 * dim, k);
  linear_swiglu(test::twin(), hs.data(), between.data(), xs.data(), k, packed.data(), rows, dim, k);
  const DeviceArray<float> weight(weights), packed_there(size), x(xs), h(hs.size()),
      working(between.size());
  pack_weight(device(), packed_there.data(), weight.data(), Storage::f32, 2 * dim, k);
  linear_swiglu(device(), h.data(), working.data(), x.data(), k, packed_there.data(), rows, dim, k);
  test::expect_same(hs, h, "h");
}

}  // namespace
}  // namespace fst::kernels
