#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "fst/base/error.h"
#include "fst/tensor/ops.h"

#include "support/arithmetic.h"
#include "support/isa.h"
#include "support/message.h"

namespace fst {
namespace {

/// The value of an f16 by its definition.
double value_of_f16(std::uint32_t bits) {
  const double sign = (bits & 0x8000u) != 0 ? -1.0 : 1.0;
  const int exponent = static_cast<int>((bits >> 10) & 31u);
  const int fraction = static_cast<int>(bits & 1023u);
  if (exponent == 31) {
    return fraction != 0 ? std::numeric_limits<double>::quiet_NaN()
                         : sign * std::numeric_limits<double>::infinity();
  }
  if (exponent == 0) return sign * std::ldexp(fraction, -24);
  return sign * std::ldexp(1024 + fraction, exponent - 25);
}

class ElementwiseOps : public testing::TestWithParam<kernels::Isa> {
 protected:
  Device device_ = Device::cpu(2, GetParam());
};

TEST_P(ElementwiseOps, EveryHalfPrecisionNumberSurvivesWideningAndNarrowing) {
  const std::int64_t all = 1 << 16;
  for (const DType dtype : {DType::bf16, DType::f16}) {
    Buffer half(device_, dtype, {all}), back(device_, dtype, {all});
    Buffer wide(device_, DType::f32, {all});
    auto* bits = static_cast<std::uint16_t*>(half.tensor().raw());
    for (std::int64_t i = 0; i < all; ++i) bits[i] = static_cast<std::uint16_t>(i);
    ops::convert(wide.tensor(), half.tensor());
    ops::convert(back.tensor(), wide.tensor());
    for (std::int64_t i = 0; i < all; ++i) {
      const float value = wide.data<float>()[i];
      const double expected = dtype == DType::f16
                                  ? value_of_f16(static_cast<std::uint32_t>(i))
                                  : std::bit_cast<float>(static_cast<std::uint32_t>(i) << 16);
      const auto found = static_cast<std::uint16_t*>(back.tensor().raw())[i];
      if (std::isnan(expected)) {
        ASSERT_TRUE(std::isnan(value)) << i;
      } else {
        ASSERT_EQ(static_cast<double>(value), expected) << i;
        ASSERT_EQ(found, i);
      }
    }
  }
}

// Long enough for two threads, and no multiple of a vector or of a block.
TEST_P(ElementwiseOps, JoinHasTheBitsOfItsTree) {
  const std::int64_t n = 70001;
  std::vector<Buffer> parts;
  std::vector<Tensor> views;
  for (int p = 0; p < 5; ++p) {
    views.push_back(parts.emplace_back(device_, DType::f32, std::initializer_list{n}).tensor());
    for (std::int64_t i = 0; i < n; ++i) {
      const auto bits = static_cast<std::uint32_t>(i * 5 + p) * 2654435761u;
      views.back().data<float>()[i] = std::ldexp(static_cast<float>(bits), -(p * 7 % 5) * 11);
    }
  }
  std::vector<float> expected, in_turn;
  for (std::int64_t i = 0; i < n; ++i) {
    const auto x = [&](std::size_t p) { return views[p].data<float>()[i]; };
    expected.push_back((x(0) + x(1)) + (x(2) + (x(3) + x(4))));
    in_turn.push_back((((x(0) + x(1)) + x(2)) + x(3)) + x(4));
  }
  ASSERT_NE(expected, in_turn);  // another order shows
  const std::vector<std::int32_t> joins{0, 1, 0, 0, 3};
  Buffer apart(device_, DType::f32, {n});
  ops::join(apart.tensor(), views, joins);
  ops::join(views[0], views, joins);
  for (const Tensor& sum : {apart.tensor(), views[0]}) {
    EXPECT_EQ(std::vector<float>(sum.data<float>(), sum.data<float>() + n), expected);
  }
}

TEST_P(ElementwiseOps, JoinRefusesWhatIsNoTree) {
  Buffer a(device_, DType::f32, {3}), b(device_, DType::f32, {3}), c(device_, DType::f32, {4});
  const std::vector<Tensor> two{a.tensor(), b.tensor()}, unequal{a.tensor(), c.tensor()};
  const auto join = [&](const std::vector<Tensor>& parts, const std::vector<std::int32_t>& joins) {
    ops::join(a.tensor(), parts, joins);
  };
  EXPECT_NO_THROW(join(two, {0, 1}));
  EXPECT_THROW(join(two, {0, 0}), Error);  // two sums are left
  EXPECT_THROW(join(two, {1, 0}), Error);  // a join of one
  EXPECT_THROW(join(two, {0, 2}), Error);
  EXPECT_THROW(join(two, {0, -1}), Error);
  EXPECT_THROW(join(two, {1}), Error);
  EXPECT_THROW(join({}, {}), Error);
  EXPECT_THROW(join(unequal, {0, 1}), Error);
  const std::vector<Tensor> many(17, a.tensor());  // 17 on the stack, one too many
  std::vector<std::int32_t> late(17, 0);
  late.back() = 16;
  EXPECT_THROW(join(many, late), Error);
}

TEST_P(ElementwiseOps, OneRowIsAddedAndFilledByAllThreads) {
  const std::int64_t n = 100003;
  Buffer x(device_, DType::f32, {n}), y(device_, DType::f32, {n});
  ops::fill(x.tensor(), 1.5f);
  ops::fill(y.tensor(), 0.25f);
  ops::add(y.tensor(), x.tensor());
  for (std::int64_t i = 0; i < n; ++i) ASSERT_EQ(y.data<float>()[i], 1.75f) << i;
}

TEST_P(ElementwiseOps, NarrowingRoundsToTheNearestWithTiesToEven) {
  // Between neighbours of f16 and bf16: a tie goes to the even one, anything else to the nearer
  // one.
  const std::int64_t pairs = 0x7bff;
  Buffer wide(device_, DType::f32, {3 * pairs}), half(device_, DType::f16, {3 * pairs});
  for (std::uint32_t i = 0; i < pairs; ++i) {
    const auto tie = static_cast<float>((value_of_f16(i) + value_of_f16(i + 1)) / 2);
    wide.data<float>()[3 * i] = tie;
    wide.data<float>()[3 * i + 1] = std::nextafter(tie, 0.0f);
    wide.data<float>()[3 * i + 2] = std::nextafter(tie, 1e6f);
  }
  ops::convert(half.tensor(), wide.tensor());
  const auto* found = static_cast<std::uint16_t*>(half.tensor().raw());
  for (std::uint32_t i = 0; i < pairs; ++i) {
    ASSERT_EQ(found[3 * i], i + (i & 1u));
    ASSERT_EQ(found[3 * i + 1], i);
    ASSERT_EQ(found[3 * i + 2], i + 1);
  }
  Buffer few(device_, DType::f32, {5}), few_bf16(device_, DType::bf16, {5});
  const std::uint32_t inputs[] = {0x3f808000u, 0x3f818000u, 0x3f808001u, 0x7f7fffffu, 0xff7f7fffu};
  const std::uint16_t expected[] = {0x3f80u, 0x3f82u, 0x3f81u, 0x7f80u, 0xff7fu};
  for (int i = 0; i < 5; ++i) few.data<float>()[i] = std::bit_cast<float>(inputs[i]);
  ops::convert(few_bf16.tensor(), few.tensor());
  for (int i = 0; i < 5; ++i) {
    EXPECT_EQ(static_cast<std::uint16_t*>(few_bf16.tensor().raw())[i], expected[i]);
  }
}

TEST_P(ElementwiseOps, NumbersBeyondTheRangeOfF16BecomeInfinity) {
  Buffer wide(device_, DType::f32, {4}), half(device_, DType::f16, {4});
  const float inputs[] = {65519.996f, 65520.0f, -1e30f, 1e-30f};
  const std::uint16_t expected[] = {0x7bffu, 0x7c00u, 0xfc00u, 0x0000u};
  for (int i = 0; i < 4; ++i) wide.data<float>()[i] = inputs[i];
  ops::convert(half.tensor(), wide.tensor());
  for (int i = 0; i < 4; ++i) {
    EXPECT_EQ(static_cast<std::uint16_t*>(half.tensor().raw())[i], expected[i]) << inputs[i];
  }
}

/// Element i of a contiguous tensor, f32 or bf16.
float value_at(const Buffer& x, std::int64_t i) {
  return x.tensor().dtype() == DType::f32 ? x.data<float>()[i]
                                          : kernels::widened(x.data<kernels::Bf16>()[i]);
}

TEST_P(ElementwiseOps, AddAndFillStayInsideABlockOfColumns) {
  for (const auto& [to, from] :
       {std::pair{DType::f32, DType::f32}, {DType::bf16, DType::bf16}, {DType::bf16, DType::f32}}) {
    Buffer y(device_, to, {7, 90}), x(device_, from, {7, 83});
    ops::fill(x.tensor(), 0.5f);
    Tensor block = y.tensor().columns(3, 86);
    ops::fill(block, 2.0f);
    ops::add(block, x.tensor());
    for (std::int64_t i = 0; i < y.tensor().size(); ++i) {
      const std::int64_t column = i % 90;
      EXPECT_EQ(value_at(y, i), column >= 3 && column < 86 ? 2.5f : 0.0f);
    }
    Buffer other(device_, to, {7, 82});
    EXPECT_THROW(ops::add(block, other.tensor()), Error);
  }
}

TEST_P(ElementwiseOps, AFloatIsAddedToBf16BeforeTheOnlyRounding) {
  const std::int64_t n = 3;
  Buffer y(device_, DType::bf16, {n}), x(device_, DType::f32, {n}),
      rounded(device_, DType::bf16, {n});
  ops::fill(y.tensor(), 1.0f);
  // Half of the last place of 1 in bf16, which is 2^-7, and a little more, or less.
  const float terms[] = {0x1p-8f, 0x1.01p-8f, 0x1.ffp-9f};
  const float expected[] = {1.0f, 1.0f + 0x1p-7f, 1.0f};
  for (int i = 0; i < n; ++i) x.data<float>()[i] = terms[i];
  ops::convert(rounded.tensor(), x.tensor());
  Buffer twice(device_, DType::bf16, {n});
  ops::fill(twice.tensor(), 1.0f);
  ops::add(y.tensor(), x.tensor());
  ops::add(twice.tensor(), rounded.tensor());
  for (int i = 0; i < n; ++i) EXPECT_EQ(value_at(y, i), expected[i]) << i;
  EXPECT_EQ(value_at(twice, 1), 1.0f);  // rounded before as well, the little more is lost
}

TEST_P(ElementwiseOps, ConvertOfEqualTypesCopiesEveryBit) {
  const std::int64_t n = 65536 + 7;
  for (const DType dtype : test::arithmetics) {
    Buffer x(device_, dtype, {n}), y(device_, dtype, {n});
    for (std::int64_t i = 0; i < n; ++i) {  // every bf16, NaN and denormals too
      const auto bits = static_cast<std::uint32_t>(i);
      if (dtype == DType::bf16) {
        static_cast<std::uint16_t*>(x.tensor().raw())[i] = static_cast<std::uint16_t>(bits);
      } else {
        static_cast<std::uint32_t*>(x.tensor().raw())[i] = bits * 2654435761u;
      }
    }
    ops::convert(y.tensor(), x.tensor());
    EXPECT_EQ(std::memcmp(y.tensor().raw(), x.tensor().raw(),
                          static_cast<std::size_t>(n * size_of(dtype))),
              0)
        << name_of(dtype);
  }
}

TEST_P(ElementwiseOps, SayWhichTypesDoNotGoTogether) {
  Buffer wide(device_, DType::f32, {2, 3}), narrow(device_, DType::bf16, {2, 3});
  Buffer half(device_, DType::f16, {2, 3}), numbers(device_, DType::i32, {2, 3});
  EXPECT_EQ(test::message_of([&] { ops::add(wide.tensor(), narrow.tensor()); }),
            "add: x: expected f32, found bf16 [2, 3]");
  EXPECT_EQ(test::message_of([&] { ops::add(narrow.tensor(), half.tensor()); }),
            "tensor: wanted bf16, found f16 [2, 3]");
  EXPECT_EQ(test::message_of([&] { ops::add(half.tensor(), wide.tensor()); }),
            "add: y: expected f32 or bf16, found f16 [2, 3]");
  EXPECT_EQ(test::message_of([&] { ops::convert(narrow.tensor(), half.tensor()); }),
            "convert: x: expected f32, since y is not, found f16 [2, 3]");
  EXPECT_EQ(test::message_of([&] { ops::convert(numbers.tensor(), numbers.tensor()); }),
            "convert: x: expected f32, bf16 or f16, found i32 [2, 3]");
  EXPECT_EQ(test::message_of([&] { ops::copy_rows(wide.tensor(), narrow.tensor()); }),
            "tensor: wanted f32, found bf16 [2, 3]");
}

TEST_P(ElementwiseOps, GatheredRowsScatterBackInOrderOfTheIndex) {
  const std::int64_t rows = 5, columns = 35, count = 4;
  Buffer index(device_, DType::i32, {count});
  const auto choose = [&](const std::array<std::int32_t, 4>& chosen) {
    std::copy(chosen.begin(), chosen.end(), index.data<std::int32_t>());
  };
  for (const DType dtype : test::arithmetics) {
    Buffer x(device_, dtype, {rows, columns}), y(device_, dtype, {count, columns});
    Buffer dx(device_, dtype, {rows, columns}), wide(device_, DType::f32, {rows, columns});
    const std::array<std::int32_t, 4> chosen{3, 0, 3, 4};
    choose(chosen);
    for (std::int64_t i = 0; i < rows * columns; ++i) wide.data<float>()[i] = static_cast<float>(i);
    ops::convert(x.tensor(), wide.tensor());  // at most 174: exact in bf16
    ops::gather_rows(y.tensor(), x.tensor(), index.tensor());
    for (std::int64_t i = 0; i < count * columns; ++i) {
      const std::int32_t row = chosen[static_cast<std::size_t>(i / columns)];
      EXPECT_EQ(value_at(y, i), static_cast<float>(row * columns + i % columns));
    }
    // The first number whose neighbour is two away, then 1 twice: in this order both ones are
    // lost, in any other order they are not.
    const float large = dtype == DType::f32 ? 0x1p24f : 0x1p8f;
    choose({2, 2, 2, 1});
    const float values[] = {large, 1.0f, 1.0f, 7.0f};
    for (std::int64_t i = 0; i < count; ++i) {
      Tensor row = y.tensor().rows(i, i + 1);
      ops::fill(row, values[i]);
    }
    ops::scatter_add_rows(dx.tensor(), y.tensor(), index.tensor());
    for (std::int64_t j = 0; j < columns; ++j) {
      EXPECT_EQ(value_at(dx, 2 * columns + j), large);
      EXPECT_EQ(value_at(dx, columns + j), 7.0f);
      EXPECT_EQ(value_at(dx, j), 0.0f);
    }
    index.data<std::int32_t>()[1] = 5;
    EXPECT_THROW(ops::gather_rows(y.tensor(), x.tensor(), index.tensor()), Error);
  }
}

INSTANTIATE_TEST_SUITE_P(EveryInstructionSet, ElementwiseOps, testing::ValuesIn(test::isas()));

}  // namespace
}  // namespace fst
