#include <string>

#include <gtest/gtest.h>

#include "fst/tensor/ops.h"

#include "support/arithmetic.h"
#include "support/message.h"

namespace fst::ops {
namespace {

using test::message_of;

TEST(NormOps, EmbeddingNamesTheTokenOutsideItsTable) {
  const Device device = Device::cpu();
  Buffer y(device, DType::f32, {2, 4}), table(device, DType::f32, {3, 4});
  Buffer tokens(device, DType::i32, {2});
  tokens.data<std::int32_t>()[1] = 3;
  const std::string message =
      message_of([&] { embedding_forward(y.tensor(), tokens.tensor(), table.tensor()); });
  EXPECT_NE(message.find("element 1 is 3, expected 0 to 2"), std::string::npos) << message;
}

TEST(NormOps, RmsNormNamesTheWeightOfTheWrongSize) {
  const Device device = Device::cpu();
  Buffer y(device, DType::f32, {2, 4}), x(device, DType::f32, {2, 4});
  Buffer rstd(device, DType::f32, {2}), weight(device, DType::f32, {5});
  const std::string message = message_of(
      [&] { rms_norm_forward(y.tensor(), rstd.tensor(), x.tensor(), weight.tensor(), 1e-6f); });
  EXPECT_NE(message.find("weight: expected 4 elements, found f32 [5]"), std::string::npos)
      << message;
}

TEST(NormOps, HeadNormRopeRefusesAPositionBeyondItsTable) {
  const Device device = Device::cpu();
  Buffer x(device, DType::f32, {1, 8}), rstd(device, DType::f32, {1, 2});
  Buffer cosine(device, DType::f32, {5, 2}), sine(device, DType::f32, {5, 2});
  Buffer positions(device, DType::i32, {1});
  positions.data<std::int32_t>()[0] = 5;
  EXPECT_THROW(head_norm_rope_forward(x.tensor(), rstd.tensor(), x.tensor(), nullptr,
                                      positions.tensor(), cosine.tensor(), sine.tensor(), 1e-6f),
               Error);
}

class NormOpsOf : public testing::TestWithParam<DType> {};

INSTANTIATE_TEST_SUITE_P(Arithmetic, NormOpsOf, testing::ValuesIn(test::arithmetics),
                         test::arithmetic_name);

TEST_P(NormOpsOf, AnEmptyBatchIsNoWork) {
  const Device device = Device::cpu();
  Buffer x(device, GetParam(), {0, 8}), rstd(device, DType::f32, {0});
  Buffer weight(device, DType::f32, {8}), gate_up(device, GetParam(), {0, 16});
  EXPECT_NO_THROW(rms_norm_forward(x.tensor(), rstd.tensor(), x.tensor(), weight.tensor(), 1e-6f));
  EXPECT_NO_THROW(swiglu_forward(x.tensor(), gate_up.tensor()));
}

/// The message where one argument has the other arithmetic; it says which shape.
std::string mixed(DType dtype, const char* shape) {
  const DType other = dtype == DType::f32 ? DType::bf16 : DType::f32;
  return std::string("tensor: wanted ") + name_of(dtype) + ", found " + name_of(other) + shape;
}

TEST_P(NormOpsOf, RowsOfTwoArithmeticsDoNotMix) {
  const Device device = Device::cpu();
  const DType dtype = GetParam(), other = dtype == DType::f32 ? DType::bf16 : DType::f32;
  Buffer x(device, dtype, {2, 8}), y(device, other, {2, 8}), rstd(device, DType::f32, {2});
  Buffer weight(device, DType::f32, {8}), half(device, other, {2, 4});
  Buffer tokens(device, DType::i32, {2}), table(device, other, {3, 8}), dx(device, dtype, {2, 8});
  EXPECT_EQ(message_of([&] {
              rms_norm_forward(x.tensor(), rstd.tensor(), y.tensor(), weight.tensor(), 1e-6f);
            }),
            mixed(dtype, " [2, 8]"));
  EXPECT_EQ(message_of([&] {
              rms_norm_backward(dx.tensor(), weight.tensor(), x.tensor(), y.tensor(), rstd.tensor(),
                                weight.tensor(), Write::overwrite);
            }),
            mixed(dtype, " [2, 8]"));
  EXPECT_EQ(message_of([&] { embedding_forward(x.tensor(), tokens.tensor(), table.tensor()); }),
            mixed(dtype, " [3, 8]"));
  EXPECT_EQ(message_of([&] { swiglu_forward(half.tensor(), x.tensor()); }),
            mixed(other, " [2, 8]"));
}

TEST_P(NormOpsOf, WeightsOfNormsAndTheirGradientsAreFloatInEitherArithmetic) {
  const Device device = Device::cpu();
  Buffer x(device, GetParam(), {2, 8}), rstd(device, DType::f32, {2});
  Buffer weight(device, DType::bf16, {8}), fine(device, DType::f32, {8});
  EXPECT_EQ(message_of([&] {
              rms_norm_forward(x.tensor(), rstd.tensor(), x.tensor(), weight.tensor(), 1e-6f);
            }),
            "tensor: wanted f32, found bf16 [8]");
  EXPECT_EQ(message_of([&] {
              rms_norm_backward(x.tensor(), weight.tensor(), x.tensor(), x.tensor(), rstd.tensor(),
                                fine.tensor(), Write::overwrite);
            }),
            "tensor: wanted f32, found bf16 [8]");
  Buffer integers(device, DType::i32, {2, 8});
  EXPECT_EQ(message_of([&] {
              rms_norm_forward(integers.tensor(), rstd.tensor(), x.tensor(), fine.tensor(), 1e-6f);
            }),
            "rms_norm_forward: y: expected f32 or bf16, found i32 [2, 8]");
}

}  // namespace
}  // namespace fst::ops
