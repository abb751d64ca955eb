#include "products.h"

/// On a GPU with its own cuBLASLt, and on the emulator with library.cpp (emulated.cublaslt, which
/// skips nothing): a GPU's machine need not have the library.
namespace fst::kernels::test {
namespace {

TEST(CudaProductsByLibrary, ThatAreCertifiedHaveOurBits) {
  if (!cublaslt_usable()) GTEST_SKIP() << cublaslt_support();
  for (const Operation& operation : operations()) {
    const auto expected = operation.run();
    WithProducts certified(Products::certified, {operation.planned});
    EXPECT_FALSE(certified.plans().empty()) << operation.name;
    EXPECT_EQ(operation.run(), expected) << operation.name;
    certified.use_all_equal();
    EXPECT_EQ(operation.run(), expected) << operation.name;
    EXPECT_EQ(products_met(fst::test::device()).others, 0) << operation.name;
  }
}

/// 200 products of numbers below 1 in float32: each sum is below 256 and off by 2^-16 at most, on a
/// tensor core that cuts.
constexpr float tolerance = 200 * 0x1p-16f;

TEST(CudaProductsByLibrary, InAnyOrderAreNearOurs) {
  if (!cublaslt_usable()) GTEST_SKIP() << cublaslt_support();
  for (const Operation& operation : {forward<float>(SumOrder::leaves, Update::add),
                                     weight_gradient({0, 5, 55}, Chain::resume, 1),
                                     input_gradient<float>(SumOrder::leaves, {64, 128})}) {
    const auto expected = operation.run();
    const WithProducts any(Products::any);
    const auto found = operation.run();
    float most = 0.0f;
    for (std::size_t i = 0; i < found.size(); ++i) {
      most = std::max(most,
                      std::abs(std::bit_cast<float>(found[i]) - std::bit_cast<float>(expected[i])));
    }
    EXPECT_LT(most, tolerance) << operation.name;
  }
}

}  // namespace
}  // namespace fst::kernels::test
