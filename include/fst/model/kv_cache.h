#pragma once

#include <cstdint>
#include <vector>

#include "fst/model/qwen3_config.h"
#include "fst/tensor/ops.h"

namespace fst {

/// Storage of keys and values: per layer [blocks, K, 2, 16 * H] of `dtype` (tensor/ops.h). Which
/// sequence uses which block is the caller's business. All blocks start zeroed. `config` has this
/// rank's heads (Qwen3::local_config()).
class KvCache {
 public:
  KvCache(const Qwen3Config& config, const Device& device, std::int64_t blocks,
          DType dtype = DType::f32);

  const Device& device() const { return device_; }
  std::int64_t blocks() const { return blocks_; }
  std::int64_t layers() const { return static_cast<std::int64_t>(layers_.size()); }
  Tensor& layer(std::int64_t index) { return layers_[static_cast<std::size_t>(index)].tensor(); }
  const Tensor& layer(std::int64_t index) const {
    return layers_[static_cast<std::size_t>(index)].tensor();
  }
  /// Copies one block in every layer; for copy-on-write.
  void copy_block(std::int64_t to, std::int64_t from);
  /// Zeroes one block in every layer: needed before a block is used again only if keys beyond the
  /// sequence's end could be read.
  void zero_block(std::int64_t block);
  /// Grows (never shrinks) to `blocks`; contents become zero if it had to grow.
  void reserve(std::int64_t blocks);

  std::int64_t bytes() const { return blocks_ * bytes_per_block(config_, dtype_); }
  /// Over all layers.
  static std::int64_t bytes_per_block(const Qwen3Config& config, DType dtype);

 private:
  Qwen3Config config_;
  Device device_;
  DType dtype_;
  std::int64_t blocks_ = 0;
  std::vector<Buffer> layers_;
};

/// Blocks that hold `tokens` tokens of one sequence.
constexpr std::int64_t blocks_for(std::int64_t tokens) {
  return (tokens + ops::kv_block_tokens - 1) / ops::kv_block_tokens;
}

}  // namespace fst
