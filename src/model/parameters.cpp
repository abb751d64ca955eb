#include "fst/model/parameters.h"

#include <algorithm>
#include <vector>

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

/// The folder has these tensors, in these shapes, and no other.
void expect_tensors(const SafetensorsReader& reader, const std::filesystem::path& folder,
                    const Qwen3Config& config, const std::vector<ParameterSpec>& specs) {
  std::unordered_map<std::string, bool> known;
  for (const ParameterSpec& spec : specs) {
    known[spec.name] = true;
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
  }
  if (config.tie_word_embeddings) known["lm_head.weight"] = true;
  for (const StoredTensor& stored : reader.tensors()) {
    if (!known.contains(stored.name)) {
      throw InputError(stored.file + ": tensor \"" + stored.name + "\" is not part of a " +
                       name_of(config.family) + " model of this config.json");
    }
  }
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

Parameters::Parameters(const Qwen3Config& config, const Device& device, const Shard& shard,
                       const Holding& holding)
    : config_(config),
      local_(local_config(config, shard)),
      shard_(shard),
      specs_(parameter_specs(config, shard)),
      flat_(device, holding.dtype, {specs_.back().offset + specs_.back().size()}) {
  for (std::size_t i = 0; i < specs_.size(); ++i) index_[specs_[i].name] = i;
  if (holding.dtype == DType::f32 || holding.masters.size() == 0) return;
  held_masters_ = holding.masters;
  masters_ = Buffer(device, DType::f32, {held_masters_.size()});
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

void Parameters::put(std::int64_t begin, std::span<const float> values) {
  const std::int64_t end = begin + static_cast<std::int64_t>(values.size());
  Tensor weights = flat().rows(begin, end);
  copy_in_rounded(weights, values);
  const std::int64_t from = std::max(begin, held_masters_.begin);
  const std::int64_t to = std::min(end, held_masters_.end);
  if (from >= to) return;
  Tensor moved = masters({from, to});
  copy_in(moved, values.subspan(static_cast<std::size_t>(from - begin),
                                static_cast<std::size_t>(to - from)));
}

Tensor Parameters::masters(Range part) const {
  if (dtype() == DType::f32) return flat().rows(part.begin, part.end);
  if (part.begin < held_masters_.begin || part.end > held_masters_.end) {
    throw Error("this rank holds the masters of [" + std::to_string(held_masters_.begin) + ", " +
                std::to_string(held_masters_.end) + "), wanted are [" + std::to_string(part.begin) +
                ", " + std::to_string(part.end) + ")");
  }
  return masters_.tensor().rows(part.begin - held_masters_.begin, part.end - held_masters_.begin);
}

void Parameters::follow_masters(Range part) {
  if (dtype() == DType::f32) return;
  Tensor weights = flat().rows(part.begin, part.end);
  ops::convert(weights, masters(part));
}

std::vector<Range> row_pieces(const std::vector<ParameterSpec>& specs, std::int64_t elements) {
  std::vector<Range> pieces;
  for (const ParameterSpec& spec : specs) {
    for (std::int64_t row = 0; row < spec.rows; ++row) {
      const std::int64_t end = spec.offset + (row + 1) * spec.cols;
      const bool full = pieces.empty() || end - pieces.back().begin > elements;
      if (full) pieces.push_back({end - spec.cols, end});
      pieces.back().end = end;
    }
  }
  return pieces;
}

void read_parameters(const std::filesystem::path& folder, const Qwen3Config& config,
                     const Shard& shard, const ValueSink& sink, std::int64_t elements) {
  const SafetensorsReader reader(folder);
  const std::vector<ParameterSpec> specs = parameter_specs(config, shard);
  expect_tensors(reader, folder, config, specs);
  const Device host = Device::cpu(1);
  std::vector<float> values;
  for (const Range piece : row_pieces(specs, elements)) {
    values.resize(static_cast<std::size_t>(piece.size()));
    for (const ParameterSpec& spec : specs) {
      const std::int64_t begin = std::max(spec.offset, piece.begin);
      const std::int64_t end = std::min(spec.offset + spec.size(), piece.end);
      if (begin >= end) continue;
      Tensor rows(host, DType::f32, values.data() + (begin - piece.begin), {end - begin});
      const std::int64_t first = (begin - spec.offset) / spec.cols;
      if (spec.rank == 2) rows = rows.view({rows.size() / spec.cols, spec.cols});
      read_block(rows, *reader.find(spec.name), spec.row_begin + first, spec.col_begin);
    }
    sink(piece.begin, values);
  }
}

Parameters load_parameters(const std::filesystem::path& folder, const Qwen3Config& config,
                           const Device& device, const Shard& shard, const Holding& holding) {
  Parameters parameters(config, device, shard, holding);
  read_parameters(folder, config, shard, [&](std::int64_t begin, std::span<const float> values) {
    parameters.put(begin, values);
  });
  return parameters;
}

void initialise(Parameters& parameters, std::uint64_t seed) {
  const double scale = parameters.config().initializer_range;
  for (const ParameterSpec& spec : parameters.specs()) {
    std::vector<float> values;
    values.reserve(static_cast<std::size_t>(spec.size()));
    if (spec.rank == 1) {
      values.assign(static_cast<std::size_t>(spec.size()),
                    spec.name.ends_with("norm.weight") ? 1.0f : 0.0f);
      parameters.put(spec.offset, values);
      continue;
    }
    // A draw takes as many numbers as it needs, so a shard passes over the elements of the others.
    Rng rng(seed, Purpose::initial_weights, {hash_text(spec.name)});
    const std::int64_t row_end = spec.row_begin + spec.rows, col_end = spec.col_begin + spec.cols;
    for (std::int64_t r = 0; r < row_end; ++r) {
      for (std::int64_t c = 0; c < spec.global_cols; ++c) {
        const double value = scale * rng.normal();
        if (r < spec.row_begin || c < spec.col_begin || c >= col_end) continue;
        values.push_back(static_cast<float>(value));
      }
    }
    parameters.put(spec.offset, values);
  }
}

}  // namespace fst
