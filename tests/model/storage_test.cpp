#include <vector>

#include <gtest/gtest.h>

#include "fst/base/error.h"
#include "fst/model/activations.h"
#include "fst/model/kv_cache.h"
#include "fst/model/token_batch.h"

#include "support/tiny_model.h"

namespace fst {
namespace {

const Device cpu = Device::cpu();

TEST(PackedSequences, GiveOutBlocksInOrderAndNoPadding) {
  PackedSequences packed(cpu);
  const TokenBatch& batch =
      packed.pack({std::vector<TokenId>(17, 3), {8, 9}, std::vector<TokenId>(16, 5)});
  EXPECT_EQ(packed.tokens(), 35);
  EXPECT_EQ(packed.sequences(), 3);
  EXPECT_EQ(packed.blocks(), 4);
  EXPECT_EQ(packed.first_row(2), 19);
  const auto values = [](const Tensor& tensor) {
    const auto* data = tensor.data<std::int32_t>();
    return std::vector<std::int32_t>(data, data + tensor.size());
  };
  EXPECT_EQ(values(batch.attention.cu_seqlens), (std::vector<std::int32_t>{0, 17, 19, 35}));
  EXPECT_EQ(values(batch.attention.context), (std::vector<std::int32_t>{0, 0, 0}));
  EXPECT_EQ(values(batch.attention.block_table), (std::vector<std::int32_t>{0, 1, 2, 0, 3, 0}));
  EXPECT_EQ(batch.tokens.data<std::int32_t>()[18], 9);
  EXPECT_EQ(batch.positions.data<std::int32_t>()[18], 1);
  packed.pack({{4}});
  EXPECT_EQ(packed.tokens(), 1);
  EXPECT_EQ(packed.blocks(), 1);
}

TEST(KvCache, CopiesAndZeroesBlocksInEveryLayer) {
  const Qwen3Config config = testing::tiny_config();
  KvCache cache(config, cpu, 3);
  const std::int64_t size = cache.layer(0).size() / 3;
  EXPECT_EQ(size, 2 * 2 * 16 * 10);  // KV heads, keys and values, tokens, head size
  EXPECT_EQ(cache.bytes(), 3 * 2 * size * 4);
  for (std::int64_t l = 0; l < cache.layers(); ++l) {
    for (std::int64_t i = 0; i < size; ++i) {
      cache.layer(l).data<float>()[size + i] = static_cast<float>(l + i);
    }
  }
  cache.copy_block(2, 1);
  cache.zero_block(1);
  for (std::int64_t l = 0; l < cache.layers(); ++l) {
    for (std::int64_t i = 0; i < size; ++i) {
      ASSERT_EQ(cache.layer(l).data<float>()[i], 0.0f);
      ASSERT_EQ(cache.layer(l).data<float>()[size + i], 0.0f);
      ASSERT_EQ(cache.layer(l).data<float>()[2 * size + i], static_cast<float>(l + i));
    }
  }
  EXPECT_THROW(cache.copy_block(3, 0), Error);
  cache.reserve(2);
  EXPECT_EQ(cache.blocks(), 3);
  cache.reserve(5);
  EXPECT_EQ(cache.layer(1).dim(0), 5);
}

TEST(Activations, TakeTheMemoryTheySay) {
  const Qwen3Config config = testing::tiny_config();
  for (const DType dtype : {DType::f32, DType::bf16}) {
    for (const Keep keep : {Keep::all, Keep::inputs}) {
      Activations saved(keep);
      saved.reserve(config, cpu, 7, dtype);
      std::int64_t bytes = 0;
      const auto count = [&](const Buffer& buffer) {
        if (buffer.tensor().empty()) return;
        bytes += buffer.tensor().size() * size_of(buffer.tensor().dtype());
      };
      count(saved.last);
      count(saved.last_rstd);
      for (const LayerActivations& layer : saved.layers) {
        for (const Buffer* buffer :
             {&layer.input, &layer.input_rstd, &layer.qkv, &layer.q_rstd, &layer.k_rstd, &layer.q,
              &layer.attention, &layer.lse, &layer.middle, &layer.middle_rstd, &layer.gate_up}) {
          count(*buffer);
        }
      }
      EXPECT_EQ(bytes, 7 * Activations::bytes_per_token(config, dtype, keep)) << name_of(dtype);
      EXPECT_EQ(saved.tokens(), 7);
    }
  }
}

}  // namespace
}  // namespace fst
