#include "fst/model/parameters.h"

#include <bit>
#include <cstring>

#include "fst/base/error.h"
#include "fst/base/random.h"
#include "fst/model/safetensors.h"

namespace fst {

namespace {

/// Builds the table in order; offsets follow.
class SpecTable {
 public:
  void matrix(std::string name, std::int64_t rows, std::int64_t cols) {
    add({std::move(name), rows, cols, 0, 2, true});
  }
  void vector(std::string name, std::int64_t size) { add({std::move(name), 1, size, 0, 1, false}); }
  std::vector<ParameterSpec> take() { return std::move(specs_); }

 private:
  void add(ParameterSpec spec) {
    spec.offset = offset_;
    offset_ += spec.size();
    specs_.push_back(std::move(spec));
  }
  std::vector<ParameterSpec> specs_;
  std::int64_t offset_ = 0;
};

std::string layer_prefix(std::int64_t layer) {
  return "model.layers." + std::to_string(layer) + ".";
}

void add_layer(SpecTable& table, const Qwen3Config& config, std::int64_t layer) {
  const std::string prefix = layer_prefix(layer);
  const std::string attention = prefix + "self_attn.";
  const std::int64_t hidden = config.hidden_size;
  table.vector(prefix + "input_layernorm.weight", hidden);
  table.matrix(attention + "q_proj.weight", config.q_size(), hidden);
  table.matrix(attention + "k_proj.weight", config.kv_size(), hidden);
  table.matrix(attention + "v_proj.weight", config.kv_size(), hidden);
  if (config.qkv_bias()) {
    table.vector(attention + "q_proj.bias", config.q_size());
    table.vector(attention + "k_proj.bias", config.kv_size());
    table.vector(attention + "v_proj.bias", config.kv_size());
  }
  if (config.qk_norm()) {
    table.vector(attention + "q_norm.weight", config.head_dim);
    table.vector(attention + "k_norm.weight", config.head_dim);
  }
  table.matrix(attention + "o_proj.weight", hidden, config.q_size());
  table.vector(prefix + "post_attention_layernorm.weight", hidden);
  table.matrix(prefix + "mlp.gate_proj.weight", config.intermediate_size, hidden);
  table.matrix(prefix + "mlp.up_proj.weight", config.intermediate_size, hidden);
  table.matrix(prefix + "mlp.down_proj.weight", hidden, config.intermediate_size);
}

/// Multiply-and-fold over 64-bit words; stable, fast, not cryptographic. Constants: the 64-bit
/// golden ratio and the finaliser of MurmurHash3 (public domain).
std::uint64_t mixed(std::uint64_t hash, std::uint64_t word) {
  hash = (hash ^ word) * 0x9e3779b97f4a7c15u;
  hash ^= hash >> 32;
  hash *= 0xff51afd7ed558ccdu;
  return hash ^ (hash >> 29);
}

std::uint64_t hash_values(std::uint64_t hash, const float* values, std::int64_t n) {
  for (std::int64_t i = 0; i + 1 < n; i += 2) {
    const std::uint64_t low = std::bit_cast<std::uint32_t>(values[i]);
    const std::uint64_t high = std::bit_cast<std::uint32_t>(values[i + 1]);
    hash = mixed(hash, low | high << 32);
  }
  return n % 2 == 0 ? hash : mixed(hash, std::bit_cast<std::uint32_t>(values[n - 1]));
}

std::string shape_text(std::span<const std::int64_t> shape) {
  std::string text = "[";
  for (std::size_t i = 0; i < shape.size(); ++i) {
    text += (i == 0 ? "" : ", ") + std::to_string(shape[i]);
  }
  return text + "]";
}

}  // namespace

std::vector<ParameterSpec> parameter_specs(const Qwen3Config& config) {
  SpecTable table;
  table.matrix("model.embed_tokens.weight", config.vocab_size, config.hidden_size);
  for (std::int64_t l = 0; l < config.num_hidden_layers; ++l) add_layer(table, config, l);
  table.vector("model.norm.weight", config.hidden_size);
  if (!config.tie_word_embeddings) {
    table.matrix("lm_head.weight", config.vocab_size, config.hidden_size);
  }
  return table.take();
}

Parameters::Parameters(const Qwen3Config& config, const Device& device)
    : config_(config),
      specs_(parameter_specs(config)),
      flat_(device, DType::f32, {config.parameter_count()}) {
  for (std::size_t i = 0; i < specs_.size(); ++i) index_[specs_[i].name] = i;
}

Tensor Parameters::at(const std::string& name) const {
  const auto found = index_.find(name);
  if (found == index_.end()) throw Error("there is no parameter " + name);
  return at(specs_[found->second]);
}

Tensor Parameters::at(const ParameterSpec& spec) const {
  const Tensor range = flat_.tensor().rows(spec.offset, spec.offset + spec.size());
  return spec.rank == 1 ? range : range.view({spec.rows, spec.cols});
}

LayerTensors Parameters::layer(std::int64_t index) const {
  const std::string prefix = layer_prefix(index);
  const std::string attention = prefix + "self_attn.";
  // q, k, v lie next to each other, as do gate and up: parameter_specs().
  const auto fused = [&](const std::string& first, std::int64_t rows) {
    const std::int64_t begin = specs_[index_.at(first)].offset;
    return flat_.tensor()
        .rows(begin, begin + rows * config_.hidden_size)
        .view({rows, config_.hidden_size});
  };
  LayerTensors layer;
  layer.input_norm = at(prefix + "input_layernorm.weight");
  layer.qkv = fused(attention + "q_proj.weight", config_.qkv_size());
  if (config_.qkv_bias()) {
    const std::int64_t begin = specs_[index_.at(attention + "q_proj.bias")].offset;
    layer.qkv_bias = flat_.tensor().rows(begin, begin + config_.qkv_size());
  }
  if (config_.qk_norm()) {
    layer.q_norm = at(attention + "q_norm.weight");
    layer.k_norm = at(attention + "k_norm.weight");
  }
  layer.o = at(attention + "o_proj.weight");
  layer.post_norm = at(prefix + "post_attention_layernorm.weight");
  layer.gate_up = fused(prefix + "mlp.gate_proj.weight", 2 * config_.intermediate_size);
  layer.down = at(prefix + "mlp.down_proj.weight");
  return layer;
}

Tensor Parameters::head() const {
  return config_.tie_word_embeddings ? embedding() : at("lm_head.weight");
}

std::uint64_t Parameters::identity() const {
  std::uint64_t hash = 0;
  for (const ParameterSpec& spec : specs_) {
    hash = mixed(hash, hash_text(spec.name));
    hash = mixed(hash, static_cast<std::uint64_t>(spec.rows));
    hash = mixed(hash, static_cast<std::uint64_t>(spec.cols));
    hash = hash_values(hash, flat_.data<float>() + spec.offset, spec.size());
  }
  return hash;
}

Parameters load_parameters(const std::filesystem::path& folder, const Qwen3Config& config,
                           const Device& device) {
  const SafetensorsReader reader(folder);
  Parameters parameters(config, device);
  for (const ParameterSpec& spec : parameters.specs()) {
    const StoredTensor* stored = reader.find(spec.name);
    if (stored == nullptr) {
      throw InputError(folder.string() + ": tensor \"" + spec.name + "\" is missing");
    }
    std::vector<std::int64_t> shape = {spec.cols};
    if (spec.rank == 2) shape = {spec.rows, spec.cols};
    if (stored->shape != shape) {
      throw InputError(stored->file + ": tensor \"" + spec.name + "\" has shape " +
                       shape_text(stored->shape) + "; config.json makes it " + shape_text(shape));
    }
    Tensor values = parameters.at(spec);
    read_values(values, *stored);
  }
  std::unordered_map<std::string, bool> known;
  for (const ParameterSpec& spec : parameters.specs()) known[spec.name] = true;
  if (config.tie_word_embeddings) known["lm_head.weight"] = true;
  for (const StoredTensor& stored : reader.tensors()) {
    if (!known.contains(stored.name)) {
      throw InputError(stored.file + ": tensor \"" + stored.name + "\" is not part of a " +
                       name_of(config.family) + " model of this config.json");
    }
  }
  return parameters;
}

void initialise(Parameters& parameters, std::uint64_t seed) {
  const double scale = parameters.config().initializer_range;
  for (const ParameterSpec& spec : parameters.specs()) {
    float* values = parameters.flat().data<float>() + spec.offset;
    const bool is_norm = spec.rank == 1 && spec.name.ends_with("norm.weight");
    Rng rng(seed, Purpose::initial_weights, {hash_text(spec.name)});
    for (std::int64_t i = 0; i < spec.size(); ++i) {
      if (spec.rank == 1) {
        values[i] = is_norm ? 1.0f : 0.0f;
      } else {
        values[i] = static_cast<float>(scale * rng.normal());
      }
    }
  }
}

}  // namespace fst
