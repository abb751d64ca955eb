#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "fst/tensor/ops.h"

#include "kernels/bf16.h"
#include "support/message.h"

namespace fst {
namespace {

constexpr double tolerance = 1e-6;  // float32 against a table of eight decimals

/// z = (0.5, -1, 2, 0), y = 2 of the specification, section 5.4, as one row.
struct Table {
  Device device = Device::cpu();
  std::vector<float> z{0.5f, -1.0f, 2.0f, 0.0f}, q{1.0f, -0.5f, 1.0f, 0.2f};
  std::int32_t y = 2;
  ops::TokenLaw law{1.0f, 4};
  Tensor logits{device, DType::f32, z.data(), {1, 4}};
  Tensor reference{device, DType::f32, q.data(), {1, 4}};
  Tensor targets{device, DType::i32, &y, {1}};
  Buffer lse{device, DType::f32, {1, 2}}, reference_lse{device, DType::f32, {1, 2}};
  Buffer entropy{device, DType::f32, {1}}, kl{device, DType::f32, {1}};

  Table() {
    ops::token_lse(lse.tensor(), logits, law);
    ops::token_lse(reference_lse.tensor(), reference, law);
    ops::token_entropy(entropy.tensor(), logits, lse.tensor(), law);
    ops::token_kl(kl.tensor(), logits, lse.tensor(), reference, reference_lse.tensor(), law);
  }
  std::vector<float> gradient(float dlogprob, float dentropy, float dkl) {
    std::vector<float> dz(4);
    Tensor out(device, DType::f32, dz.data(), {1, 4});
    ops::TokenGradient g;
    g.dlogprob = Tensor(device, DType::f32, &dlogprob, {1});
    g.dentropy = Tensor(device, DType::f32, &dentropy, {1});
    g.entropy = entropy.tensor();
    g.dkl = Tensor(device, DType::f32, &dkl, {1});
    g.kl = kl.tensor();
    g.reference_logits = reference;
    g.reference_lse = reference_lse.tensor();
    ops::token_backward(out, logits, lse.tensor(), targets, g, law);
    return dz;
  }
};

void expect_row(const std::vector<float>& found, const std::array<double, 4>& expected) {
  for (std::size_t v = 0; v < 4; ++v) EXPECT_NEAR(found[v], expected[v], tolerance);
}

TEST(TokenOps, ReproducesTheTableOfTheSpecification) {
  Table t;
  Buffer logprob(t.device, DType::f32, {1});
  ops::token_logprob(logprob.tensor(), t.logits, t.lse.tensor(), t.targets, t.law);
  EXPECT_NEAR(logprob.span<float>()[0], -0.34234958, tolerance);
  EXPECT_NEAR(t.entropy.span<float>()[0], 0.87828118, tolerance);
  EXPECT_NEAR(t.kl.span<float>()[0], 0.23462984, tolerance);
  // CISPO: dlogprob = -w A, w = min(ratio, 4).
  expect_row(t.gradient(-4.0f * 1.5f, 0, 0), {.95066826, .21212276, -1.73940046, .57660945});
  expect_row(t.gradient(1.18349987f * 0.7f, 0, 0), {-.13126351, -.02928885, .24016769, -.07961534});
  // PPO inside the clip: dlogprob = -ratio A.
  expect_row(t.gradient(-1.01442846f * 1.5f, 0, 0), {.24109623, .05379584, -.44112433, .14623226});
  // k1, k2, k3 with a reference of log 0.5: d = 0.35079760.
  expect_row(t.gradient(1.0f, 0, 0), {-.15844471, -.03535379, .28990008, -.09610157});
  expect_row(t.gradient(0.35079760f, 0, 0), {-.05558202, -.01240203, .10169625, -.03371220});
  expect_row(t.gradient(1.0f - std::exp(-0.35079760f), 0, 0),
             {-.04687963, -.01046026, .08577382, -.02843393});
  expect_row(t.gradient(0, 1, 0), {.15275154, .08711417, -.38056498, .14069928});
  expect_row(t.gradient(0, 0, 1), {-.17333540, -.03867636, .28831452, -.07630276});
}

TEST(TokenOps, TakesRowsOfAWiderMatrix) {
  const Device device = Device::cpu();
  std::vector<float> wide = {0.5f, -1.0f, 2.0f, 9.0f, 1.0f, 0.0f, 0.0f, 9.0f};
  const Tensor logits = Tensor(device, DType::f32, wide.data(), {2, 4}).columns(0, 3);
  Buffer lse(device, DType::f32, {2, 2});
  EXPECT_EQ(ops::token_lse(lse.tensor(), logits, {1.0f, 3}), -1);
  EXPECT_NEAR(lse.span<float>()[0] + lse.span<float>()[1],
              std::log(std::exp(0.5) + std::exp(-1.0) + std::exp(2.0)), tolerance);
  EXPECT_NEAR(lse.span<float>()[2] + lse.span<float>()[3], std::log(std::exp(1.0) + 2.0),
              tolerance);
}

using test::message_of;

TEST(TokenOps, SaysWhichArgumentHasTheWrongShape) {
  const Device device = Device::cpu();
  Buffer logits(device, DType::f32, {2, 5}), lse(device, DType::f32, {2, 2});
  Buffer short_lse(device, DType::f32, {2}), logprob(device, DType::f32, {2});
  Buffer tokens(device, DType::i32, {2});
  const auto lse_with = [&](Buffer& out, const ops::TokenLaw& law) {
    return message_of([&] { ops::token_lse(out.tensor(), logits.tensor(), law); });
  };
  EXPECT_EQ(lse_with(lse, {1.0f, 5}), "");
  EXPECT_NE(lse_with(short_lse, {1.0f, 5}).find("token_lse: lse"), std::string::npos);
  EXPECT_NE(lse_with(lse, {1.0f, 6}).find("a law of 1 to 5 tokens, asked for 6"),
            std::string::npos);
  EXPECT_NE(lse_with(lse, {0.0f, 5}).find("temperature above 0"), std::string::npos);

  Buffer keys(device, DType::i64, {2}), positions(device, DType::i32, {2});
  const auto sample_with = [&](const ops::SamplingLaw& law, std::int64_t count) {
    return message_of([&] {
      ops::sample_tokens(tokens.tensor(), logprob.tensor(), logits.tensor(),
                         keys.tensor().rows(0, count), positions.tensor(), law);
    });
  };
  EXPECT_EQ(sample_with({1.0f, 0, 1.0f, 0.0f, 5}, 2), "");
  EXPECT_NE(sample_with({1.0f, 0, 1.0f, 0.0f, 5}, 1).find("sample_tokens: keys"),
            std::string::npos);
  EXPECT_NE(sample_with({1.0f, 0, 1.5f, 0.0f, 5}, 2).find("top_p"), std::string::npos);
  logits.span<float>()[7] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_EQ(sample_with({1.0f, 0, 1.0f, 0.0f, 5}, 2), "");
  EXPECT_GE(tokens.span<std::int32_t>()[0], 0);
  EXPECT_EQ(tokens.span<std::int32_t>()[1], -1);
}

TEST(TokenOps, PartsOfTheVocabularyComeFromOneTwoFourOrEightRanks) {
  const Device device = Device::cpu();
  Buffer lse(device, DType::f32, {9, 2}), entropy(device, DType::f32, {9});
  const Buffer pairs(device, DType::f32, {9, 8, 2}), sums(device, DType::f32, {9, 8});
  const std::string lse_says = message_of([&] {
    ops::join_lse(lse.tensor(), pairs.tensor(), {1.0f, 8});
  });
  EXPECT_NE(lse_says.find("join_lse: pairs: expected the parts of 1, 2, 4 or 8 ranks"),
            std::string::npos)
      << lse_says;
  const std::string entropy_says =
      message_of([&] { ops::join_entropy(entropy.tensor(), sums.tensor()); });
  EXPECT_NE(entropy_says.find("join_entropy: sums: expected the parts"), std::string::npos)
      << entropy_says;
}

TEST(TokenOps, AGradientInBf16IsTheOneInFloatRoundedOnce) {
  const Device device = Device::cpu();
  Table t;
  Buffer narrow(device, DType::bf16, {1, 4});
  const auto expected = t.gradient(-1.5f, 0.25f, 0.125f);
  float dlogprob = -1.5f, dentropy = 0.25f, dkl = 0.125f;
  ops::TokenGradient g;
  g.dlogprob = Tensor(device, DType::f32, &dlogprob, {1});
  g.dentropy = Tensor(device, DType::f32, &dentropy, {1});
  g.entropy = t.entropy.tensor();
  g.dkl = Tensor(device, DType::f32, &dkl, {1});
  g.kl = t.kl.tensor();
  g.reference_logits = t.reference;
  g.reference_lse = t.reference_lse.tensor();
  ops::token_backward(narrow.tensor(), t.logits, t.lse.tensor(), t.targets, g, t.law);
  for (std::size_t v = 0; v < 4; ++v) {
    EXPECT_EQ(kernels::widened(narrow.data<kernels::Bf16>()[v]),
              kernels::widened(kernels::narrowed_to<kernels::Bf16>(expected[v])));
  }
  Buffer logits(device, DType::bf16, {1, 4});  // logits are float in either arithmetic
  EXPECT_EQ(message_of([&] { ops::token_lse(t.lse.tensor(), logits.tensor(), t.law); }),
            "tensor: wanted f32, found bf16 [1, 4]");
}

TEST(OptimiserOps, SumOfSquaresTakesBlocksOfColumns) {
  const Device device = Device::cpu();
  std::vector<float> x = {1, 2, 100, 3, 4, 100};
  kernels::ExactSum sum;
  ops::sum_of_squares(sum, Tensor(device, DType::f32, x.data(), {2, 3}).columns(0, 2));
  ops::sum_of_squares(sum, Tensor());
  EXPECT_EQ(sum.value(), 30.0);
}

}  // namespace
}  // namespace fst
