#pragma once

#include <cstdint>

#include "fst/model/activations.h"

namespace fst {

/// What a model works on; T rows, of its dtype, but rstd f32. Nothing of it outlives a call but
/// `hidden`, the result of forward. Buffers grow (never shrink).
struct ModelScratch {
  LayerActivations layer;  // what nobody saves, or saved inputs have become again
  Buffer residual, normed, k, mlp, hidden, last_rstd;
  Buffer dresidual, dnormed, dqkv, dq, dk, dattention, dgate_up, dmlp, rstd, k_rstd;
  Buffer partial;                      // f32 [T, D]: this rank's part of a row-parallel product
  Buffer whole;                        // f32 sums of several ranks, before they are rounded
  Buffer local_logits, joined_logits;  // [R, V / ranks]; those of all ranks one after the other

  /// `local`: this rank's sizes (Qwen3::local_config()); `ranks` that share the model. With `keep`
  /// all a layer's activations lie elsewhere, else here one layer's.
  void reserve_forward(const Qwen3Config& local, const Device& device, std::int64_t tokens,
                       DType dtype, std::int64_t ranks, Keep keep);
  void reserve_backward(const Qwen3Config& local, const Device& device, std::int64_t tokens,
                        DType dtype, std::int64_t ranks, Keep keep);
  /// Logits [rows, vocab], of which this rank computes `columns`; nothing where it computes all.
  void reserve_logits(const Device& device, std::int64_t rows, std::int64_t columns,
                      std::int64_t ranks);
};

}  // namespace fst
