#include "kernels/cuda/matmul_bf16_product.h"
#include "matmul_bf16_definition.h"

/// Which kernel does a product depends on its size and the device; here each does the same small
/// ones.
namespace fst::kernels::test {
namespace {

using bf16_test::differing_bits;
using fst::test::device;
using fst::test::DeviceArray;

// In eights, with edges of every kind; more columns than a large tile has, more rows than a small
// one. A chain goes twice round the ring, and so do all leaves together.
constexpr int rows = 72, columns = 136, inner = 448;

struct Product {
  int rows, columns, inner;
  Lies b_lies;
  int matrices, leaves;
  std::vector<int> starts;
};

Bf16Product with(const Product& of) {
  Bf16Product p{};
  p.lda = of.inner, p.ldb = of.b_lies == Lies::inner ? of.inner : of.columns, p.b_lies = of.b_lies;
  p.ldc = of.columns;
  p.rows = of.rows, p.columns = of.columns;
  p.matrices = of.matrices, p.leaves = of.leaves, p.wide = true;
  p.starts[1] = of.inner;
  std::copy(of.starts.begin(), of.starts.end(), p.starts);
  return p;
}

template <class Y>
std::vector<Y> result_of(Bf16Product p, const DeviceArray<Bf16>& a, const DeviceArray<Bf16>& b,
                         Plan plan) {
  const DeviceArray<Y> c(old_contents(std::int64_t{p.rows} * p.columns, Y{}));
  p.a = a.data(), p.b = b.data(), p.c = c.data();
  p.narrow = std::is_same_v<Y, Bf16>;
  run(device(), p, plan);
  return c.host();
}

TEST(CudaMatmulBf16Plans, HaveTheSameBits) {
  const Halves a = bf16_test::random_halves(rows * inner, 1),
               b = bf16_test::random_halves(columns * inner, 2);
  const DeviceArray<Bf16> as(a), bs(b);
  for (const Lies lies : {Lies::inner, Lies::outer}) {
    for (const auto& [matrices, leaves] : {std::pair{1, 1}, {1, 8}, {2, 4}}) {
      const std::vector<int> starts =
          matrices == 1 ? std::vector{0, inner} : std::vector{0, 256, inner};
      Bf16Product p = with({rows, columns, inner, lies, matrices, leaves, starts});
      const Floats expected = result_of<float>(p, as, bs, {Kernel::small_tiles, leaves > 1});
      const auto expect = [&](Kernel kernel, bool spread) {
        EXPECT_EQ(differing_bits(expected, result_of<float>(p, as, bs, {kernel, spread})), 0)
            << static_cast<int>(kernel) << (spread ? " spread" : "") << ", chains: " << leaves;
      };
      expect(Kernel::large_tiles, leaves > 1);
      if (leaves > 1) expect(Kernel::small_tiles, false);
      if (leaves > 1) expect(Kernel::large_tiles, false);
      p.wide = false;
      if (leaves > 1) expect(Kernel::small_tiles, false);
    }
  }
}

// For group tiles: a second tile of rows and of columns of either width, so that a block goes
// several times round its ring; inner indices that end in half a block; leaves of one block and of
// two.
const Product for_groups[] = {{136, 264, 200, Lies::inner, 1, 1, {}},
                              {136, 264, 200, Lies::outer, 1, 1, {}},
                              {72, 136, 256, Lies::inner, 1, 8, {}},
                              {136, 72, 384, Lies::outer, 2, 8, {0, 256, 384}},
                              {72, 136, 64, Lies::inner, 1, 2, {}},
                              {72, 136, 192, Lies::outer, 2, 4, {0, 64, 192}},
                              {72, 72, 96, Lies::outer, 3, 1, {0, 16, 80, 96}}};
const Product layers[] = {{2050, 6144, 4096, Lies::inner, 1, 1, {}},
                          {2050, 1000, 3072, Lies::inner, 1, 8, {}},
                          {1500, 3072, 1024, Lies::outer, 1, 1, {}},
                          {1500, 1024, 4096, Lies::outer, 3, 8, {0, 2048, 3072, 4096}}};

template <class Y>
void expect_group_tiles(Bf16Product p, const DeviceArray<Bf16>& a, const DeviceArray<Bf16>& b) {
  const bool tree = p.matrices * p.leaves > 1;
  const std::vector<Y> expected = result_of<Y>(p, a, b, {Kernel::small_tiles, tree});
  const auto expect = [&](Plan plan) {
    EXPECT_EQ(differing_bits(expected, result_of<Y>(p, a, b, plan)), 0)
        << p.rows << " x " << p.columns << ", leaves: " << p.leaves
        << (plan.kernel == Kernel::group_tiles ? "" : ", wide") << (plan.spread ? ", spread" : "");
  };
  ASSERT_TRUE(fits_groups(p));
  expect({Kernel::group_tiles, false, 1});  // all tiles one after the other
  expect({tree ? Kernel::group_tiles : Kernel::wide_group_tiles, tree, 2});
}

TEST(CudaMatmulBf16Plans, OfWarpGroupsHaveTheSameBits) {
  if (architecture(device()) != 90) GTEST_SKIP() << "needs sm_90a, as emulated.schedule.* have";
  std::vector<Product> products(std::begin(for_groups), std::end(for_groups));
  if (fst::test::large()) products.insert(products.end(), std::begin(layers), std::end(layers));
  for (const Product& of : products) {
    const DeviceArray<Bf16> a(bf16_test::random_halves(std::int64_t{of.rows} * of.inner, 1)),
        b(bf16_test::random_halves(std::int64_t{of.columns} * of.inner, 2));
    Bf16Product p = with(of);
    expect_group_tiles<float>(p, a, b);
    const DeviceArray<float> bias(bf16_test::random_floats(of.columns, 5));
    p.bias = bias.data(), p.add = true;
    expect_group_tiles<Bf16>(p, a, b);
  }
}

/// Rows that no access of 16 bytes fits, and columns that end within eight.
TEST(CudaMatmulBf16Plans, OfWarpGroupsWriteRowsOfAnyAlignment) {
  if (architecture(device()) != 90) GTEST_SKIP() << "needs sm_90a, as emulated.schedule.* have";
  const Product of{70, 77, 64, Lies::inner, 1, 1, {}};
  const DeviceArray<Bf16> a(bf16_test::random_halves(of.rows * of.inner, 1)),
      b(bf16_test::random_halves(of.columns * of.inner, 2));
  Bf16Product p = with(of);
  p.add = true;
  expect_group_tiles<Bf16>(p, a, b);
  expect_group_tiles<float>(p, a, b);
}

TEST(CudaMatmulBf16Plans, DoNotGiveWarpGroupsWhatTheyCannotDo) {
  const auto fits = [](const Product& of) { return fits_groups(with(of)); };
  EXPECT_TRUE(fits({128, 128, 8, Lies::inner, 1, 1, {}}));
  EXPECT_FALSE(fits({128, 128, 0, Lies::inner, 1, 1, {}})) << "nothing to load";
  EXPECT_TRUE(fits({128, 128, 256, Lies::inner, 1, 8, {}}));
  EXPECT_FALSE(fits({128, 128, 192, Lies::inner, 1, 8, {}})) << "a leaf ends within a block";
  EXPECT_FALSE(fits({128, 128, 64, Lies::outer, 2, 1, {0, 24, 64}})) << "a matrix does";
}

Floats gradient_of(Bf16Gradient p, const Sequences& sequences, Plan plan) {
  const DeviceArray<float> c(bf16_test::random_floats(p.rows * p.ldc, 3));
  p.c = c.data();
  run(device(), p, sequences, plan);
  return c.host();
}

Sequences sequences_at(const std::vector<int>& starts) {
  Sequences sequences{};
  sequences.count = static_cast<int>(starts.size()) - 1;
  std::copy(starts.begin(), starts.end(), sequences.starts);
  for (int s = 0; s < sequences.count; ++s) {
    sequences.blocks[s + 1] =
        sequences.blocks[s] + (sequences.starts[s + 1] - sequences.starts[s] + 15) / 16;
  }
  return sequences;
}

TEST(CudaMatmulBf16Plans, OfGradientsHaveTheSameBits) {
  const DeviceArray<Bf16> as(bf16_test::random_halves(rows * inner, 1)),
      bs(bf16_test::random_halves(columns * inner, 2));
  Bf16Gradient p{};
  p.ldc = p.ldb = columns, p.lda = rows;
  p.a = as.data(), p.b = bs.data();
  p.rows = rows, p.columns = columns;
  p.wide = p.resume = true;
  const Sequences sequences = sequences_at({0, 37, inner});
  EXPECT_EQ(differing_bits(gradient_of(p, sequences, {Kernel::small_tiles, false}),
                           gradient_of(p, sequences, {Kernel::large_tiles, false})),
            0);
}

void expect_group_gradients(int outputs, int across, const std::vector<int>& starts, int behind) {
  const int tokens = starts.back() + behind;
  const DeviceArray<Bf16> as(bf16_test::random_halves(std::int64_t{outputs} * tokens, 1)),
      bs(bf16_test::random_halves(std::int64_t{across} * tokens, 2));
  Bf16Gradient p{};
  p.ldc = p.ldb = across, p.lda = outputs;
  p.a = as.data(), p.b = bs.data();
  p.rows = outputs, p.columns = across;
  p.wide = true;
  const Sequences sequences = sequences_at(starts);
  for (const bool resume : {false, true}) {
    p.resume = resume;
    const Floats expected = gradient_of(p, sequences, {Kernel::small_tiles, false});
    for (const Kernel kernel : {Kernel::group_tiles, Kernel::wide_group_tiles}) {
      EXPECT_EQ(differing_bits(expected, gradient_of(p, sequences, {kernel, false, 2})), 0)
          << static_cast<int>(kernel) << (resume ? ", resumed" : "");
    }
  }
}

/// Sequences that end within a block, with it and with a step; an empty one; rows in front of the
/// first and behind the last, which are nobody's.
TEST(CudaMatmulBf16Plans, OfGradientsByWarpGroupsHaveTheSameBits) {
  if (architecture(device()) != 90) GTEST_SKIP() << "needs sm_90a, as emulated.schedule.* have";
  expect_group_gradients(136, 264, {3, 40, 104, 104, 105, 137, 215}, 10);
  if (!fst::test::large()) return;
  expect_group_gradients(4096, 1024, {0, 1000, 2000, 2017, 3001}, 0);
}

}  // namespace
}  // namespace fst::kernels::test
