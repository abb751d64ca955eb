#include "fst/model/gradients.h"

#include <gtest/gtest.h>

#include "fst/base/error.h"
#include "fst/tensor/ops.h"

#include "support/tiny_model.h"

namespace fst {
namespace {

const Device cpu = Device::cpu();

TEST(Gradients, JoinHeadsByTheHalvingTreeAndATiedEmbeddingOnce) {
  Qwen3Config config = testing::tiny_config();
  config.num_attention_heads = 3;
  config.num_key_value_heads = 1;
  Gradients gradients(config, cpu);
  const LayerTensors layer = gradients.layer(1);
  ASSERT_EQ(layer.q_norm.dim(0), 3);
  // a + (b + c) is not (a + b) + c here.
  layer.q_norm.data<float>()[4] = 1.0f;
  layer.q_norm.data<float>()[10 + 4] = 0x1p-24f;
  layer.q_norm.data<float>()[20 + 4] = 0x1p-24f;
  layer.k_norm.data<float>()[9] = 3.0f;
  gradients.embedding().data<float>()[50] = 2.0f;
  gradients.head().data<float>()[50] = 0.5f;
  const Tensor& flat = gradients.finish();
  EXPECT_EQ(flat.size(), config.parameter_count());
  EXPECT_EQ(gradients.at("model.layers.1.self_attn.q_norm.weight").data<float>()[4],
            1.0f + 0x1p-23f);
  EXPECT_EQ(gradients.at("model.layers.1.self_attn.k_norm.weight").data<float>()[9], 3.0f);
  EXPECT_EQ(gradients.at("model.embed_tokens.weight").data<float>()[50], 2.5f);
  EXPECT_EQ(gradients.finish().data<float>()[50], 2.5f);  // joined once, however often asked
}

TEST(Gradients, AreOpenUntilFinishedAndAgainAfterZero) {
  Gradients gradients(testing::tiny_config(), cpu);
  EXPECT_THROW(gradients.at("model.norm.weight"), Error);
  gradients.head().data<float>()[3] = 1.0f;
  gradients.layer(0).k_norm.data<float>()[3] = 1.0f;
  gradients.finish();
  EXPECT_THROW(gradients.layer(0), Error);
  EXPECT_THROW(gradients.embedding(), Error);
  EXPECT_THROW(gradients.head(), Error);
  EXPECT_THROW(gradients.final_norm(), Error);
  gradients.zero();
  const Tensor& flat = gradients.finish();
  for (std::int64_t i = 0; i < flat.size(); ++i) ASSERT_EQ(flat.data<float>()[i], 0.0f) << i;
}

/// What a backward pass is told for the matrices of a layer.
ops::Chain layer_chain(Gradients& gradients, std::int64_t layer) {
  ops::Chain chain{};
  gradients.layer(layer, chain);
  return chain;
}

TEST(Gradients, MatricesBeginOnceAndAreZeroWhereNobodyWroteThem) {
  Gradients gradients(testing::tiny_config(), cpu);
  ops::Chain head{};
  gradients.layer(0).down.data<float>()[3] = 1.0f;  // zero before
  gradients.head().data<float>()[3] = 1.0f;
  EXPECT_EQ(layer_chain(gradients, 0), ops::Chain::resume);
  EXPECT_EQ(layer_chain(gradients, 1), ops::Chain::begin);
  EXPECT_EQ(layer_chain(gradients, 1), ops::Chain::resume);
  gradients.head(head);
  EXPECT_EQ(head, ops::Chain::resume);
  gradients.finish();
  gradients.zero();
  EXPECT_EQ(layer_chain(gradients, 0), ops::Chain::begin);
  gradients.head(head);
  EXPECT_EQ(head, ops::Chain::begin);
  gradients.zero();
  EXPECT_EQ(gradients.layer(0).down.data<float>()[3], 0.0f);
  EXPECT_EQ(gradients.head().data<float>()[3], 0.0f);
}

TEST(Gradients, OfAnUntiedModelKeepTheHeadInItsOwnPlace) {
  Gradients gradients(testing::tiny_config(Family::llama, false), cpu);
  gradients.head().data<float>()[7] = 1.0f;
  gradients.finish();
  EXPECT_EQ(gradients.at("lm_head.weight").data<float>()[7], 1.0f);
  EXPECT_EQ(gradients.at("model.embed_tokens.weight").data<float>()[7], 0.0f);
}

}  // namespace
}  // namespace fst
