#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "fst/base/types.h"
#include "fst/tensor/tensor.h"

namespace fst {

/// The decoders this engine runs; they differ only around q, k and v. qwen3: RMSNorm over each head
/// of q and k, no biases. qwen2: biases on q, k and v, no norm. llama: neither.
enum class Family { qwen3, qwen2, llama };
const char* name_of(Family family);

/// The fields of a Hugging Face config.json that decide the computation, by Hugging Face's names.
struct Qwen3Config {
  Family family = Family::qwen3;
  std::int64_t vocab_size = 0;
  std::int64_t hidden_size = 0;
  std::int64_t intermediate_size = 0;
  std::int64_t num_hidden_layers = 0;
  std::int64_t num_attention_heads = 0;
  std::int64_t num_key_value_heads = 0;
  std::int64_t head_dim = 0;
  std::int64_t max_position_embeddings = 0;
  float rms_norm_eps = 1e-6f;
  double rope_theta = 10000.0;
  double initializer_range = 0.02;
  bool tie_word_embeddings = false;
  /// Tokens that end a completion, ascending; may be empty. From generation_config.json where that
  /// names any, else from config.json.
  std::vector<TokenId> eos_token_ids;

  bool qk_norm() const { return family == Family::qwen3; }
  bool qkv_bias() const { return family == Family::qwen2; }
  std::int64_t q_size() const { return num_attention_heads * head_dim; }
  std::int64_t kv_size() const { return num_key_value_heads * head_dim; }
  std::int64_t qkv_size() const { return q_size() + 2 * kv_size(); }
  /// Number of parameters; a tied head is not counted twice.
  std::int64_t parameter_count() const;

  /// From the text of config.json; `where` names it in messages. Reads `rope_theta` at the top
  /// level or in `rope_parameters`. Throws InputError, naming the field, what it is and what is
  /// supported, for anything that this engine would compute differently: mixture of experts,
  /// sliding windows in use, rope scaling, quantised weights, biases elsewhere than above, other
  /// architectures and activations, and sizes that are missing or out of bounds.
  static Qwen3Config parse(const std::string& text, const std::string& where = "config.json");
  /// parse() of DIR/config.json, and the stop set of DIR/generation_config.json where that exists.
  static Qwen3Config load(const std::filesystem::path& folder);
  /// Replaces eos_token_ids by those of a generation_config.json, if it names any.
  void read_generation_config(const std::string& text, const std::string& where);
  /// A config.json that transformers reads back to the same model.
  std::string to_json(DType storage) const;

  bool operator==(const Qwen3Config&) const = default;
};

}  // namespace fst
