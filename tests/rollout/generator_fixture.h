#pragma once

#include <algorithm>
#include <bit>
#include <limits>

#include <gtest/gtest.h>

#include "fst/base/error.h"
#include "fst/base/random.h"
#include "fst/model/token_head.h"
#include "fst/rollout/generator.h"

#include "support/arithmetic.h"
#include "tiny_model.h"

namespace fst {

inline constexpr std::int64_t positions = 96;

/// A model with random weights; stop tokens are common enough to end some completions.
class GeneratorFixture : public ::testing::TestWithParam<DType> {
 protected:
  GeneratorFixture() { model_.set_weights(parameters_); }

  static GeneratorOptions options() {
    GeneratorOptions options;
    options.kv_blocks = 400;
    options.stop_ids = {3, 17, 40, 41, 77, 97, 99};
    return options;
  }

  /// Prompts of odd lengths that share beginnings within and across blocks, three samples each, and
  /// the prompt of 32 tokens, whose last block is full.
  std::vector<GenerateRequest> requests() const {
    const auto beginning = testing::random_tokens(23, config_.vocab_size, 1);
    std::vector<GenerateRequest> all;
    for (std::uint64_t p = 0; p < 9; ++p) {
      std::vector<TokenId> prompt(beginning.begin(), beginning.begin() + (p % 3 == 2 ? 7 : 23));
      const auto rest =
          testing::random_tokens(static_cast<std::int64_t>(1 + 3 * p), config_.vocab_size, 100 + p);
      prompt.insert(prompt.end(), rest.begin(), rest.end());
      if (p == 3) prompt.resize(32, 5);
      for (std::uint64_t sample = 0; sample < 3; ++sample) {
        GenerateRequest request;
        request.prompt = prompt;
        request.key = stream_key(7, Purpose::generate_draw, {p, sample});
        request.max_new_tokens = static_cast<std::int32_t>(5 + 4 * p % 19);
        request.law.temperature = 0.9f;
        request.law.vocab = 100;
        all.push_back(request);
      }
    }
    return all;
  }

  /// A completion drawn the plain way: the whole text is computed anew for every token.
  Completion plainly(const GenerateRequest& request, const GeneratorOptions& options) {
    Completion completion;
    std::vector<TokenId> text = request.prompt;
    KvCache cache(config_, device_, blocks_for(positions), GetParam());
    PackedSequences packed(device_);
    Buffer logits(device_, DType::f32, {1, config_.vocab_size});
    Buffer token(device_, DType::i32, {1}), logprob(device_, DType::f32, {1});
    for (std::int32_t i = 0; i < request.max_new_tokens; ++i) {
      const Tensor& hidden = model_.forward(packed.pack({text}), cache);
      model_.logits(logits.tensor(), hidden.rows(hidden.dim(0) - 1, hidden.dim(0)));
      Buffer key(device_, DType::i64, {1}), place(device_, DType::i32, {1});
      key.data<std::int64_t>()[0] = static_cast<std::int64_t>(request.key);
      place.data<std::int32_t>()[0] = i;
      ops::sample_tokens(token.tensor(), logprob.tensor(), logits.tensor(), key.tensor(),
                         place.tensor(), request.law);
      const TokenId drawn = token.data<std::int32_t>()[0];
      text.push_back(drawn);
      completion.tokens.push_back(drawn);
      completion.logprobs.push_back(logprob.data<float>()[0]);
      if (std::count(options.stop_ids.begin(), options.stop_ids.end(), drawn) == 0) continue;
      completion.finish = Finish::stop;
      break;
    }
    return completion;
  }

  std::vector<Completion> expected(const std::vector<GenerateRequest>& all) {
    std::vector<Completion> completions;
    for (const auto& request : all) completions.push_back(plainly(request, options()));
    return completions;
  }

  std::vector<Completion> generate(const GeneratorOptions& options,
                                   const std::vector<GenerateRequest>& all) {
    return Generator(model_, options).generate(all);
  }

  Qwen3Config config_ = testing::tiny_config();
  Device device_ = Device::cpu();
  Parameters parameters_ = testing::random_parameters(config_, device_, 11, {GetParam()});
  Qwen3 model_{
      config_, device_, {.use = Use::inference, .max_positions = positions, .dtype = GetParam()}};
};

inline bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](float x, float y) {
    return std::bit_cast<std::uint32_t>(x) == std::bit_cast<std::uint32_t>(y);
  });
}

inline void expect_same(const std::vector<Completion>& a, const std::vector<Completion>& b,
                        const std::string& what) {
  ASSERT_EQ(a.size(), b.size());
  for (std::size_t i = 0; i < a.size(); ++i) {
    EXPECT_EQ(a[i].tokens, b[i].tokens) << what << ", request " << i;
    EXPECT_TRUE(same_bits(a[i].logprobs, b[i].logprobs)) << what << ", request " << i;
    EXPECT_EQ(a[i].finish, b[i].finish) << what << ", request " << i;
  }
}

}  // namespace fst
