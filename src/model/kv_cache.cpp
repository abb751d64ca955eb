#include "fst/model/kv_cache.h"

namespace fst {

namespace {

std::int64_t elements_per_layer_block(const Qwen3Config& config) {
  return 2 * config.kv_size() * ops::kv_block_tokens;
}

}  // namespace

KvCache::KvCache(const Qwen3Config& config, const Device& device, std::int64_t blocks, DType dtype)
    : config_(config), device_(device), dtype_(dtype) {
  layers_.resize(static_cast<std::size_t>(config.num_hidden_layers));
  reserve(blocks);
}

void KvCache::reserve(std::int64_t blocks) {
  if (blocks <= blocks_) return;
  for (Buffer& layer : layers_) {
    layer = Buffer();  // frees before it allocates
    layer =
        Buffer(device_, dtype_,
               {blocks, config_.num_key_value_heads, 2, ops::kv_block_tokens * config_.head_dim});
  }
  blocks_ = blocks;
}

void KvCache::copy_block(std::int64_t to, std::int64_t from) {
  for (Buffer& layer : layers_) {
    const Tensor source = layer.tensor().rows(from, from + 1);
    Tensor target = layer.tensor().rows(to, to + 1);
    ops::convert(target, source);
  }
}

void KvCache::zero_block(std::int64_t block) {
  for (Buffer& layer : layers_) {
    Tensor target = layer.tensor().rows(block, block + 1);
    ops::fill(target, 0.0f);
  }
}

std::int64_t KvCache::bytes_per_block(const Qwen3Config& config, DType dtype) {
  return config.num_hidden_layers * elements_per_layer_block(config) * size_of(dtype);
}

}  // namespace fst
