#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

#include "fst/base/random.h"
#include "fst/model/parameters.h"

/// Small random models for tests of any floor.
namespace fst::testing {

/// Odd sizes on purpose: no vector width divides them. 2 layers, 4 query heads on 2 KV heads.
inline Qwen3Config tiny_config(Family family = Family::qwen3, bool tied = true) {
  Qwen3Config config;
  config.family = family;
  config.vocab_size = 101;
  config.hidden_size = 36;
  config.intermediate_size = 52;
  config.num_hidden_layers = 2;
  config.num_attention_heads = 4;
  config.num_key_value_heads = 2;
  config.head_dim = 10;
  config.max_position_embeddings = 512;
  config.rms_norm_eps = 1e-6f;
  config.rope_theta = 10000.0;
  config.tie_word_embeddings = tied;
  config.eos_token_ids = {97, 99};
  return config;
}

/// Weights that make attention and logits far from uniform, with norms that are not one and biases
/// that are not zero; a function of `seed` alone.
inline Parameters random_parameters(const Qwen3Config& config, const Device& device,
                                    std::uint64_t seed) {
  Parameters parameters(config, device);
  Rng rng(seed, Purpose::initial_weights, {});
  for (const ParameterSpec& spec : parameters.specs()) {
    float* values = parameters.flat().data<float>() + spec.offset;
    const bool is_norm = spec.rank == 1 && spec.name.ends_with("norm.weight");
    const double scale = spec.rank == 1 ? 0.2 : 1.6 / std::sqrt(static_cast<double>(spec.cols));
    for (std::int64_t i = 0; i < spec.size(); ++i) {
      values[i] = static_cast<float>((is_norm ? 1.0 : 0.0) + scale * rng.normal());
    }
  }
  return parameters;
}

/// `count` tokens below `vocab`.
inline std::vector<TokenId> random_tokens(std::int64_t count, std::int64_t vocab,
                                          std::uint64_t seed) {
  Rng rng(seed, Purpose::problem_stream, {});
  std::vector<TokenId> tokens(static_cast<std::size_t>(count));
  for (TokenId& token : tokens) {
    token = static_cast<TokenId>(rng.below(static_cast<std::uint64_t>(vocab)));
  }
  return tokens;
}

}  // namespace fst::testing
