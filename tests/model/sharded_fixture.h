#pragma once

#include <vector>

#include "model/model_fixture.h"

namespace fst::testing {

/// A model that 8 ranks can share, its sizes as odd as that allows: 8 KV heads, 13 MLP columns and
/// 15 vocabulary rows per rank.
inline Qwen3Config shared_config(Family family = Family::qwen3, bool tied = true) {
  Qwen3Config config = tiny_config(family, tied);
  config.vocab_size = 8 * 15;
  config.intermediate_size = 8 * 13;
  config.num_attention_heads = 16;
  config.num_key_value_heads = 8;
  config.head_dim = 6;
  return config;
}

/// One that at most 4 can share and whose eighths are not whole: 4 heads of 10, 52 MLP columns, 108
/// vocabulary rows.
inline Qwen3Config odd_shared_config() {
  Qwen3Config config = tiny_config(Family::qwen3, false);
  config.vocab_size = 108;
  config.num_key_value_heads = 4;
  return config;
}

/// Copies between a parameter's block and its place in the whole flat vector.
template <class Copy>
void for_elements(const ParameterSpec& block, const ParameterSpec& whole, Copy copy) {
  for (std::int64_t r = 0; r < block.rows; ++r) {
    for (std::int64_t c = 0; c < block.cols; ++c) {
      copy(block.offset + r * block.cols + c,
           whole.offset + (block.row_begin + r) * whole.cols + block.col_begin + c);
    }
  }
}

/// One rank's share of `whole`.
inline Parameters shard_of_parameters(const Parameters& whole, const Shard& shard) {
  Parameters mine(whole.config(), whole.flat().device(), shard, {whole.dtype()});
  const HostFloats all(whole.flat());
  std::vector<float> values(static_cast<std::size_t>(mine.size()));
  for (std::size_t i = 0; i < whole.specs().size(); ++i) {
    for_elements(mine.specs()[i], whole.specs()[i], [&](std::int64_t to, std::int64_t from) {
      values[static_cast<std::size_t>(to)] = all.span()[static_cast<std::size_t>(from)];
    });
  }
  mine.put(0, values);
  return mine;
}

/// Everything that a model computes for one set of sequences.
struct Outcome {
  std::vector<float> hidden, logits, logprob, entropy, kl;
  std::vector<float> gradient;  // this rank's, in the order of `specs`
  std::vector<ParameterSpec> specs;
};

/// Differing bits of all but the gradient.
inline std::int64_t differing_scores(const Outcome& a, const Outcome& b) {
  return differing_bits(a.hidden, b.hidden) + differing_bits(a.logits, b.logits) +
         differing_bits(a.logprob, b.logprob) + differing_bits(a.entropy, b.entropy) +
         differing_bits(a.kl, b.kl);
}

/// Differing bits between a rank's gradient and its place in that of the whole model.
inline std::int64_t differing_gradients(const Outcome& part, const Outcome& whole) {
  std::int64_t differing = 0;
  for (std::size_t i = 0; i < whole.specs.size(); ++i) {
    for_elements(part.specs[i], whole.specs[i], [&](std::int64_t mine, std::int64_t from) {
      differing += std::memcmp(&part.gradient[static_cast<std::size_t>(mine)],
                               &whole.gradient[static_cast<std::size_t>(from)], sizeof(float)) != 0;
    });
  }
  return differing;
}

/// Forward, scores and gradients of every kind, on one rank of `unit` or, without one, alone. The
/// law ends in the last leaf of the vocabulary, chunks of the head are odd, and the leaf's gradient
/// is continued over two calls.
inline Outcome outcome_of(const Parameters& whole, const Parameters& whole_base,
                          const Sequences& sequences, const TensorParallel* unit) {
  const Device& device = whole.flat().device();
  const Parameters mine = shard_of_parameters(whole, shard_of(unit));
  const Parameters base = shard_of_parameters(whole_base, shard_of(unit));
  Runner runner(mine, device, Use::training, 2048, unit);
  Runner reference(base, device, Use::inference, 2048, unit);
  Outcome outcome;
  outcome.hidden = values_of(runner.forward(sequences));
  outcome.logits = runner.logits(sequences);

  HeadOptions options;
  options.law = {0.8f, whole.config().vocab_size - 3};
  options.chunk_rows = 5;
  options.entropy = true;
  const HeadReference kl_to{&reference.model, reference.forward(sequences)};
  const HeadLoss loss = [](const HeadChunk& chunk) {
    for (std::size_t i = 0; i < chunk.dlogprob.size(); ++i) {
      const auto place = static_cast<float>(chunk.begin + static_cast<std::int64_t>(i));
      chunk.dlogprob[i] = 0.1f * (place + 1.0f) * chunk.logprob[i];
      chunk.dentropy[i] = -0.2f * chunk.entropy[i];
      chunk.dkl[i] = 0.3f * chunk.kl[i];
    }
  };
  Gradients gradients(whole.config(), device, unit);
  gradients.zero();
  for (int call = 0; call < 2; ++call) {
    runner.gradient(sequences, gradients, options, kl_to, loss);
  }
  outcome.logprob = runner.head.scores().logprob;
  outcome.entropy = runner.head.scores().entropy;
  outcome.kl = runner.head.scores().kl;
  outcome.gradient = values_of(gradients.finish());
  outcome.specs = gradients.specs();
  return outcome;
}

}  // namespace fst::testing
