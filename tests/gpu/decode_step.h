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
  Parcel inputs, outputs;
  TokenBatch batch;
  Tensor keys, places, drawn, logprob;
  Buffer logits;

  DecodeStep(Qwen3& decoder, std::int64_t sequences, std::int64_t context)
      : model(decoder),
        cache(decoder.local_config(), decoder.device(), sequences * blocks_for(context + 1),
              decoder.dtype()),
        inputs(decoder.device()),
        outputs(decoder.device()) {
    const std::int64_t width = blocks_for(context + 1);
    const auto tensors = inputs.shape<7>({{DType::i32, {sequences}},
                                          {DType::i32, {sequences}},
                                          {DType::i32, {sequences + 1}},
                                          {DType::i32, {sequences}},
                                          {DType::i32, {sequences, width}},
                                          {DType::i64, {sequences}},
                                          {DType::i32, {sequences}}});
    batch = {tensors[0], tensors[1], {tensors[2], tensors[3], tensors[4], true, false}, {}};
    keys = tensors[5];
    places = tensors[6];
    for (std::int64_t s = 0; s < sequences; ++s) {
      inputs.host<std::int32_t>(tensors[0])[s] = static_cast<std::int32_t>(s);
      inputs.host<std::int32_t>(tensors[1])[s] = static_cast<std::int32_t>(context);
      inputs.host<std::int32_t>(tensors[2])[s] = static_cast<std::int32_t>(s);
      inputs.host<std::int32_t>(tensors[3])[s] = static_cast<std::int32_t>(context);
      inputs.host<std::int64_t>(keys)[s] = s;
      inputs.host<std::int32_t>(places)[s] = 1;
    }
    inputs.host<std::int32_t>(tensors[2])[sequences] = static_cast<std::int32_t>(sequences);
    for (std::int64_t b = 0; b < sequences * width; ++b) {
      inputs.host<std::int32_t>(tensors[4])[b] = static_cast<std::int32_t>(b);
    }
    inputs.send();
    const auto results = outputs.shape<2>({{DType::i32, {sequences}}, {DType::f32, {sequences}}});
    drawn = results[0];
    logprob = results[1];
    logits.reserve(model.device(), DType::f32, {sequences, model.config().vocab_size});
  }

  void operator()() {
    const Tensor& hidden = model.forward(batch, cache);
    model.logits(logits.tensor(), hidden);
    ops::sample_tokens(drawn, logprob, logits.tensor(), keys, places,
                       {.temperature = 1.0f, .vocab = model.config().vocab_size});
  }
};

}  // namespace fst
