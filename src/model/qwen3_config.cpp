#include "fst/model/qwen3_config.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <initializer_list>
#include <optional>
#include <sstream>

#include "fst/base/error.h"

#include "nlohmann/json.hpp"

namespace fst {

namespace {

using nlohmann::json;

// Far beyond any published dense model; they keep products of sizes within 64 bits.
constexpr std::int64_t max_width = 1 << 20;
constexpr std::int64_t max_layers = 1024;
constexpr std::int64_t max_heads = 1024;
constexpr std::int64_t max_head_dim = 1024;
constexpr std::int64_t max_vocab = 1 << 24;
constexpr std::int64_t max_parameters = std::int64_t{1} << 40;
constexpr std::int64_t max_positions = std::int64_t{1} << 30;
constexpr std::int64_t qwen3_default_head_dim = 128;  // transformers, Qwen3Config
constexpr double default_rope_theta = 10000.0;        // transformers, all three families
constexpr double default_rms_norm_eps = 1e-6;

std::string shortened(const json& value) {
  std::string text = value.dump(-1, ' ', true, json::error_handler_t::replace);
  constexpr std::size_t limit = 80;
  return text.size() <= limit ? text : text.substr(0, limit) + "...";
}

/// The fields of one JSON object, with refusals that name file, field, value and what is expected.
class Fields {
 public:
  Fields(const json& object, std::string where) : object_(object), where_(std::move(where)) {}

  const std::string& where() const { return where_; }
  /// nullptr where the field is missing or null.
  const json* find(const char* name) const {
    const auto found = object_.find(name);
    return found == object_.end() || found->is_null() ? nullptr : &*found;
  }
  [[noreturn]] void refuse(const std::string& name, const json& value,
                           const std::string& expected) const {
    throw InputError(where_ + ": " + name + " is " + shortened(value) + "; expected " + expected);
  }
  std::int64_t integer(const char* name, std::int64_t low, std::int64_t high,
                       std::optional<std::int64_t> missing = std::nullopt) const {
    const std::string range =
        "an integer from " + std::to_string(low) + " to " + std::to_string(high);
    const json* value = find(name);
    if (value == nullptr) {
      if (missing) return *missing;
      throw InputError(where_ + ": " + name + " is missing; expected " + range);
    }
    if (!value->is_number_integer()) refuse(name, *value, range);
    const bool huge = value->is_number_unsigned() &&
                      value->get<std::uint64_t>() > static_cast<std::uint64_t>(high);
    if (huge || value->get<std::int64_t>() < low || value->get<std::int64_t>() > high) {
      refuse(name, *value, range);
    }
    return value->get<std::int64_t>();
  }
  double number(const char* name, double low, double high, double missing) const {
    const json* value = find(name);
    if (value == nullptr) return missing;
    std::ostringstream range;
    range << "a number from " << low << " to " << high;
    if (!value->is_number()) refuse(name, *value, range.str());
    const double x = value->get<double>();
    if (!(x >= low && x <= high)) refuse(name, *value, range.str());
    return x;
  }
  bool flag(const char* name, bool missing) const {
    const json* value = find(name);
    if (value == nullptr) return missing;
    if (!value->is_boolean()) refuse(name, *value, "true or false");
    return value->get<bool>();
  }
  std::string text(const char* name, const std::string& missing) const {
    const json* value = find(name);
    if (value == nullptr) return missing;
    if (!value->is_string()) refuse(name, *value, "a text");
    return value->get<std::string>();
  }

 private:
  const json& object_;
  std::string where_;
};

json parse_object(const std::string& text, const std::string& where) {
  json object;
  try {
    object = json::parse(text);
  } catch (const json::exception& error) {
    throw InputError(where + ": not valid JSON: " + error.what());
  }
  if (!object.is_object()) throw InputError(where + ": expected a JSON object");
  return object;
}

constexpr const char* supported_types =
    "qwen3 (Qwen3ForCausalLM), qwen2 (Qwen2ForCausalLM) or llama (LlamaForCausalLM)";

Family parse_family(const Fields& fields) {
  struct Known {
    Family family;
    const char* type;
    const char* architecture;
  };
  constexpr Known known[] = {{Family::qwen3, "qwen3", "Qwen3ForCausalLM"},
                             {Family::qwen2, "qwen2", "Qwen2ForCausalLM"},
                             {Family::llama, "llama", "LlamaForCausalLM"}};
  const std::string type = fields.text("model_type", "");
  std::string architecture;
  if (const json* list = fields.find("architectures"); list != nullptr) {
    if (!list->is_array() || list->size() != 1 || !list->front().is_string()) {
      fields.refuse("architectures", *list, std::string("a list of one of ") + supported_types);
    }
    architecture = list->front().get<std::string>();
  }
  if (type.empty() && architecture.empty()) {
    throw InputError(fields.where() + ": model_type is missing; expected " + supported_types);
  }
  for (const Known& k : known) {
    if ((type.empty() || type == k.type) &&
        (architecture.empty() || architecture == k.architecture)) {
      return k.family;
    }
  }
  throw InputError(fields.where() + ": model_type \"" + type + "\" with architecture \"" +
                   architecture + "\" is not supported; expected " + supported_types);
}

void refuse_unsupported(const Fields& fields) {
  for (const char* name : {"num_experts", "num_local_experts", "n_routed_experts"}) {
    const json* value = fields.find(name);
    if (value != nullptr && *value != 0) {
      fields.refuse(name, *value, "a dense model: mixture of experts is not supported");
    }
  }
  if (const json* value = fields.find("quantization_config"); value != nullptr) {
    fields.refuse("quantization_config", *value, "none: quantised weights are not supported");
  }
  for (const char* name : {"attention_bias", "mlp_bias"}) {
    if (fields.flag(name, false)) fields.refuse(name, true, "false");
  }
  const std::string activation = fields.text("hidden_act", "silu");
  if (activation != "silu") fields.refuse("hidden_act", activation, "\"silu\"");
  if (fields.flag("use_sliding_window", false)) {
    fields.refuse("use_sliding_window", true, "false: sliding windows are not supported");
  }
  if (const json* types = fields.find("layer_types"); types != nullptr) {
    if (!types->is_array()) fields.refuse("layer_types", *types, "a list");
    for (const json& type : *types) {
      if (type != "full_attention") fields.refuse("layer_types", type, "\"full_attention\"");
    }
  }
}

void refuse_rope_scaling(const Fields& fields, const char* name, const json& rope) {
  if (!rope.is_object()) fields.refuse(name, rope, "an object");
  for (const char* key : {"rope_type", "type"}) {
    const auto type = rope.find(key);
    if (type != rope.end() && *type != "default") {
      fields.refuse(std::string(name) + "." + key, *type,
                    "\"default\": rotary scaling is not supported");
    }
  }
  if (rope.contains("factor") && rope["factor"] != 1 && !rope.contains("rope_type") &&
      !rope.contains("type")) {
    fields.refuse(name, rope, "no scaling");
  }
}

double parse_rope_theta(const Fields& fields) {
  constexpr double low = 1.0, high = 1e12;
  double theta = fields.number("rope_theta", low, high, default_rope_theta);
  if (const json* scaling = fields.find("rope_scaling"); scaling != nullptr) {
    refuse_rope_scaling(fields, "rope_scaling", *scaling);
  }
  if (const json* rope = fields.find("rope_parameters"); rope != nullptr) {
    refuse_rope_scaling(fields, "rope_parameters", *rope);
    const Fields inner(*rope, fields.where() + ": rope_parameters");
    theta = inner.number("rope_theta", low, high, theta);
    if (inner.number("partial_rotary_factor", 0.0, 1.0, 1.0) != 1.0) {
      inner.refuse("partial_rotary_factor", (*rope)["partial_rotary_factor"], "1");
    }
  }
  if (fields.number("partial_rotary_factor", 0.0, 1.0, 1.0) != 1.0) {
    fields.refuse("partial_rotary_factor", *fields.find("partial_rotary_factor"), "1");
  }
  return theta;
}

std::vector<TokenId> parse_stop_ids(const Fields& fields, std::int64_t vocab) {
  std::vector<TokenId> ids;
  const json* value = fields.find("eos_token_id");
  if (value == nullptr) return ids;
  const std::string expected =
      "a token id from 0 to " + std::to_string(vocab - 1) + " or a list of them";
  const auto add = [&](const json& id) {
    if (!id.is_number_unsigned() || id.get<std::uint64_t>() >= static_cast<std::uint64_t>(vocab)) {
      fields.refuse("eos_token_id", *value, expected);
    }
    ids.push_back(id.get<TokenId>());
  };
  if (value->is_array()) {
    for (const json& id : *value) add(id);
  } else {
    add(*value);
  }
  std::sort(ids.begin(), ids.end());
  ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
  return ids;
}

void parse_heads(const Fields& fields, Qwen3Config& config) {
  config.num_attention_heads = fields.integer("num_attention_heads", 1, max_heads);
  config.num_key_value_heads =
      fields.integer("num_key_value_heads", 1, max_heads, config.num_attention_heads);
  if (config.num_attention_heads % config.num_key_value_heads != 0) {
    throw InputError(
        fields.where() + ": num_attention_heads " + std::to_string(config.num_attention_heads) +
        " is not a multiple of num_key_value_heads " + std::to_string(config.num_key_value_heads));
  }
  std::int64_t head_dim = config.hidden_size / config.num_attention_heads;
  if (config.family == Family::qwen3) head_dim = qwen3_default_head_dim;
  config.head_dim = fields.integer("head_dim", 2, max_head_dim, head_dim);
  if (config.head_dim < 2 || config.head_dim % 2 != 0) {
    throw InputError(fields.where() + ": head_dim is " + std::to_string(config.head_dim) +
                     "; expected an even number: the rotary embedding turns pairs");
  }
}

std::string read_text(const std::filesystem::path& file) {
  std::ifstream in(file, std::ios::binary);
  if (!in) throw InputError(file.string() + ": cannot be read");
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

}  // namespace

const char* name_of(Family family) {
  switch (family) {
    case Family::qwen3:
      return "qwen3";
    case Family::qwen2:
      return "qwen2";
    case Family::llama:
      return "llama";
  }
  return "unknown";
}

std::int64_t Qwen3Config::parameter_count() const {
  std::int64_t layer = hidden_size * (qkv_size() + q_size() + 3 * intermediate_size);
  layer += 2 * hidden_size;
  if (qk_norm()) layer += 2 * head_dim;
  if (qkv_bias()) layer += qkv_size();
  const std::int64_t tables = tie_word_embeddings ? 1 : 2;
  return num_hidden_layers * layer + hidden_size + tables * vocab_size * hidden_size;
}

Qwen3Config Qwen3Config::parse(const std::string& text, const std::string& where) {
  const json object = parse_object(text, where);
  const Fields fields(object, where);
  Qwen3Config config;
  config.family = parse_family(fields);
  refuse_unsupported(fields);
  config.vocab_size = fields.integer("vocab_size", 1, max_vocab);
  config.hidden_size = fields.integer("hidden_size", 1, max_width);
  config.intermediate_size = fields.integer("intermediate_size", 1, max_width);
  config.num_hidden_layers = fields.integer("num_hidden_layers", 1, max_layers);
  parse_heads(fields, config);
  config.max_position_embeddings = fields.integer("max_position_embeddings", 1, max_positions);
  config.rms_norm_eps =
      static_cast<float>(fields.number("rms_norm_eps", 0.0, 1.0, default_rms_norm_eps));
  config.rope_theta = parse_rope_theta(fields);
  config.initializer_range = fields.number("initializer_range", 0.0, 1e3, 0.02);
  config.tie_word_embeddings = fields.flag("tie_word_embeddings", false);
  config.eos_token_ids = parse_stop_ids(fields, config.vocab_size);
  if (config.parameter_count() > max_parameters) {
    throw InputError(where + ": the sizes make " + std::to_string(config.parameter_count()) +
                     " parameters; expected at most " + std::to_string(max_parameters));
  }
  return config;
}

void Qwen3Config::read_generation_config(const std::string& text, const std::string& where) {
  const json object = parse_object(text, where);
  const std::vector<TokenId> ids = parse_stop_ids(Fields(object, where), vocab_size);
  if (!ids.empty()) eos_token_ids = ids;
}

Qwen3Config Qwen3Config::load(const std::filesystem::path& folder) {
  if (!std::filesystem::is_directory(folder)) {
    throw InputError(folder.string() + ": not a folder; expected a Hugging Face model folder");
  }
  const std::filesystem::path file = folder / "config.json";
  Qwen3Config config = parse(read_text(file), file.string());
  const std::filesystem::path generation = folder / "generation_config.json";
  if (std::filesystem::exists(generation)) {
    config.read_generation_config(read_text(generation), generation.string());
  }
  return config;
}

std::string Qwen3Config::to_json(DType storage) const {
  constexpr const char* architectures[] = {"Qwen3ForCausalLM", "Qwen2ForCausalLM",
                                           "LlamaForCausalLM"};
  json object;
  object["architectures"] = {architectures[static_cast<int>(family)]};
  object["model_type"] = name_of(family);
  if (family != Family::qwen2) object["attention_bias"] = false;
  object["attention_dropout"] = 0.0;
  object["head_dim"] = head_dim;
  object["hidden_act"] = "silu";
  object["hidden_size"] = hidden_size;
  object["initializer_range"] = initializer_range;
  object["intermediate_size"] = intermediate_size;
  object["max_position_embeddings"] = max_position_embeddings;
  object["num_attention_heads"] = num_attention_heads;
  object["num_hidden_layers"] = num_hidden_layers;
  object["num_key_value_heads"] = num_key_value_heads;
  // The shortest decimal that reads back to the same float: 1e-06, not 9.99999997e-07.
  std::ostringstream eps;
  eps.precision(7);
  eps << rms_norm_eps;
  object["rms_norm_eps"] = std::stod(eps.str());
  object["rope_theta"] = rope_theta;
  object["tie_word_embeddings"] = tie_word_embeddings;
  object["torch_dtype"] = storage == DType::bf16 ? "bfloat16" : "float32";
  object["use_cache"] = true;
  object["vocab_size"] = vocab_size;
  if (eos_token_ids.size() == 1) object["eos_token_id"] = eos_token_ids.front();
  if (eos_token_ids.size() > 1) object["eos_token_id"] = eos_token_ids;
  return object.dump(2) + "\n";
}

}  // namespace fst
