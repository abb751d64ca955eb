#include <array>
#include <random>

#include "tests/cuda/device.h"
#include "tests/cuda/tensor_core.h"
#include "tests/cuda/tensor_words.h"

namespace fst::kernels::test {
namespace {

using fst::test::device;
using fst::test::DeviceArray;

/// The figures of PTX ISA 8.7, "Matrix Fragments for mma.m16n8k16 with floating point type" and
/// "ldmatrix": which thread holds an element of an 8x8 matrix. So is held each quarter of a (the
/// register: 0 top left, 1 bottom left, 2 top right, 3 bottom right), each half of c (registers 0
/// and 1 top, 2 and 3 bottom), what ldmatrix loads; and with rows and columns exchanged each half
/// of b (0 top, 1 bottom). Of two neighbours the first is in the lower half of the register.
constexpr int owner[8][8] = {
    {0, 0, 1, 1, 2, 2, 3, 3},         {4, 4, 5, 5, 6, 6, 7, 7},
    {8, 8, 9, 9, 10, 10, 11, 11},     {12, 12, 13, 13, 14, 14, 15, 15},
    {16, 16, 17, 17, 18, 18, 19, 19}, {20, 20, 21, 21, 22, 22, 23, 23},
    {24, 24, 25, 25, 26, 26, 27, 27}, {28, 28, 29, 29, 30, 30, 31, 31},
};

std::uint16_t bf16_of(float value) {
  return static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(value) >> 16);
}

struct Product {
  std::uint16_t a[16][16], b[8][16];  // b by column
  float sum[16][8];
};

using Warp = std::array<Fragments, 32>;

void put(std::uint32_t& pair, int i, std::uint16_t value) {
  pair |= std::uint32_t{value} << 16 * i;
}

Warp distributed(const Product& from) {
  Warp warp{};
  for (int r = 0; r < 8; ++r) {
    for (int c = 0; c < 8; ++c) {
      Fragments& own = warp[static_cast<std::size_t>(owner[r][c])];
      put(own.a[0], c % 2, from.a[r][c]);
      put(own.a[1], c % 2, from.a[r + 8][c]);
      put(own.a[2], c % 2, from.a[r][c + 8]);
      put(own.a[3], c % 2, from.a[r + 8][c + 8]);
      put(own.b[0], c % 2, from.b[r][c]);
      put(own.b[1], c % 2, from.b[r][c + 8]);
      own.sum[c % 2] = from.sum[r][c];
      own.sum[2 + c % 2] = from.sum[r + 8][c];
    }
  }
  return warp;
}

float sum_at(const Warp& warp, int r, int c) {
  return warp[static_cast<std::size_t>(owner[r % 8][c])].sum[r / 8 * 2 + c % 2];
}

std::vector<Warp> multiplied(const std::vector<Product>& products) {
  std::vector<Warp> warps;
  for (const Product& product : products) warps.push_back(distributed(product));
  const DeviceArray<Warp> lanes(warps);
  multiply_fragments(device(), lanes.data()->data(), static_cast<std::int64_t>(warps.size()));
  return lanes.host();
}

TEST(TensorWords, MultiplyMatricesThatAreHeldAsThePtxIsaShows) {
  Product product{};
  for (int i = 0; i < 16; ++i) {  // small integers: exact whatever the tensor core does
    for (int k = 0; k < 16; ++k)
      product.a[i][k] = bf16_of(static_cast<float>((7 * i + 3 * k) % 13));
    for (int c = 0; c < 8; ++c) {
      product.b[c][i] = bf16_of(static_cast<float>((5 * c + 11 * i) % 17) - 8.0f);
      product.sum[i][c] = static_cast<float>(i - 2 * c);
    }
  }
  const std::vector<Warp> result = multiplied({product});
  for (int r = 0; r < 16; ++r) {
    for (int c = 0; c < 8; ++c) {
      float expected = product.sum[r][c];
      for (int k = 0; k < 16; ++k) {
        expected += value_of_bf16(product.a[r][k]) * value_of_bf16(product.b[c][k]);
      }
      EXPECT_EQ(sum_at(result[0], r, c), expected) << r << ", " << c;
    }
  }
}

TEST(TensorWords, LoadMatricesAsThePtxIsaShows) {
  std::vector<std::uint16_t> matrices(4 * 64);
  for (std::size_t i = 0; i < matrices.size(); ++i) matrices[i] = static_cast<std::uint16_t>(i + 1);
  const DeviceArray<std::uint16_t> in(matrices);
  const DeviceArray<std::uint32_t> out(std::size_t{2 * 128});
  load_matrices(device(), in.data(), out.data());
  const std::vector<std::uint32_t> loaded = out.host();
  for (int m = 0; m < 4; ++m) {
    for (int r = 0; r < 8; ++r) {
      for (int c = 0; c < 8; ++c) {
        const auto plain = static_cast<std::size_t>(4 * owner[r][c] + m);
        const auto transposed = static_cast<std::size_t>(128 + 4 * owner[c][r] + m);
        const std::uint16_t element = matrices[static_cast<std::size_t>(64 * m + 8 * r + c)];
        EXPECT_EQ(loaded[plain] >> 16 * (c % 2) & 0xffff, element);
        EXPECT_EQ(loaded[transposed] >> 16 * (r % 2) & 0xffff, element);
      }
    }
  }
}

/// c plus `count` products x y.
struct Dot {
  const char* what;
  float c;
  int count;
  float x, y;
  float first;  // and first * first as one more, if it is not 0
  float hopper, ampere;
};

TEST(TensorWords, RoundAsThePublishedModelOfTheTensorCore) {
  const Dot dots[] = {
      {"what is below 2^-25 of the largest is lost", 1, 15, 0x1p-13f, 0x1p-13f, 0, 1, 1},
      {"2^-25 counts on Hopper", 1, 16, 0x1p-12f, 0x1p-13f, 0, 1 + 0x1p-21f, 1},
      {"2^-24 counts on both", 1, 8, 0x1p-12f, 0x1p-12f, 0, 1 + 0x1p-21f, 1 + 0x1p-21f},
      {"the result is cut, not rounded", 1, 1, 7 * 0x1p-12f, 0x1p-13f, 0, 1 + 0x1p-23f,
       1 + 0x1p-23f},
      {"towards zero", -1, 1, -7 * 0x1p-12f, 0x1p-13f, 0, -1 - 0x1p-23f, -1 - 0x1p-23f},
      {"the exponent of 1.5 * 1.5 is 0", 0, 8, 0x1p-12f, 0x1p-13f, 1.5f, 2.25f + 0x1p-22f, 2.25f},
      {"what cancels leaves nothing of the small in its chain", -1, 15, 0x1p-15f, 0x1p-15f, 1, 0,
       0x1p-27f},
      {"denormal results are kept", 0, 1, 0x1p-70f, 0x1p-70f, 0, 0x1p-140f, 0x1p-140f},
  };
  std::vector<Product> products;
  for (const Dot& dot : dots) {
    Product product{};
    for (int k = 0; k < dot.count; ++k) {
      const int at = dot.first == 0.0f ? k : k + 1;
      product.a[3][at] = bf16_of(dot.x);
      product.b[5][at] = bf16_of(dot.y);
    }
    if (dot.first != 0.0f) product.a[3][0] = product.b[5][0] = bf16_of(dot.first);
    product.sum[3][5] = dot.c;
    EXPECT_EQ(tensor_core_dot(product.a[3], product.b[5], dot.c, TensorCore::hopper), dot.hopper)
        << dot.what;
    EXPECT_EQ(tensor_core_dot(product.a[3], product.b[5], dot.c, TensorCore::ampere), dot.ampere)
        << dot.what;
    products.push_back(product);
  }
  const std::vector<Warp> results = multiplied(products);
  for (std::size_t i = 0; i < results.size(); ++i) {
    const bool hopper = core_of_device() == TensorCore::hopper;
    EXPECT_EQ(sum_at(results[i], 3, 5), hopper ? dots[i].hopper : dots[i].ampere) << dots[i].what;
  }
}

/// Mantissas at random; exponents in a range, some zeros.
Product random_product(std::mt19937& random, int exponents) {
  const auto number = [&](int fraction_bits) {
    if (random() % 16 == 0) return 0.0f;
    const auto mantissa =
        static_cast<float>(random() % (1u << fraction_bits) + (1u << fraction_bits));
    const int exponent = static_cast<int>(random() % static_cast<unsigned>(2 * exponents + 1));
    const float value = std::ldexp(mantissa, exponent - exponents - fraction_bits);
    return random() % 2 == 0 ? value : -value;
  };
  Product product{};
  for (auto& row : product.a) {
    for (std::uint16_t& x : row) x = bf16_of(number(7));
  }
  for (auto& column : product.b) {
    for (std::uint16_t& x : column) x = bf16_of(number(7));
  }
  for (auto& row : product.sum) {
    for (float& x : row) x = number(23);
  }
  return product;
}

TEST(TensorWords, GiveTheBitsOfTheDefinitionForRandomNumbers) {
  std::mt19937 random(20);
  std::vector<Product> products;
  const int each = fst::test::large() ? 4000 : 40;
  for (const int exponents : {0, 2, 12, 60}) {
    for (int i = 0; i < each; ++i) products.push_back(random_product(random, exponents));
  }
  const std::vector<Warp> results = multiplied(products);
  int differing = 0;
  for (std::size_t i = 0; i < products.size(); ++i) {
    const Product& p = products[i];
    for (int r = 0; r < 16; ++r) {
      for (int c = 0; c < 8; ++c) {
        const float expected = tensor_core_dot(p.a[r], p.b[c], p.sum[r][c], core_of_device());
        differing += std::bit_cast<std::uint32_t>(sum_at(results[i], r, c)) !=
                     std::bit_cast<std::uint32_t>(expected);
      }
    }
  }
  EXPECT_EQ(differing, 0) << "of " << 128 * products.size();
}

/// The backward pass of attention forms scores as q k in one pass and as k q in the other.
TEST(TensorWords, GiveTheSameBitsWhicheverFactorIsOnTheLeft) {
  std::mt19937 random(22);
  std::vector<Product> products, exchanged;
  for (const int exponents : {0, 2, 12, 60}) {
    for (int i = 0; i < (fst::test::large() ? 1000 : 10); ++i) {
      const Product p = products.emplace_back(random_product(random, exponents));
      Product& other = exchanged.emplace_back();
      for (int r = 0; r < 8; ++r) {
        std::copy_n(p.b[r], 16, other.a[r]);
        std::copy_n(p.a[r], 16, other.b[r]);
        for (int c = 0; c < 8; ++c) other.sum[c][r] = p.sum[r][c];
      }
    }
  }
  const std::vector<Warp> results = multiplied(products), others = multiplied(exchanged);
  for (std::size_t i = 0; i < results.size(); ++i) {
    for (int at = 0; at < 64; ++at) {
      ASSERT_EQ(std::bit_cast<std::uint32_t>(sum_at(results[i], at / 8, at % 8)),
                std::bit_cast<std::uint32_t>(sum_at(others[i], at % 8, at / 8)));
    }
  }
}

/// One step, less than one, as many as stages, and enough to go twice round the ring; with and
/// without a last step that is not full.
TEST(TensorWords, MakeAStagedProductTheChainOfItsSteps) {
  constexpr std::int64_t rows = 64, columns = 48;
  std::mt19937 random(21);
  for (const std::int64_t depth : {8, 16, 48, 112, 120}) {
    const auto noise = [&](std::int64_t count) {
      std::vector<std::uint16_t> values(static_cast<std::size_t>(count));
      for (std::uint16_t& x : values) x = bf16_of(static_cast<float>(random() % 512) - 255.5f);
      return values;
    };
    const std::vector<std::uint16_t> a = noise(rows * depth), b = noise(depth * columns);
    const DeviceArray<std::uint16_t> on_device_a(a), on_device_b(b);
    const DeviceArray<float> on_device_c(static_cast<std::size_t>(rows * columns));
    multiply_staged(device(), on_device_a.data(), on_device_b.data(), on_device_c.data(), rows,
                    columns, depth);
    const std::vector<float> c = on_device_c.host();
    for (std::int64_t i = 0; i < rows * columns; ++i) {
      float expected = 0.0f;
      for (std::int64_t step = 0; step < depth; step += 16) {
        std::uint16_t left[16] = {}, right[16] = {};
        for (std::int64_t k = step; k < std::min(step + 16, depth); ++k) {
          left[k - step] = a[static_cast<std::size_t>(i / columns * depth + k)];
          right[k - step] = b[static_cast<std::size_t>(k * columns + i % columns)];
        }
        expected = tensor_core_dot(left, right, expected, core_of_device());
      }
      ASSERT_EQ(c[static_cast<std::size_t>(i)], expected) << "depth " << depth << ", element " << i;
    }
  }
}

}  // namespace
}  // namespace fst::kernels::test
