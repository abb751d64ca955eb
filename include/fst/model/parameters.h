#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "fst/base/range.h"
#include "fst/model/model_files.h"
#include "fst/model/qwen3_config.h"
#include "fst/model/shard.h"
#include "fst/tensor/tensor.h"

namespace fst {

/// One named parameter, or a shard's block of it, and its place in the flat vector.
struct ParameterSpec {
  std::string name;       // Hugging Face's
  std::int64_t rows = 1;  // 1 for vectors
  std::int64_t cols = 0;
  std::int64_t offset = 0;  // elements from the start of the (shard's) flat vector
  int rank = 2;             // 1: vector, 2: matrix
  bool decay = true;        // weight decay applies: matrices, not norms and biases
  bool replicated = false;  // every rank of a unit holds all of it: the norms
  // The whole parameter, and where this block begins in it.
  std::int64_t global_rows = 1, global_cols = 0;
  std::int64_t row_begin = 0, col_begin = 0;

  std::int64_t size() const { return rows * cols; }
  std::int64_t global_size() const { return global_rows * global_cols; }
};

/// The canonical order: embedding; per layer input norm, q, k, v (and their biases), q norm, k
/// norm, o, post-attention norm, gate, up, down; final norm; head unless tied. No padding, so q|k|v
/// and gate|up are one matrix each, a shard's blocks of them too. `config` is the whole model's.
std::vector<ParameterSpec> parameter_specs(const Qwen3Config& config, const Shard& shard = {});
/// Elements of a shard's flat vector.
std::int64_t parameter_count(const Qwen3Config& config, const Shard& shard);

/// The parameters of one layer, or their gradients; views. Empty where the family has none. Sizes
/// are the shard's (local_config()).
struct LayerTensors {
  Tensor input_norm;      // [D]
  Tensor qkv, qkv_bias;   // [(N + 2K) H, D], [(N + 2K) H]
  Tensor q_norm, k_norm;  // [H]; gradients: one row per head, [N, H] and [K, H]
  Tensor o;               // [D, N H]
  Tensor post_norm;       // [D]
  Tensor gate_up;         // [2F, D]
  Tensor down;            // [D, F]
};

/// How a rank holds weights. In f32 they are their own masters. In bf16 an optimizer moves float32
/// masters, of the part of the flat vector that is this rank's to move and of no other (ZeRO-1);
/// who moves nothing has none.
struct Holding {
  DType dtype = DType::f32;  // f32 or bf16
  Range masters{0, 0};       // elements of the flat vector
};

/// Weights of a model, or of a shard of it: one flat vector [n] in canonical order, f32 or bf16,
/// its table, and in bf16 float32 masters of a part of it.
class Parameters {
 public:
  /// All zero. Throws InputError if the degree does not divide the model.
  Parameters(const Qwen3Config& config, const Device& device, const Shard& shard = {},
             const Holding& holding = {});

  /// The whole model's.
  const Qwen3Config& config() const { return config_; }
  const Shard& shard() const { return shard_; }
  std::int64_t size() const { return flat_.tensor().size(); }
  DType dtype() const { return flat_.tensor().dtype(); }
  Tensor& flat() { return flat_.tensor(); }
  const Tensor& flat() const { return flat_.tensor(); }
  const std::vector<ParameterSpec>& specs() const { return specs_; }
  /// View of one parameter: [cols] or [rows, cols]. Throws Error for an unknown name.
  Tensor at(const std::string& name) const;
  Tensor at(const ParameterSpec& spec) const;
  LayerTensors layer(std::int64_t index) const { return layer(index, flat()); }
  Tensor embedding() const { return at("model.embed_tokens.weight"); }  // [V, D]
  Tensor final_norm() const { return at("model.norm.weight"); }         // [D]
  /// [V, D]: the embedding where the two are tied.
  Tensor head() const { return head(flat()); }
  /// The same views of another vector [n] in this order, of any dtype.
  Tensor at(const std::string& name, const Tensor& flat) const;
  LayerTensors layer(std::int64_t index, const Tensor& flat) const;
  Tensor head(const Tensor& flat) const;

  /// flat()[begin, begin + n) become these values, in bf16 rounded to nearest even; the masters
  /// among them become the values.
  void put(std::int64_t begin, std::span<const float> values);
  /// What an optimizer moves: the float32 masters of `part` of the flat vector, in f32 the weights
  /// themselves. Throws Error if this rank does not hold all of them.
  Tensor masters(Range part) const;
  /// After a change of masters(part): the weights are these again, in bf16 rounded to nearest even.
  void follow_masters(Range part);

 private:
  Qwen3Config config_, local_;
  Shard shard_;
  std::vector<ParameterSpec> specs_;
  std::unordered_map<std::string, std::size_t> index_;
  Range held_masters_;  // none in f32
  Buffer flat_, masters_;
};

/// Takes values [begin, begin + n) of a shard's flat vector as they are read: whole rows of
/// parameters, float32.
using ValueSink = std::function<void(std::int64_t begin, std::span<const float> values)>;
/// What a sink is given at a time, at most, unless one row is longer: 64 MiB of host memory.
inline constexpr std::int64_t read_elements = std::int64_t{1} << 24;
/// Cuts a shard's flat vector into pieces of whole rows, of at most `elements` elements or one row.
std::vector<Range> row_pieces(const std::vector<ParameterSpec>& specs, std::int64_t elements);

/// Reads the weights of a Hugging Face folder (f32, bf16 or f16, widened exactly), of a shard only
/// its blocks, in canonical order. A tied model may store lm_head.weight, which is ignored. Throws
/// InputError naming the tensor that is missing, unexpected, of another shape than config.json says
/// or not finite (in this shard).
void read_parameters(const std::filesystem::path& folder, const Qwen3Config& config,
                     const Shard& shard, const ValueSink& sink,
                     std::int64_t elements = read_elements);
/// The same, held.
Parameters load_parameters(const std::filesystem::path& folder, const Qwen3Config& config,
                           const Device& device, const Shard& shard = {},
                           const Holding& holding = {});

/// Fresh weights: matrices normal(0, initializer_range), norms one, biases zero; a function of
/// `seed`, the parameter's name and the element's place in the whole parameter.
void initialise(Parameters& parameters, std::uint64_t seed);

/// Writes a folder that transformers loads: config.json, model.safetensors stored as `storage` (f32
/// or bf16), and `files`, whose config.json keeps its fields but the storage type. Without any file
/// a generation_config.json is written that names the stop set. The weights come last, so a folder
/// with model.safetensors is complete. Throws Error if the config.json among `files` describes
/// another model, `parameters` are a shard, or the disk fails.
void write_model_folder(const std::filesystem::path& folder, const Parameters& parameters,
                        DType storage, const ModelFiles& files);
/// write_model_folder() with the files of `source`, a model folder, or none if it is empty. Throws
/// InputError if the two folders are the same.
void export_folder(const std::filesystem::path& folder, const Parameters& parameters, DType storage,
                   const std::filesystem::path& source);

}  // namespace fst
