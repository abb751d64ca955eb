#include <cmath>
#include <string>

#include <gtest/gtest.h>

#include "fst/tensor/ops.h"

namespace fst::ops {
namespace {

/// One sequence of three rows, two query heads on one KV head of size 4.
struct Fixture {
  Device device = Device::cpu();
  Buffer q{device, DType::f32, {3, 8}}, k{device, DType::f32, {3, 4}},
      v{device, DType::f32, {3, 4}};
  Buffer out{device, DType::f32, {3, 8}}, lse{device, DType::f32, {3, 2}};
  Buffer cache{device, DType::f32, {2, 1, 2, 64}};
  Buffer cu_seqlens{device, DType::i32, {2}}, context{device, DType::i32, {1}};
  Buffer table{device, DType::i32, {1, 1}};
  AttentionBatch batch;

  Fixture() {
    cu_seqlens.data<std::int32_t>()[1] = 3;
    table.data<std::int32_t>()[0] = 1;
    batch = {cu_seqlens.tensor(), context.tensor(), table.tensor()};
    for (int i = 0; i < 12; ++i) v.data<float>()[i] = static_cast<float>(i);
  }
  std::string message() {
    try {
      attention_forward(out.tensor(), lse.tensor(), q.tensor(), cache.tensor(), batch, 1.0f);
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  }
};

TEST(AttentionOps, EqualScoresAverageTheVisibleValues) {
  Fixture f;
  kv_write(f.cache.tensor(), f.k.tensor(), f.v.tensor(), f.batch);
  attention_forward(f.out.tensor(), f.lse.tensor(), f.q.tensor(), f.cache.tensor(), f.batch, 1.0f);
  for (int row = 0; row < 3; ++row) {
    for (int i = 0; i < 8; ++i) {
      EXPECT_FLOAT_EQ(f.out.data<float>()[row * 8 + i], static_cast<float>(i % 4 + 2 * row));
    }
    EXPECT_FLOAT_EQ(f.lse.data<float>()[row * 2], std::log(static_cast<float>(row + 1)));
  }
}

TEST(AttentionOps, ReadBlocksOfColumnsAsTheyLie) {
  Fixture f;
  Buffer qkv(f.device, DType::f32, {3, 16});
  for (int i = 0; i < 48; ++i) qkv.data<float>()[i] = static_cast<float>(i % 7) * 0.25f;
  const Tensor q = qkv.tensor().columns(0, 8), k = qkv.tensor().columns(8, 12);
  const Tensor v = qkv.tensor().columns(12, 16);
  kv_write(f.cache.tensor(), k, v, f.batch);
  attention_forward(f.out.tensor(), f.lse.tensor(), q, f.cache.tensor(), f.batch, 1.0f);
  for (int i = 0; i < 8; ++i) {  // the first row sees one key
    EXPECT_EQ(f.out.data<float>()[i], qkv.data<float>()[12 + i % 4]);
  }
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
