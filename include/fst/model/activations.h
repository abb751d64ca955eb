#pragma once

#include <cstdint>
#include <vector>

#include "fst/model/qwen3_config.h"
#include "fst/tensor/tensor.h"

namespace fst {

/// What backward needs of one layer; T rows, of the model's dtype, but rstd and lse f32. Outputs of
/// norms and of the MLP's activation are computed again: row-local, cheap, and the same bits.
struct LayerActivations {
  Buffer input, input_rstd;    // [T, D], [T]: residual stream before the layer
  Buffer qkv;                  // [T, (N + 2K) H]: before norm and rotary embedding
  Buffer q_rstd, k_rstd;       // [T, N], [T, K]
  Buffer q;                    // [T, N H]: after them
  Buffer attention, lse;       // [T, N H], [T, N]
  Buffer middle, middle_rstd;  // [T, D], [T]: residual stream between the blocks
  Buffer gate_up;              // [T, 2F]
};

/// What a forward call keeps for backward: all that it needs, or the input of every layer, from
/// which it computes a layer again, with the same bits.
enum class Keep : std::uint8_t { all, inputs };

/// What backward needs of one forward call. Keys and values stay in the KvCache. Reusable; grows
/// (never shrinks) to the largest batch.
class Activations {
 public:
  explicit Activations(Keep keep = Keep::all) : keep_(keep) {}
  void reserve(const Qwen3Config& config, const Device& device, std::int64_t tokens, DType dtype);

  std::int64_t tokens() const { return last.tensor().dim(0); }
  Keep keep() const { return keep_; }
  /// The memory of a token; with Keep::inputs the model needs that of one layer beside it.
  static std::int64_t bytes_per_token(const Qwen3Config& config, DType dtype, Keep keep);

  std::vector<LayerActivations> layers;  // Keep::inputs: only `input`
  Buffer last, last_rstd;                // [T, D], [T]: residual stream before the final norm

 private:
  Keep keep_;
};

/// The buffers of a layer that forward writes whether they are kept or not.
void reserve_layer(LayerActivations& layer, const Qwen3Config& config, const Device& device,
                   std::int64_t tokens, DType dtype);

}  // namespace fst
