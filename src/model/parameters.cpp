#include "fst/model/parameters.h"

#include <bit>
#include <cstring>

#include "fst/base/error.h"
#include "fst/base/random.h"
#include "fst/model/safetensors.h"
#include "fst/tensor/host_view.h"
#include "fst/tensor/ops.h"

namespace fst {

namespace {

/// Which dimension of a parameter the ranks of a unit share.
enum class Shared { nothing, rows, columns };

/// Builds the table in order; offsets follow.
class SpecTable {
 public:
  explicit SpecTable(const Shard& shard) : shard_(shard) {}
  void matrix(std::string name, std::int64_t rows, std::int64_t cols, Shared shared) {
    ParameterSpec spec;
    spec.name = std::move(name);
    spec.global_rows = rows;
    spec.global_cols = cols;
    add(std::move(spec), shared);
  }
  void vector(std::string name, std::int64_t size, Shared shared) {
    ParameterSpec spec;
    spec.name = std::move(name);
    spec.rank = 1;
    spec.decay = false;
    spec.global_cols = size;
    add(std::move(spec), shared);
  }
  std::vector<ParameterSpec> take() { return std::move(specs_); }

 private:
  void add(ParameterSpec spec, Shared shared) {
    const Range rows = part(spec.global_rows, shared == Shared::rows);
    const Range cols = part(spec.global_cols, shared == Shared::columns);
    spec.rows = rows.size();
    spec.cols = cols.size();
    spec.row_begin = rows.begin;
    spec.col_begin = cols.begin;
    spec.replicated = shared == Shared::nothing;
    spec.offset = offset_;
    offset_ += spec.size();
    specs_.push_back(std::move(spec));
  }
  Range part(std::int64_t n, bool shared) const {
    return shared ? part_of(n, shard_.degree, shard_.rank) : Range{0, n};
  }
  Shard shard_;
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
  table.vector(prefix + "input_layernorm.weight", hidden, Shared::nothing);
  table.matrix(attention + "q_proj.weight", config.q_size(), hidden, Shared::rows);
  table.matrix(attention + "k_proj.weight", config.kv_size(), hidden, Shared::rows);
  table.matrix(attention + "v_proj.weight", config.kv_size(), hidden, Shared::rows);
  if (config.qkv_bias()) {
    table.vector(attention + "q_proj.bias", config.q_size(), Shared::columns);
    table.vector(attention + "k_proj.bias", config.kv_size(), Shared::columns);
    table.vector(attention + "v_proj.bias", config.kv_size(), Shared::columns);
  }
  if (config.qk_norm()) {
    table.vector(attention + "q_norm.weight", config.head_dim, Shared::nothing);
    table.vector(attention + "k_norm.weight", config.head_dim, Shared::nothing);
  }
  table.matrix(attention + "o_proj.weight", hidden, config.q_size(), Shared::columns);
  table.vector(prefix + "post_attention_layernorm.weight", hidden, Shared::nothing);
  table.matrix(prefix + "mlp.gate_proj.weight", config.intermediate_size, hidden, Shared::rows);
  table.matrix(prefix + "mlp.up_proj.weight", config.intermediate_size, hidden, Shared::rows);
  table.matrix(prefix + "mlp.down_proj.weight", hidden, config.intermediate_size, Shared::columns);
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

/// The hash of a block is a sum over its rows and, of each row, the eighths of the whole
/// parameter's columns: a shard owns whole ones.
std::uint64_t hash_block(const ParameterSpec& spec, const float* values) {
  constexpr std::int64_t eighths = 8;
  const std::uint64_t name = hash_text(spec.name);
  std::uint64_t total = 0;
  for (std::int64_t r = 0; r < spec.rows; ++r) {
    const std::uint64_t row = mixed(name, static_cast<std::uint64_t>(spec.row_begin + r));
    for (std::int64_t i = 0; i < eighths; ++i) {
      const Range columns = part_of(spec.global_cols, eighths, i);
      const std::int64_t begin = columns.begin - spec.col_begin;
      if (columns.size() == 0 || begin < 0 || begin >= spec.cols) continue;
      total += hash_values(mixed(row, static_cast<std::uint64_t>(i)),
                           values + r * spec.cols + begin, columns.size());
    }
  }
  return total;
}

Tensor view_of(const ParameterSpec& spec, const Tensor& flat) {
  const Tensor range = flat.rows(spec.offset, spec.offset + spec.size());
  return spec.rank == 1 ? range : range.view({spec.rows, spec.cols});
}

std::string shape_text(std::span<const std::int64_t> shape) {
  std::string text = "[";
  for (std::size_t i = 0; i < shape.size(); ++i) {
    text += (i == 0 ? "" : ", ") + std::to_string(shape[i]);
  }
  return text + "]";
}

}  // namespace

std::vector<ParameterSpec> parameter_specs(const Qwen3Config& config, const Shard& shard) {
  expect_shardable(config, shard.degree);
  SpecTable table(shard);
  const std::int64_t vocab = config.vocab_size, hidden = config.hidden_size;
  table.matrix("model.embed_tokens.weight", vocab, hidden, Shared::rows);
  for (std::int64_t l = 0; l < config.num_hidden_layers; ++l) add_layer(table, config, l);
  table.vector("model.norm.weight", hidden, Shared::nothing);
  if (!config.tie_word_embeddings) {
    table.matrix("lm_head.weight", vocab, hidden, Shared::rows);
  }
  return table.take();
}

std::int64_t parameter_count(const Qwen3Config& config, const Shard& shard) {
  const ParameterSpec last = parameter_specs(config, shard).back();
  return last.offset + last.size();
}

Parameters::Parameters(const Qwen3Config& config, const Device& device, const Shard& shard)
    : config_(config),
      local_(local_config(config, shard)),
      shard_(shard),
      specs_(parameter_specs(config, shard)),
      flat_(device, DType::f32, {specs_.back().offset + specs_.back().size()}) {
  for (std::size_t i = 0; i < specs_.size(); ++i) index_[specs_[i].name] = i;
}

Tensor Parameters::at(const std::string& name) const {
  return at(name, flat());
}

Tensor Parameters::at(const ParameterSpec& spec) const {
  return view_of(spec, flat());
}

Tensor Parameters::at(const std::string& name, const Tensor& flat) const {
  const auto found = index_.find(name);
  if (found == index_.end()) throw Error("there is no parameter " + name);
  return view_of(specs_[found->second], flat);
}

LayerTensors Parameters::layer(std::int64_t index, const Tensor& flat) const {
  const std::string prefix = layer_prefix(index);
  const std::string attention = prefix + "self_attn.";
  // q, k, v lie next to each other, as do gate and up: parameter_specs().
  const auto fused = [&](const std::string& first, std::int64_t rows) {
    const std::int64_t begin = specs_[index_.at(first)].offset;
    return flat.rows(begin, begin + rows * config_.hidden_size).view({rows, config_.hidden_size});
  };
  const auto at = [&](const std::string& name) { return this->at(name, flat); };
  LayerTensors layer;
  layer.input_norm = at(prefix + "input_layernorm.weight");
  layer.qkv = fused(attention + "q_proj.weight", local_.qkv_size());
  if (config_.qkv_bias()) {
    const std::int64_t begin = specs_[index_.at(attention + "q_proj.bias")].offset;
    layer.qkv_bias = flat.rows(begin, begin + local_.qkv_size());
  }
  if (config_.qk_norm()) {
    layer.q_norm = at(attention + "q_norm.weight");
    layer.k_norm = at(attention + "k_norm.weight");
  }
  layer.o = at(attention + "o_proj.weight");
  layer.post_norm = at(prefix + "post_attention_layernorm.weight");
  layer.gate_up = fused(prefix + "mlp.gate_proj.weight", 2 * local_.intermediate_size);
  layer.down = at(prefix + "mlp.down_proj.weight");
  return layer;
}

Tensor Parameters::head(const Tensor& flat) const {
  return at(config_.tie_word_embeddings ? "model.embed_tokens.weight" : "lm_head.weight", flat);
}

std::uint64_t Parameters::identity_share() const {
  std::uint64_t total = 0;
  for (const ParameterSpec& spec : specs_) {
    if (shard_.rank == 0) {
      const std::uint64_t rows =
          mixed(hash_text(spec.name), static_cast<std::uint64_t>(spec.global_rows));
      total += mixed(rows, static_cast<std::uint64_t>(spec.global_cols));
    }
    if (spec.replicated && shard_.rank != 0) continue;
    const HostView<const float> values(flat().rows(spec.offset, spec.offset + spec.size()));
    total += hash_block(spec, values.data());
  }
  return total;
}

std::uint64_t Parameters::identity(const TensorParallel* unit) const {
  if (shard_of(unit) != shard_) throw Error("identity: parameters of another unit");
  const std::uint64_t share = identity_share();
  if (shard_.degree == 1) return share;
  const Device& device = flat_.tensor().device();
  Buffer mine(device, DType::i64, {1}), all(device, DType::i64, {shard_.degree});
  const auto share_word = static_cast<std::int64_t>(share);
  copy_in(mine.tensor(), std::span(&share_word, 1));
  unit->gather(all.tensor(), mine.tensor(), "identity of a model");
  std::uint64_t total = 0;
  const HostView<const std::int64_t> shares(all.tensor());
  for (const std::int64_t value : shares.span()) {
    total += static_cast<std::uint64_t>(value);
  }
  return total;
}

Parameters load_parameters(const std::filesystem::path& folder, const Qwen3Config& config,
                           const Device& device, const Shard& shard) {
  const SafetensorsReader reader(folder);
  Parameters parameters(config, device, shard);
  for (const ParameterSpec& spec : parameters.specs()) {
    const StoredTensor* stored = reader.find(spec.name);
    if (stored == nullptr) {
      throw InputError(folder.string() + ": tensor \"" + spec.name + "\" is missing");
    }
    std::vector<std::int64_t> shape = {spec.global_cols};
    if (spec.rank == 2) shape = {spec.global_rows, spec.global_cols};
    if (stored->shape != shape) {
      throw InputError(stored->file + ": tensor \"" + spec.name + "\" has shape " +
                       shape_text(stored->shape) + "; config.json makes it " + shape_text(shape));
    }
    Tensor values = parameters.at(spec);
    read_block(values, *stored, spec.row_begin, spec.col_begin);
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
    Tensor block = parameters.flat().rows(spec.offset, spec.offset + spec.size());
    if (spec.rank == 1) {
      ops::fill(block, spec.name.ends_with("norm.weight") ? 1.0f : 0.0f);
      continue;
    }
    // A draw takes as many numbers as it needs, so a shard passes over the elements of the others.
    Rng rng(seed, Purpose::initial_weights, {hash_text(spec.name)});
    const std::int64_t row_end = spec.row_begin + spec.rows, col_end = spec.col_begin + spec.cols;
    HostView<float> values(block, Contents::undefined);
    float* next = values.data();
    for (std::int64_t r = 0; r < row_end; ++r) {
      for (std::int64_t c = 0; c < spec.global_cols; ++c) {
        const double value = scale * rng.normal();
        if (r < spec.row_begin || c < spec.col_begin || c >= col_end) continue;
        *next++ = static_cast<float>(value);
      }
    }
    values.store();
  }
}

}  // namespace fst
