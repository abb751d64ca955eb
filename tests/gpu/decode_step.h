#pragma once

#include <cstdint>

#include "fst/model/qwen3.h"
#include "fst/tensor/ops.h"
#include "fst/tensor/parcel.h"

namespace fst {

/// `sequences` sequences of one row each after `context` keys (which are zeros).
struct DecodeStep {
  Qwen3& model;
  KvCache cache;
  Parcel inputs;
  Download results;
  TokenBatch batch;
  Tensor keys, places, limits, drawn, logprob, endings;
  Buffer logits, stops;

  DecodeStep(Qwen3& decoder, std::int64_t sequences, std::int64_t context)
      : model(decoder),
        cache(decoder.local_config(), decoder.device(), sequences * blocks_for(context + 1),
              decoder.dtype()),
        inputs(decoder.device()),
        results(decoder.device()),
        stops(decoder.device(), DType::i32, {(decoder.config().vocab_size + 31) / 32}) {
    const std::int64_t width = blocks_for(context + 1);
    const auto tensors = inputs.shape<8>({{DType::i32, {sequences}},
                                          {DType::i32, {sequences}},
                                          {DType::i32, {sequences + 1}},
                                          {DType::i32, {sequences}},
                                          {DType::i32, {sequences, width}},
                                          {DType::i64, {sequences}},
                                          {DType::i32, {sequences}},
                                          {DType::i32, {sequences}}});
    batch = {tensors[0], tensors[1], {tensors[2], tensors[3], tensors[4], true, false}, {}};
    keys = tensors[5];
    places = tensors[6];
    limits = tensors[7];
    for (std::int64_t s = 0; s < sequences; ++s) {
      inputs.host<std::int32_t>(tensors[0])[s] = static_cast<std::int32_t>(s);
      inputs.host<std::int32_t>(tensors[1])[s] = static_cast<std::int32_t>(context);
      inputs.host<std::int32_t>(tensors[2])[s] = static_cast<std::int32_t>(s);
      inputs.host<std::int32_t>(tensors[3])[s] = static_cast<std::int32_t>(context);
      inputs.host<std::int64_t>(keys)[s] = s;
      inputs.host<std::int32_t>(places)[s] = 1;
      inputs.host<std::int32_t>(limits)[s] = 9;
    }
    inputs.host<std::int32_t>(tensors[2])[sequences] = static_cast<std::int32_t>(sequences);
    for (std::int64_t b = 0; b < sequences * width; ++b) {
      inputs.host<std::int32_t>(tensors[4])[b] = static_cast<std::int32_t>(b);
    }
    inputs.send();
    const auto made = results.shape<3>(
        {{DType::i32, {sequences}}, {DType::f32, {sequences}}, {DType::i32, {sequences}}});
    drawn = made[0];
    logprob = made[1];
    endings = made[2];
    logits.reserve(model.device(), DType::f32, {sequences, model.config().vocab_size});
  }

  void operator()() {
    ops::take_drawn(batch.tokens, drawn);
    const Tensor& hidden = model.forward(batch, cache);
    model.logits(logits.tensor(), hidden);
    ops::sample_tokens(drawn, logprob, logits.tensor(), keys, places,
                       {.temperature = 1.0f, .vocab = model.config().vocab_size});
    ops::test_endings(endings, drawn, stops.tensor(), places, limits);
  }
};

}  // namespace fst
