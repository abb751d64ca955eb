#include "noise.h"
#include "tests/cuda/device.h"
#include "tests/cuda/hopper_words.h"
#include "tests/cuda/tensor_core.h"

namespace fst::kernels::test {
namespace {

using fst::test::device;
using fst::test::DeviceArray;
using fst::test::Noise;

std::vector<std::uint16_t> bf16_noise(Noise& noise, int count) {
  std::vector<std::uint16_t> values;
  for (const float x : noise.normals(count)) {
    values.push_back(static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(x) >> 16));
  }
  return values;
}

bool on_hopper() {
  cudaDeviceProp properties{};
  check(cudaGetDeviceProperties(&properties, 0), "cudaGetDeviceProperties");
  return properties.major == 9;
}

/// CUDA C++ Programming Guide, "Swizzle pattern of CU_TENSOR_MAP_SWIZZLE_128B": which of the eight
/// 16-byte pieces of each row lies where.
constexpr int pieces[8][8] = {
    {0, 1, 2, 3, 4, 5, 6, 7}, {1, 0, 3, 2, 5, 4, 7, 6}, {2, 3, 0, 1, 6, 7, 4, 5},
    {3, 2, 1, 0, 7, 6, 5, 4}, {4, 5, 6, 7, 0, 1, 2, 3}, {5, 4, 7, 6, 1, 0, 3, 2},
    {6, 7, 4, 5, 2, 3, 0, 1}, {7, 6, 5, 4, 3, 2, 1, 0},
};

TEST(HopperWords, LoadBoxesSwizzledAndWithZerosOutside) {
  if (!on_hopper()) GTEST_SKIP() << "needs sm_90a, as emulated.schedule.* have";
  constexpr int rows = 21, columns = 120, stride = 136;
  std::vector<std::uint16_t> matrix(std::size_t{rows} * stride);
  for (std::size_t i = 0; i < matrix.size(); ++i) matrix[i] = static_cast<std::uint16_t>(i + 1);
  const DeviceArray<std::uint16_t> in(matrix), out(std::size_t{8 * 64});
  for (const int row : {3, 16}) {
    load_box(device(), in.data(), rows, columns, stride, row, 64, out.data());
    const std::vector<std::uint16_t> box = out.host();
    for (int r = 0; r < 8; ++r) {
      for (int i = 0; i < 64; ++i) {
        const int column = 64 + 8 * pieces[r][i / 8] + i % 8;
        const bool inside = row + r < rows && column < columns;
        const int expected = inside ? (row + r) * stride + column + 1 : 0;
        ASSERT_EQ(box[static_cast<std::size_t>(64 * r + i)], expected) << r << ", " << i;
      }
    }
  }
}

/// One step of the ring, fewer than its stages, and enough to go twice round it; edges of every
/// kind.
TEST(HopperWords, MakeAProductTheChainOfItsSteps) {
  if (!on_hopper()) GTEST_SKIP() << "needs sm_90a, as emulated.schedule.* have";
  Noise noise(31);
  constexpr int rows = 70, columns = 67;
  for (const int depth : {8, 64, 104, 456}) {
    const std::vector<std::uint16_t> a = bf16_noise(noise, rows * depth);
    const std::vector<std::uint16_t> b = bf16_noise(noise, columns * depth);
    const DeviceArray<std::uint16_t> on_device_a(a), on_device_b(b);
    const DeviceArray<float> on_device_c(std::size_t{rows} * columns);
    multiply_on_hopper(device(), on_device_a.data(), on_device_b.data(), on_device_c.data(), rows,
                       columns, depth);
    const std::vector<float> c = on_device_c.host();
    for (int i = 0; i < rows * columns; ++i) {
      float expected = 0.0f;
      for (int step = 0; step < depth; step += 16) {
        std::uint16_t left[16] = {}, right[16] = {};
        for (int k = step; k < std::min(step + 16, depth); ++k) {
          left[k - step] = a[static_cast<std::size_t>(i / columns * depth + k)];
          right[k - step] = b[static_cast<std::size_t>(i % columns * depth + k)];
        }
        expected = tensor_core_dot(left, right, expected, TensorCore::hopper);
      }
      ASSERT_EQ(c[static_cast<std::size_t>(i)], expected) << "depth " << depth << ", element " << i;
    }
  }
}

/// Each width, and each way in which the operands can lie.
TEST(HopperWords, MultiplyOperandsHoweverTheyLie) {
  if (!on_hopper()) GTEST_SKIP() << "needs sm_90a, as emulated.schedule.* have";
  Noise noise(32);
  constexpr int rows = 64, depth = 64;
  for (const GroupProduct& product : group_products()) {
    const int columns = product.columns;
    const std::vector<std::uint16_t> a = bf16_noise(noise, rows * depth);
    const std::vector<std::uint16_t> b = bf16_noise(noise, columns * depth);
    const DeviceArray<std::uint16_t> on_device_a(a), on_device_b(b);
    const DeviceArray<float> on_device_c(static_cast<std::size_t>(rows * columns));
    product.run(device(), on_device_a.data(), on_device_b.data(), on_device_c.data());
    const std::vector<float> c = on_device_c.host();
    const auto element = [](const std::vector<std::uint16_t>& from, Lies lies, int outputs,
                            int output, int k) {
      return from[static_cast<std::size_t>(lies == Lies::inner ? output * depth + k
                                                               : k * outputs + output)];
    };
    for (int i = 0; i < rows * columns; ++i) {
      float expected = 0.0f;
      for (int step = 0; step < depth; step += 16) {
        std::uint16_t left[16], right[16];
        for (int k = 0; k < 16; ++k) {
          left[k] = element(a, product.a, rows, i / columns, step + k);
          right[k] = element(b, product.b, columns, i % columns, step + k);
        }
        expected = tensor_core_dot(left, right, expected, TensorCore::hopper);
      }
      ASSERT_EQ(c[static_cast<std::size_t>(i)], expected)
          << columns << " columns, lying " << static_cast<int>(product.a)
          << static_cast<int>(product.b) << ", element " << i;
    }
  }
}

}  // namespace
}  // namespace fst::kernels::test
