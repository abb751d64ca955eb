#pragma once

#include <string>

#include "fst/model/parameters.h"

#include "support/tiny_model.h"

namespace fst::testing {

/// A tiny random model with the tokenizer of the embedded world.
inline Qwen3Config tiny_world_config() {
  Qwen3Config config = tiny_config();
  config.vocab_size = 397;  // a few rows more than the tokenizer has tokens
  config.max_position_embeddings = 64;
  config.eos_token_ids = {387, 389};
  return config;
}

inline void make_tiny_folder(const std::filesystem::path& folder) {
  const Qwen3Config config = tiny_world_config();
  ModelFiles files = read_model_folder(std::filesystem::path(FST_SOURCE_DIR) / "input" / "tiny");
  files["config.json"] = config.to_json(DType::f32);
  files["generation_config.json"] = R"({"eos_token_id": [387, 389]})";
  write_model_folder(folder, random_parameters(config, Device::cpu(), 7), DType::f32, files);
}

}  // namespace fst::testing
