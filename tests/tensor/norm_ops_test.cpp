#include <string>

#include <gtest/gtest.h>

#include "fst/tensor/ops.h"

namespace fst::ops {
namespace {

template <class F>
std::string message_of(F&& f) {
  try {
    f();
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

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

TEST(NormOps, AnEmptyBatchIsNoWork) {
  const Device device = Device::cpu();
  Buffer x(device, DType::f32, {0, 8}), rstd(device, DType::f32, {0});
  Buffer weight(device, DType::f32, {8}), gate_up(device, DType::f32, {0, 16});
  EXPECT_NO_THROW(rms_norm_forward(x.tensor(), rstd.tensor(), x.tensor(), weight.tensor(), 1e-6f));
  EXPECT_NO_THROW(swiglu_forward(x.tensor(), gate_up.tensor()));
}

}  // namespace
}  // namespace fst::ops
