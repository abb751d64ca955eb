#include <cmath>
#include <cstdint>
#include <string>

#include <gtest/gtest.h>

#include "fst/base/error.h"
#include "fst/tensor/ops.h"

namespace fst {
namespace {

/// Small integers: every product and sum below is exact, so results can be compared with ==.
void number(Tensor& x, int seed) {
  for (std::int64_t i = 0; i < x.size(); ++i) {
    x.data<float>()[i] = static_cast<float>((i * 7 + seed) % 11 - 5);
  }
}

class MatmulOps : public testing::Test {
 protected:
  Buffer numbered(std::initializer_list<std::int64_t> dims, int seed) {
    Buffer buffer(device_, DType::f32, dims);
    number(buffer.tensor(), seed);
    return buffer;
  }
  Device device_ = Device::cpu();
};

float at(const Tensor& x, std::int64_t row, std::int64_t column) {
  return x.data<float>()[row * x.row_stride() + column];
}

TEST_F(MatmulOps, LinearForwardMultipliesByTheTransposedWeightAndAddsTheBias) {
  const std::int64_t tokens = 5, n = 37, k = 9;
  const Buffer x = numbered({tokens, k}, 1), weight = numbered({n, k}, 2), bias = numbered({n}, 3);
  Buffer packed(device_, DType::f32, {ops::packed_size(DType::f32, n, k, ops::Sum::leaves)}), y = numbered({tokens, n}, 4);
  const Buffer old = numbered({tokens, n}, 4);
  ops::pack_weight(packed.tensor(), weight.tensor(), ops::Sum::leaves);
  ops::linear_forward(y.tensor(), x.tensor(), packed.tensor(), &bias.tensor(), ops::Sum::leaves,
                      ops::Write::add);
  for (std::int64_t t = 0; t < tokens; ++t) {
    for (std::int64_t j = 0; j < n; ++j) {
      float expected = at(old.tensor(), t, j) + bias.data<float>()[j];
      for (std::int64_t i = 0; i < k; ++i) {
        expected += at(x.tensor(), t, i) * at(weight.tensor(), j, i);
      }
      EXPECT_EQ(at(y.tensor(), t, j), expected);
    }
  }
}

TEST_F(MatmulOps, GradientsAreThoseOfTheProductForBlocksOfColumns) {
  const std::int64_t tokens = 6, n = 10, k = 7;
  Buffer wide_x = numbered({tokens, 20}, 1), wide_dy = numbered({tokens, 30}, 2);
  const Tensor x = wide_x.tensor().columns(3, 3 + k), dy = wide_dy.tensor().columns(11, 11 + n);
  const Buffer weight = numbered({n, k}, 3);
  Buffer dx = numbered({tokens, k}, 4), dweight = numbered({n, k}, 5), dbias = numbered({n}, 6);
  const Buffer old_dweight = numbered({n, k}, 5), old_dbias = numbered({n}, 6);
  ops::linear_backward_input(dx.tensor(), dy, weight.tensor(), ops::Sum::leaves,
                             ops::Write::overwrite);
  ops::linear_backward_weight(dweight.tensor(), dy, x, ops::Chain::resume);
  ops::bias_backward(dbias.tensor(), dy);
  for (std::int64_t i = 0; i < k; ++i) {
    for (std::int64_t t = 0; t < tokens; ++t) {
      float expected = 0.0f;
      for (std::int64_t j = 0; j < n; ++j) expected += at(dy, t, j) * at(weight.tensor(), j, i);
      EXPECT_EQ(at(dx.tensor(), t, i), expected);
    }
    for (std::int64_t j = 0; j < n; ++j) {
      float expected = at(old_dweight.tensor(), j, i);
      for (std::int64_t t = 0; t < tokens; ++t) expected += at(dy, t, j) * at(x, t, i);
      EXPECT_EQ(at(dweight.tensor(), j, i), expected);
    }
  }
  for (std::int64_t j = 0; j < n; ++j) {
    float expected = old_dbias.data<float>()[j];
    for (std::int64_t t = 0; t < tokens; ++t) expected += at(dy, t, j);
    EXPECT_EQ(dbias.data<float>()[j], expected);
  }
}

TEST_F(MatmulOps, ShapesThatDoNotFitAreNamedInTheError) {
  Buffer y = numbered({4, 6}, 1), packed(device_, DType::f32, {ops::packed_size(DType::f32, 6, 8, ops::Sum::chain)});
  const Buffer x = numbered({4, 9}, 2);
  try {
    ops::linear_forward(y.tensor(), x.tensor(), packed.tensor(), nullptr, ops::Sum::chain,
                        ops::Write::overwrite);
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("linear_forward: packed"), std::string::npos)
        << error.what();
  }
  Buffer dx = numbered({4, 8}, 3);
  const Buffer weight = numbered({5, 8}, 4);
  EXPECT_THROW(ops::linear_backward_input(dx.tensor(), y.tensor(), weight.tensor(), ops::Sum::chain,
                                          ops::Write::overwrite),
               Error);
  Buffer dweight = numbered({6, 8}, 5);
  EXPECT_THROW(
      ops::linear_backward_weight(dweight.tensor(), y.tensor(), x.tensor(), ops::Chain::resume),
      Error);
}

TEST_F(MatmulOps, AProductOfNoRowsTouchesNothing) {
  Buffer packed(device_, DType::f32, {ops::packed_size(DType::f32, 6, 8, ops::Sum::chain)});
  Buffer y = numbered({4, 6}, 1), dweight = numbered({6, 8}, 2);
  const Buffer x = numbered({4, 8}, 3), old = numbered({6, 8}, 2);
  Tensor none = y.tensor().rows(2, 2);
  const Tensor no_x = x.tensor().rows(0, 0);
  ops::linear_forward(none, no_x, packed.tensor(), nullptr, ops::Sum::chain, ops::Write::overwrite);
  ops::linear_backward_weight(dweight.tensor(), none, no_x, ops::Chain::resume);
  for (std::int64_t i = 0; i < 48; ++i) EXPECT_EQ(dweight.data<float>()[i], old.data<float>()[i]);
}

}  // namespace
}  // namespace fst
