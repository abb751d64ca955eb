#include <fstream>
#include <sstream>

#include "fst/base/error.h"
#include "fst/model/parameters.h"
#include "fst/model/safetensors.h"

#include "nlohmann/json.hpp"

namespace fst {

namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr const char* copied_files[] = {"generation_config.json",
                                        "tokenizer.json",
                                        "tokenizer_config.json",
                                        "chat_template.jinja",
                                        "special_tokens_map.json",
                                        "added_tokens.json",
                                        "vocab.json",
                                        "merges.txt"};

void write_text(const fs::path& file, const std::string& text) {
  const fs::path temporary = file.string() + ".tmp";
  std::ofstream out(temporary, std::ios::binary | std::ios::trunc);
  out << text;
  out.close();
  std::error_code error;
  if (out) fs::rename(temporary, file, error);
  if (!out || error) throw Error(file.string() + ": cannot be written");
}

/// The source's config.json with the new storage type; without a source, our own.
std::string config_text(const Parameters& parameters, DType storage, const fs::path& source) {
  const fs::path file = source / "config.json";
  if (source.empty() || !fs::exists(file)) return parameters.config().to_json(storage);
  std::ifstream in(file, std::ios::binary);
  std::ostringstream text;
  text << in.rdbuf();
  Qwen3Config same = Qwen3Config::parse(text.str(), file.string());
  same.eos_token_ids = parameters.config().eos_token_ids;
  if (same != parameters.config()) {
    throw Error(file.string() + ": describes another model than the one to export");
  }
  json object = json::parse(text.str());
  const char* key = object.contains("dtype") ? "dtype" : "torch_dtype";
  object[key] = storage == DType::bf16 ? "bfloat16" : "float32";
  return object.dump(2) + "\n";
}

std::string generation_text(const Qwen3Config& config) {
  json object;
  if (config.eos_token_ids.size() == 1) object["eos_token_id"] = config.eos_token_ids.front();
  if (config.eos_token_ids.size() > 1) object["eos_token_id"] = config.eos_token_ids;
  object["do_sample"] = true;
  return object.dump(2) + "\n";
}

}  // namespace

void export_folder(const fs::path& folder, const Parameters& parameters, DType storage,
                   const fs::path& source) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) throw Error(folder.string() + ": cannot be created: " + error.message());
  if (!source.empty() && fs::exists(source) && fs::equivalent(folder, source)) {
    throw InputError(folder.string() + ": is the folder the model came from; choose another");
  }
  write_text(folder / "config.json", config_text(parameters, storage, source));
  for (const char* name : copied_files) {
    if (source.empty() || !fs::exists(source / name)) continue;
    fs::copy_file(source / name, folder / name, fs::copy_options::overwrite_existing, error);
    if (error) throw Error((folder / name).string() + ": cannot be copied: " + error.message());
  }
  if (source.empty()) {
    write_text(folder / "generation_config.json", generation_text(parameters.config()));
  }
  std::vector<TensorToWrite> tensors;
  for (const ParameterSpec& spec : parameters.specs()) {
    std::vector<std::int64_t> shape = {spec.cols};
    if (spec.rank == 2) shape = {spec.rows, spec.cols};
    tensors.push_back({spec.name, std::move(shape), parameters.at(spec)});
  }
  write_safetensors(folder / "model.safetensors", std::move(tensors), storage);
}

}  // namespace fst
