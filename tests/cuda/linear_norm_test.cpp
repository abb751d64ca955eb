#include "kernels/linear_norm.h"

#include "device.h"
#include "kernels/matmul_bf16.h"
#include "kernels/rms_norm.h"
#include "noise.h"

namespace fst::kernels {
namespace {

using test::device;
using test::DeviceArray;
using test::held;
using test::Noise;
using test::stored_as;
using test::twin;

constexpr float eps = 1e-6f;

struct Case {
  std::int64_t rows, n, k, gap;  // gap: elements between rows of x
  SumOrder order;
};

// Columns that are no quads, leaves of unlike lengths, rows of one and of several warps' tiles.
std::vector<Case> cases() {
  std::vector<Case> all{{1, 5, 17, 0, SumOrder::leaves},
                        {3, 33, 40, 5, SumOrder::leaves},
                        {8, 130, 64, 0, SumOrder::leaves},
                        {17, 64, 136, 3, SumOrder::leaves},
                        {32, 1028, 72, 0, SumOrder::leaves}};
  if (test::large()) all.push_back({7, 4096, 12288, 0, SumOrder::leaves});
  return all;
}

template <class T>
std::vector<T> packed_there(const std::vector<T>& weight, const Case& c);

template <>
std::vector<float> packed_there(const std::vector<float>& weight, const Case& c) {
  const DeviceArray<float> natural(weight),
      packed(static_cast<std::size_t>(packed_weight_size(c.n, c.k)));
  pack_weight(device(), packed.data(), natural.data(), Storage::f32, c.n, c.k);
  return packed.host();
}
template <>
std::vector<Bf16> packed_there(const std::vector<Bf16>& weight, const Case& /*c*/) {
  return weight;
}

template <class T>
struct CudaLinearNorm : testing::Test {};
TYPED_TEST_SUITE(CudaLinearNorm, test::Elements, test::ElementName);

/// Tested against the two passes of the same device, whose bits other tests tie to the CPU's and to
/// the definition of a tensor core's.
TYPED_TEST(CudaLinearNorm, HasTheBitsOfTheProductAndTheNormBehindIt) {
  using T = TypeParam;
  Noise noise(9);
  for (const Case& c : cases()) {
    const std::int64_t ldx = c.k + c.gap;
    const auto weights = stored_as<T>(held<T>(noise.normals(c.n * c.k)));
    const DeviceArray<T> packed(packed_there<T>(weights, c));
    const DeviceArray<T> x(stored_as<T>(held<T>(noise.normals(c.rows * ldx))));
    const auto residuals = stored_as<T>(held<T>(noise.normals(c.rows * c.n, 3.0)));
    const auto size = static_cast<std::size_t>(c.rows * c.n);
    const DeviceArray<float> weight(noise.normals(c.n)), rstd(static_cast<std::size_t>(c.rows)),
        expected_rstd(static_cast<std::size_t>(c.rows));
    const DeviceArray<T> y(residuals), expected(residuals), normed(size), expected_normed(size);
    linear_forward(device(), expected.data(), c.n, x.data(), ldx, packed.data(), nullptr, c.rows,
                   c.n, c.k, c.order, Update::add);
    rms_norm_forward(device(), expected_normed.data(), expected_rstd.data(), expected.data(),
                     weight.data(), c.rows, c.n, eps);
    linear_add_norm(device(), y.data(), normed.data(), rstd.data(), x.data(), ldx, packed.data(),
                    weight.data(), c.rows, c.n, c.k, c.order, eps);
    const auto wide = [](const DeviceArray<T>& array) {
      if constexpr (std::is_same_v<T, float>) {
        return array.host();
      } else {
        return test::widened(array.host());
      }
    };
    EXPECT_EQ(test::differing(wide(expected), wide(y)), 0) << "y of " << c.rows << " rows";
    EXPECT_EQ(test::differing(wide(expected_normed), wide(normed)), 0) << "normed";
    EXPECT_EQ(test::differing(expected_rstd.host(), rstd.host()), 0) << "rstd";
  }
}

/// In float32 the CPU's too.
TEST(CudaLinearNormInFloat, HasTheBitsOfTheCpu) {
  Noise noise(10);
  const Case c{5, 37, 83, 1, SumOrder::leaves};
  const std::int64_t ldx = c.k + c.gap;
  const auto weights = noise.normals(c.n * c.k), xs = noise.normals(c.rows * ldx),
             norm = noise.normals(c.n);
  auto ys = noise.normals(c.rows * c.n, 3.0);
  const DeviceArray<float> y(ys), x(xs), weight(norm), packed(packed_there<float>(weights, c)),
      normed(ys.size()), rstd(static_cast<std::size_t>(c.rows));
  std::vector<float> packed_here(static_cast<std::size_t>(packed_weight_size(c.n, c.k)));
  std::vector<float> normeds(ys.size()), rstds(static_cast<std::size_t>(c.rows));
  pack_weight(twin(), packed_here.data(), weights.data(), Storage::f32, c.n, c.k);
  linear_add_norm(twin(), ys.data(), normeds.data(), rstds.data(), xs.data(), ldx,
                  packed_here.data(), norm.data(), c.rows, c.n, c.k, c.order, eps);
  linear_add_norm(device(), y.data(), normed.data(), rstd.data(), x.data(), ldx, packed.data(),
                  weight.data(), c.rows, c.n, c.k, c.order, eps);
  test::expect_same(ys, y, "y");
  test::expect_same(normeds, normed, "normed");
  test::expect_same(rstds, rstd, "rstd");
}

}  // namespace
}  // namespace fst::kernels
