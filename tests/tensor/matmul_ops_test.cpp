#include <algorithm>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "fst/base/error.h"
#include "fst/tensor/ops.h"

#include "support/arithmetic.h"
#include "support/message.h"
#include "support/noise.h"

namespace fst {
namespace {

/// Small integers: every product and sum below is an integer of at most 256, exact in bf16 too, so
/// results can be compared with ==.
std::vector<float> numbers(std::int64_t count, int seed) {
  std::vector<float> values;
  for (std::int64_t i = 0; i < count; ++i) {
    values.push_back(static_cast<float>((i * 7 + seed) % 11 - 5));
  }
  return values;
}

/// Rows and weights in either arithmetic; biases and weight gradients are f32.
class MatmulOps : public testing::TestWithParam<DType> {
 protected:
  Buffer filled(DType dtype, std::initializer_list<std::int64_t> dims,
                const std::vector<float>& values) {
    Buffer wide(device_, DType::f32, dims), buffer(device_, dtype, dims);
    std::copy(values.begin(), values.end(), wide.data<float>());
    ops::convert(buffer.tensor(), wide.tensor());
    return buffer;
  }
  Buffer numbered(DType dtype, std::initializer_list<std::int64_t> dims, int seed) {
    const Buffer shape(device_, dtype, dims);
    return filled(dtype, dims, numbers(shape.tensor().size(), seed));
  }
  Buffer numbered(std::initializer_list<std::int64_t> dims, int seed) {
    return numbered(GetParam(), dims, seed);
  }
  Buffer packed_for(std::int64_t n, std::int64_t k, ops::Sum sum) {
    return Buffer(device_, GetParam(), {ops::packed_size(GetParam(), n, k, sum)});
  }
  Device device_ = Device::cpu();
};

INSTANTIATE_TEST_SUITE_P(Arithmetic, MatmulOps, testing::ValuesIn(test::arithmetics),
                         test::arithmetic_name);

float at(const Tensor& x, std::int64_t row, std::int64_t column) {
  const std::int64_t place = row * x.row_stride() + column;
  return x.dtype() == DType::f32 ? x.data<float>()[place]
                                 : kernels::widened(x.data<kernels::Bf16>()[place]);
}

TEST_P(MatmulOps, LinearForwardMultipliesByTheTransposedWeightAndAddsTheBias) {
  const std::int64_t tokens = 5, n = 37, k = 9;
  const Buffer x = numbered({tokens, k}, 1), weight = numbered({n, k}, 2);
  const Buffer bias = numbered(DType::f32, {n}, 3);
  Buffer packed = packed_for(n, k, ops::Sum::leaves);
  ops::pack_weight(packed.tensor(), weight.tensor(), ops::Sum::leaves);
  for (const DType result : {GetParam(), DType::f32}) {
    Buffer y = numbered(result, {tokens, n}, 4);
    const Buffer old = numbered(result, {tokens, n}, 4);
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
}

TEST_P(MatmulOps, GradientsAreThoseOfTheProductForBlocksOfColumns) {
  const std::int64_t tokens = 6, n = 10, k = 7;
  Buffer wide_x = numbered({tokens, 20}, 1), wide_dy = numbered({tokens, 30}, 2);
  const Tensor x = wide_x.tensor().columns(3, 3 + k), dy = wide_dy.tensor().columns(11, 11 + n);
  const Buffer weight = numbered({n, k}, 3);
  Buffer dx = numbered({tokens, k}, 4), whole_dx = numbered(DType::f32, {tokens, k}, 4);
  Buffer dweight = numbered(DType::f32, {n, k}, 5), dbias = numbered(DType::f32, {n}, 6);
  const Buffer old_dweight = numbered(DType::f32, {n, k}, 5);
  const Buffer old_dbias = numbered(DType::f32, {n}, 6);
  ops::linear_backward_input(dx.tensor(), dy, weight.tensor(), ops::Sum::leaves,
                             ops::Write::overwrite);
  ops::linear_backward_input(whole_dx.tensor(), dy, weight.tensor(), ops::Sum::leaves,
                             ops::Write::overwrite);
  ops::linear_backward_weight(dweight.tensor(), dy, x, ops::Chain::resume);
  ops::bias_backward(dbias.tensor(), dy);
  for (std::int64_t i = 0; i < k; ++i) {
    for (std::int64_t t = 0; t < tokens; ++t) {
      float expected = 0.0f;
      for (std::int64_t j = 0; j < n; ++j) expected += at(dy, t, j) * at(weight.tensor(), j, i);
      EXPECT_EQ(at(dx.tensor(), t, i), expected);
      EXPECT_EQ(at(whole_dx.tensor(), t, i), expected);
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

// Numbers whose sums round, so that another order of them shows.
TEST_P(MatmulOps, AWeightGradientIsAFunctionOfTheSequencesInTheirOrder) {
  const std::int64_t tokens = 3 + 70 + 1 + 41, n = 5, k = 7;
  test::Noise noise(5);
  const Buffer dy = filled(GetParam(), {tokens, n}, noise.normals(tokens * n));
  const Buffer x = filled(GetParam(), {tokens, k}, noise.normals(tokens * k));
  using Calls = std::vector<std::pair<std::int64_t, std::vector<std::int32_t>>>;
  const auto of = [&](const Calls& calls) {  // from that row on, so many sequences
    Buffer dweight = numbered(DType::f32, {n, k}, 6);
    for (const auto& [first, sequences] : calls) {
      const std::int64_t end = first + (sequences.empty() ? tokens : sequences.back());
      ops::linear_backward_weight(dweight.tensor(), dy.tensor().rows(first, end),
                                  x.tensor().rows(first, end), ops::Chain::resume, sequences);
    }
    return std::vector<float>(dweight.data<float>(), dweight.data<float>() + n * k);
  };
  const auto expected = of({{0, {0, 3, 73, 73, 74, 115}}});
  EXPECT_EQ(of({{0, {0, 3}}, {3, {0, 70}}, {73, {0, 1}}, {74, {0, 41}}}), expected);
  EXPECT_EQ(of({{0, {0, 3, 73}}, {73, {0, 1, 42}}}), expected);
  EXPECT_EQ(of({{0, {0, 3, 35}}, {35, {0, 32}}, {67, {0, 6, 7, 39}}, {106, {0, 9}}}), expected)
      << "continued after whole blocks";
  // In f32 the rows are one chain wherever sequences begin; blocks of bf16 begin with them.
  EXPECT_EQ(of({{0, {}}}) == expected, GetParam() == DType::f32);
  EXPECT_EQ(of({{0, {0, 3, 36}}, {36, {0, 37, 38, 79}}}) == expected, GetParam() == DType::f32);
}

TEST(MatmulOpsInBf16, SequencesThatAreNotTheRowsAreRefused) {
  const Device device = Device::cpu();
  const Buffer dy(device, DType::bf16, {6, 4}), x(device, DType::bf16, {6, 3});
  Buffer dweight(device, DType::f32, {4, 3});
  for (const std::vector<std::int32_t>& wrong :
       std::vector<std::vector<std::int32_t>>{{0, 5}, {1, 6}, {0, 4, 3, 6}, {0, 7}, {0}, {6}}) {
    EXPECT_EQ(test::message_of([&] {
                ops::linear_backward_weight(dweight.tensor(), dy.tensor(), x.tensor(),
                                            ops::Chain::begin, wrong);
              }),
              "linear_backward_weight: the sequences are not the 6 rows");
  }
}

TEST_P(MatmulOps, APackedWeightIsForOneArithmeticAndOneKindOfSum) {
  const DType dtype = GetParam();
  EXPECT_TRUE(ops::packs(device_, dtype));
  for (const std::int64_t k : {1, 31, 32, 33, 70}) {
    for (const ops::Sum sum : {ops::Sum::chain, ops::Sum::two, ops::Sum::leaves}) {
      EXPECT_GE(ops::packed_size(dtype, 5, k, sum), 5 * k);
    }
  }
  // Leaves begin blocks of bf16: eight of 4 + 5 + 4 + ... columns take eight blocks, not two.
  EXPECT_EQ(ops::packed_size(dtype, 16, 36, ops::Sum::leaves) >
                ops::packed_size(dtype, 16, 36, ops::Sum::chain),
            dtype == DType::bf16);
  const DType other = dtype == DType::f32 ? DType::bf16 : DType::f32;
  const Buffer x = numbered({4, 36}, 1), weight = numbered(DType::f32, {16, 36}, 2);
  Buffer y = numbered({4, 16}, 3);
  Buffer packed(device_, other, {ops::packed_size(dtype, 16, 36, ops::Sum::chain)});
  EXPECT_EQ(test::message_of([&] {
              ops::linear_forward(y.tensor(), x.tensor(), packed.tensor(), nullptr, ops::Sum::chain,
                                  ops::Write::overwrite);
            }),
            std::string("tensor: wanted ") + name_of(dtype) + ", found " + packed.tensor().shape());
  // A bf16 form is made of bf16 weights alone; what to round is the caller's decision.
  Buffer narrow = packed_for(16, 36, ops::Sum::chain);
  const std::string message = test::message_of(
      [&] { ops::pack_weight(narrow.tensor(), weight.tensor(), ops::Sum::chain); });
  EXPECT_EQ(message, dtype == DType::f32 ? "" : "tensor: wanted bf16, found f32 [16, 36]");
}

TEST_P(MatmulOps, ShapesThatDoNotFitAreNamedInTheError) {
  Buffer y = numbered({4, 6}, 1), packed = packed_for(6, 8, ops::Sum::chain);
  const Buffer x = numbered({4, 41}, 2);  // beyond the padding of 8 to a block
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
  Buffer dweight = numbered(DType::f32, {6, 8}, 5);
  EXPECT_THROW(
      ops::linear_backward_weight(dweight.tensor(), y.tensor(), x.tensor(), ops::Chain::resume),
      Error);
}

TEST_P(MatmulOps, AProductOfNoRowsTouchesNothing) {
  Buffer packed = packed_for(6, 8, ops::Sum::chain);
  Buffer y = numbered({4, 6}, 1), dweight = numbered(DType::f32, {6, 8}, 2);
  const Buffer x = numbered({4, 8}, 3), old = numbered(DType::f32, {6, 8}, 2);
  Tensor none = y.tensor().rows(2, 2);
  const Tensor no_x = x.tensor().rows(0, 0);
  ops::linear_forward(none, no_x, packed.tensor(), nullptr, ops::Sum::chain, ops::Write::overwrite);
  ops::linear_backward_weight(dweight.tensor(), none, no_x, ops::Chain::resume);
  for (std::int64_t i = 0; i < 48; ++i) EXPECT_EQ(dweight.data<float>()[i], old.data<float>()[i]);
}

}  // namespace
}  // namespace fst
