#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

#include "fst/base/random.h"
#include "fst/model/identity.h"
#include "fst/model/parameters.h"
#include "fst/tensor/host_view.h"

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
/// that are not zero; a function of `seed` alone, then held so.
inline Parameters random_parameters(const Qwen3Config& config, const Device& device,
                                    std::uint64_t seed, const Holding& holding = {}) {
  Parameters parameters(config, device, {}, holding);
  Rng rng(seed, Purpose::initial_weights, {});
  for (const ParameterSpec& spec : parameters.specs()) {
    std::vector<float> values;
    const bool is_norm = spec.rank == 1 && spec.name.ends_with("norm.weight");
    const double scale = spec.rank == 1 ? 0.2 : 1.6 / std::sqrt(static_cast<double>(spec.cols));
    for (std::int64_t i = 0; i < spec.size(); ++i) {
      values.push_back(static_cast<float>((is_norm ? 1.0 : 0.0) + scale * rng.normal()));
    }
    parameters.put(spec.offset, values);
  }
  return parameters;
}

/// A copy of the weights, held so.
inline Parameters held(const Parameters& given, const Holding& holding, const Device& device) {
  Parameters copy(given.config(), device, given.shard(), holding);
  const HostFloats values(given.flat());
  copy.put(0, values.span());
  return copy;
}
inline Parameters held(const Parameters& given, const Holding& holding) {
  return held(given, holding, given.flat().device());
}

inline ModelIdentity identity_of_shard(const Parameters& parameters) {
  ModelIdentity identity(parameters.config(), parameters.shard());
  const HostFloats values(parameters.flat());
  identity.add(0, values.span());
  return identity;
}
inline std::uint64_t identity_of(const Parameters& parameters,
                                 const TensorParallel* unit = nullptr) {
  return identity_of_shard(parameters).of(unit, parameters.flat().device());
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
