#pragma once

#include <cstring>
#include <numeric>
#include <vector>

#include <gtest/gtest.h>

#include "fst/model/qwen3.h"
#include "fst/model/token_head.h"

#include "support/tiny_model.h"

namespace fst::testing {

using Sequences = std::vector<std::vector<TokenId>>;

inline Sequences random_sequences(const std::vector<std::int64_t>& lengths, std::int64_t vocab,
                                  std::uint64_t seed) {
  Sequences sequences;
  for (const std::int64_t length : lengths) {
    sequences.push_back(random_tokens(length, vocab, seed + sequences.size()));
  }
  return sequences;
}

/// All elements of a tensor, f32 or bf16, whose rows may be strided, in order.
inline std::vector<float> values_of(const Tensor& tensor) {
  std::vector<float> values;
  const std::int64_t inner = tensor.dim(0) == 0 ? 0 : tensor.size() / tensor.dim(0);
  for (std::int64_t r = 0; r < tensor.dim(0); ++r) {
    for (std::int64_t i = r * tensor.row_stride(); i < r * tensor.row_stride() + inner; ++i) {
      values.push_back(tensor.dtype() == DType::f32
                           ? tensor.data<float>()[i]
                           : kernels::widened(tensor.data<kernels::Bf16>()[i]));
    }
  }
  return values;
}

inline std::int64_t differing_bits(const std::vector<float>& a, const std::vector<float>& b) {
  if (a.size() != b.size()) return -1;
  std::int64_t differing = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    differing += std::memcmp(&a[i], &b[i], sizeof(float)) != 0 ? 1 : 0;
  }
  return differing;
}

/// A model with what it needs to run whole sequences.
struct Runner {
  Runner(const Parameters& given, const Device& device, Use use = Use::training,
         std::int64_t max_positions = 2048, const TensorParallel* unit = nullptr)
      : parameters(given),
        model(given.config(), device,
              {.use = use, .max_positions = max_positions, .dtype = given.dtype(), .unit = unit}),
        cache(model.local_config(), device, 1, given.dtype()),
        packed(device),
        head(device) {
    model.set_weights(given);
  }

  const Tensor& forward(const Sequences& sequences, Activations* saved = nullptr) {
    packed.pack(sequences);
    cache.reserve(packed.blocks());
    return model.forward(packed.batch(), cache, saved);
  }
  std::vector<float> logits(const Sequences& sequences) {
    const Tensor& hidden = forward(sequences);
    Buffer out(model.device(), DType::f32, {hidden.dim(0), model.config().vocab_size});
    model.logits(out.tensor(), hidden);
    return values_of(out.tensor());
  }
  /// Adds the gradient of `loss` over the predictions of all tokens but each sequence's first.
  /// Without a loss: of the sum of 0.1 (t + 1) logprob_t over each sequence.
  void gradient(const Sequences& sequences, Gradients& gradients, const HeadOptions& options = {},
                const HeadReference& reference = {}, const HeadLoss& loss = nullptr,
                Keep keep = Keep::all) {
    Activations saved(keep);
    const Tensor& hidden = forward(sequences, &saved);
    std::vector<std::int32_t> rows;
    std::vector<TokenId> targets;
    std::vector<float> weights;
    std::vector<std::int32_t> first_entries;
    for (std::size_t s = 0; s < sequences.size(); ++s) {
      const auto first = static_cast<std::int32_t>(packed.first_row(static_cast<std::int64_t>(s)));
      first_entries.push_back(static_cast<std::int32_t>(rows.size()));
      for (std::size_t t = 0; t + 1 < sequences[s].size(); ++t) {
        rows.push_back(first + static_cast<std::int32_t>(t));
        targets.push_back(sequences[s][t + 1]);
        weights.push_back(0.1f * static_cast<float>(t + 1));
      }
    }
    first_entries.push_back(static_cast<std::int32_t>(rows.size()));
    const HeadLoss weighted = [&](const HeadChunk& chunk) {
      std::copy_n(weights.begin() + chunk.begin, chunk.end - chunk.begin, chunk.dlogprob.begin());
    };
    Buffer dhidden(model.device(), model.dtype(), {hidden.dim(0), hidden.dim(1)});
    head.backward(dhidden.tensor(), gradients, model, hidden, {rows, targets, first_entries},
                  options, reference, loss ? loss : weighted);
    model.backward(packed.batch(), cache, saved, dhidden.tensor(), gradients);
  }

  const Parameters& parameters;
  Qwen3 model;
  KvCache cache;
  PackedSequences packed;
  TokenHead head;
};

/// A sequence fed through a cache in pieces; blocks are given out in a scrambled order.
class Pieces {
 public:
  Pieces(const Parameters& parameters, std::int64_t length, const TensorParallel* unit = nullptr)
      : device_(parameters.flat().device()),
        model_(parameters.config(), device_,
               {.max_positions = 2048, .dtype = parameters.dtype(), .unit = unit}),
        cache_(model_.local_config(), device_, 2 * blocks_for(length) + 1, parameters.dtype()) {
    model_.set_weights(parameters);
    for (std::int64_t b = 0; b < blocks_for(length); ++b) {
      table_.push_back(static_cast<std::int32_t>(2 * (blocks_for(length) - b)));
    }
  }
  /// Feeds tokens [begin, end) and returns their hidden states.
  std::vector<float> feed(const std::vector<TokenId>& tokens, std::int64_t begin,
                          std::int64_t end) {
    std::vector<std::int32_t> piece(tokens.begin() + begin, tokens.begin() + end), positions;
    for (std::int64_t i = begin; i < end; ++i) positions.push_back(static_cast<std::int32_t>(i));
    std::vector<std::int32_t> cu_seqlens = {0, static_cast<std::int32_t>(end - begin)};
    std::vector<std::int32_t> context = {static_cast<std::int32_t>(begin)};
    const auto view = [this](std::vector<std::int32_t>& values) {
      return Tensor(device_, DType::i32, values.data(), {static_cast<std::int64_t>(values.size())});
    };
    const Tensor table(device_, DType::i32, table_.data(),
                       {1, static_cast<std::int64_t>(table_.size())});
    const TokenBatch batch{
        view(piece), view(positions), {view(cu_seqlens), view(context), table}, {}};
    return values_of(model_.forward(batch, cache_));
  }

 private:
  Device device_;
  Qwen3 model_;
  KvCache cache_;
  std::vector<std::int32_t> table_;
};

}  // namespace fst::testing
