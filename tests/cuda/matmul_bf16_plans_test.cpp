#include "kernels/cuda/matmul_bf16_product.h"
#include "matmul_bf16_definition.h"

/// Which kernel does a product depends on its size; here each does the same small ones.
namespace fst::kernels::test {
namespace {

using bf16_test::differing_bits;
using fst::test::device;
using fst::test::DeviceArray;

// In eights, with edges of every kind; more columns than a large tile has, more rows than a small
// one. A chain goes twice round the ring, and so do all leaves together.
constexpr int rows = 72, columns = 136, inner = 448;

Bf16Product product_of(const Halves& a, Lies b_lies, int matrices, int leaves) {
  Bf16Product p{};
  p.lda = inner, p.ldb = b_lies == Lies::inner ? inner : columns, p.b_lies = b_lies;
  p.ldc = columns;
  p.rows = static_cast<int>(a.size()) / inner, p.columns = columns;
  p.matrices = matrices, p.leaves = leaves, p.wide = true;
  p.starts[1] = matrices == 1 ? inner : 256;
  p.starts[2] = inner;
  return p;
}

Floats result_of(Bf16Product p, const DeviceArray<Bf16>& a, const DeviceArray<Bf16>& b, Plan plan) {
  const DeviceArray<float> c(Floats(index(std::int64_t{p.rows} * p.columns), -1.0f));
  p.a = a.data(), p.b = b.data(), p.c = c.data();
  run(device(), p, plan);
  return c.host();
}

TEST(CudaMatmulBf16Plans, HaveTheSameBits) {
  const Halves a = bf16_test::random_halves(rows * inner, 1),
               b = bf16_test::random_halves(columns * inner, 2);
  const DeviceArray<Bf16> as(a), bs(b);
  for (const Lies lies : {Lies::inner, Lies::outer}) {
    for (const auto& [matrices, leaves] : {std::pair{1, 1}, {1, 8}, {2, 4}}) {
      Bf16Product p = product_of(a, lies, matrices, leaves);
      const Floats expected = result_of(p, as, bs, {Kernel::small_tiles, leaves > 1});
      const auto expect = [&](Kernel kernel, bool spread) {
        EXPECT_EQ(differing_bits(expected, result_of(p, as, bs, {kernel, spread})), 0)
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

TEST(CudaMatmulBf16Plans, OfGradientsHaveTheSameBits) {
  const Halves a = bf16_test::random_halves(rows * inner, 1),
               b = bf16_test::random_halves(columns * inner, 2);
  const DeviceArray<Bf16> as(a), bs(b);
  Bf16Gradient p{};
  p.ldc = p.ldb = columns, p.lda = rows;
  p.a = as.data(), p.b = bs.data();
  p.rows = rows, p.columns = columns;
  p.wide = p.resume = true;
  Sequences sequences{2, {0, 37, inner}, {0, 3, 3 + (inner - 37 + 15) / 16}};
  std::vector<Floats> results;
  for (const Kernel tiles : {Kernel::small_tiles, Kernel::large_tiles}) {
    const DeviceArray<float> c(bf16_test::random_floats(std::int64_t{rows} * columns, 3));
    p.c = c.data();
    run(device(), p, sequences, tiles);
    results.push_back(c.host());
  }
  EXPECT_EQ(differing_bits(results[0], results[1]), 0);
}

}  // namespace
}  // namespace fst::kernels::test
