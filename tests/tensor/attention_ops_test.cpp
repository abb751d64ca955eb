#include <cmath>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "fst/tensor/ops.h"

#include "support/arithmetic.h"
#include "support/message.h"

namespace fst::ops {
namespace {

/// One sequence of three rows, two query heads on one KV head of size 4.
struct Fixture {
  Device device = Device::cpu();
  DType dtype;
  Buffer q{device, dtype, {3, 8}}, k{device, dtype, {3, 4}}, v{device, dtype, {3, 4}};
  Buffer out{device, dtype, {3, 8}}, lse{device, DType::f32, {3, 2}};
  Buffer cache{device, dtype, {2, 1, 2, 64}};
  Buffer cu_seqlens{device, DType::i32, {2}}, context{device, DType::i32, {1}};
  Buffer table{device, DType::i32, {1, 1}};
  AttentionBatch batch;

  explicit Fixture(DType of = DType::f32) : dtype(of) {
    cu_seqlens.data<std::int32_t>()[1] = 3;
    table.data<std::int32_t>()[0] = 1;
    batch = {cu_seqlens.tensor(), context.tensor(), table.tensor()};
    set(v, [](int i) { return static_cast<float>(i); });
  }
  /// Element i of x = f(i).
  void set(Buffer& x, const std::function<float(int)>& f) {
    Buffer wide(device, DType::f32, {x.tensor().size()});
    for (int i = 0; i < wide.tensor().size(); ++i) wide.data<float>()[i] = f(i);
    Tensor flat = x.tensor().view({x.tensor().size()});
    ops::convert(flat, wide.tensor());
  }
  std::vector<float> values(const Buffer& x) {
    Buffer wide(device, DType::f32, {x.tensor().size()});
    ops::convert(wide.tensor(), x.tensor().view({x.tensor().size()}));
    return {wide.data<float>(), wide.data<float>() + x.tensor().size()};
  }
  std::string message() {
    return test::message_of([&] {
      attention_forward(out.tensor(), lse.tensor(), q.tensor(), cache.tensor(), batch, 1.0f);
    });
  }
};

class AttentionOpsOf : public testing::TestWithParam<DType> {};

INSTANTIATE_TEST_SUITE_P(Arithmetic, AttentionOpsOf, testing::ValuesIn(test::arithmetics),
                         test::arithmetic_name);

TEST_P(AttentionOpsOf, EqualScoresAverageTheVisibleValues) {
  Fixture f(GetParam());
  kv_write(f.cache.tensor(), f.k.tensor(), f.v.tensor(), f.batch);
  attention_forward(f.out.tensor(), f.lse.tensor(), f.q.tensor(), f.cache.tensor(), f.batch, 1.0f);
  const std::vector<float> out = f.values(f.out);
  for (int row = 0; row < 3; ++row) {
    for (int i = 0; i < 8; ++i) {  // small integers: exact in bf16 too
      EXPECT_FLOAT_EQ(out[static_cast<std::size_t>(row * 8 + i)],
                      static_cast<float>(i % 4 + 2 * row));
    }
    EXPECT_FLOAT_EQ(f.lse.data<float>()[row * 2], std::log(static_cast<float>(row + 1)));
  }
}

TEST_P(AttentionOpsOf, ReadBlocksOfColumnsAsTheyLie) {
  Fixture f(GetParam());
  Buffer qkv(f.device, GetParam(), {3, 16});
  f.set(qkv, [](int i) { return static_cast<float>(i % 7) * 0.25f; });
  const Tensor q = qkv.tensor().columns(0, 8), k = qkv.tensor().columns(8, 12);
  const Tensor v = qkv.tensor().columns(12, 16);
  kv_write(f.cache.tensor(), k, v, f.batch);
  attention_forward(f.out.tensor(), f.lse.tensor(), q, f.cache.tensor(), f.batch, 1.0f);
  const std::vector<float> out = f.values(f.out), all = f.values(qkv);
  for (std::size_t i = 0; i < 8; ++i) {  // the first row sees one key
    EXPECT_EQ(out[i], all[12 + i % 4]);
  }
}

TEST_P(AttentionOpsOf, RefuseACacheOfTheOtherArithmetic) {
  Fixture f(GetParam()), other(GetParam() == DType::f32 ? DType::bf16 : DType::f32);
  const std::string expected =
      std::string("tensor: wanted ") + name_of(f.dtype) + ", found " + name_of(other.dtype) + " [";
  std::swap(f.cache, other.cache);
  EXPECT_EQ(f.message(), expected + "2, 1, 2, 64]");
  EXPECT_EQ(test::message_of(
                [&] { kv_write(other.cache.tensor(), other.k.tensor(), f.v.tensor(), f.batch); }),
            expected + "3, 4]");
}

TEST(AttentionOps, NameTheBlockThatIsNotInTheCache) {
  Fixture f;
  f.table.data<std::int32_t>()[0] = 2;
  EXPECT_NE(f.message().find("block 0 of sequence 0 is 2"), std::string::npos) << f.message();
}

TEST(AttentionOps, RefuseATableTooShortForTheKeys) {
  Fixture f;
  f.context.data<std::int32_t>()[0] = 14;
  EXPECT_NE(f.message().find("needs 2 blocks, its table has 1"), std::string::npos) << f.message();
}

TEST(AttentionOps, RefuseRowsThatNoSequenceOwns) {
  Fixture f;
  f.cu_seqlens.data<std::int32_t>()[1] = 2;
  EXPECT_NE(f.message().find("the batch has 3 rows"), std::string::npos) << f.message();
}

TEST(AttentionOps, BackwardRefusesKeysBeforeTheFirstRow) {
  Fixture f;
  f.context.data<std::int32_t>()[0] = 1;
  Buffer dq(f.device, DType::f32, {3, 8}), dk(f.device, DType::f32, {3, 4});
  Buffer dv(f.device, DType::f32, {3, 4});
  EXPECT_THROW(
      attention_backward(dq.tensor(), dk.tensor(), dv.tensor(), f.out.tensor(), f.out.tensor(),
                         f.lse.tensor(), f.q.tensor(), f.cache.tensor(), f.batch, 1.0f),
      Error);
}

}  // namespace
}  // namespace fst::ops
