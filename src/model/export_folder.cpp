#include <fstream>

#include "fst/base/error.h"
#include "fst/model/parameters.h"
#include "fst/model/safetensors.h"

#include "nlohmann/json.hpp"

namespace fst {

namespace {

namespace fs = std::filesystem;
using nlohmann::json;

void write_text(const fs::path& file, const std::string& text) {
  const fs::path temporary = file.string() + ".tmp";
  std::ofstream out(temporary, std::ios::binary | std::ios::trunc);
  out << text;
  out.close();
  std::error_code error;
  if (out) fs::rename(temporary, file, error);
  if (!out || error) throw Error(file.string() + ": cannot be written");
}

/// The source's config.json with the new storage type; without one, our own.
std::string config_text(const Parameters& parameters, DType storage, const ModelFiles& files) {
  const auto source = files.find("config.json");
  if (source == files.end()) return parameters.config().to_json(storage);
  Qwen3Config same = Qwen3Config::parse(source->second, source->first);
  same.eos_token_ids = parameters.config().eos_token_ids;
  if (same != parameters.config()) {
    throw Error("config.json describes another model than the one to export");
  }
  json object = json::parse(source->second);
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

void write_model_folder(const fs::path& folder, const Parameters& parameters, DType storage,
                        const ModelFiles& files) {
  if (parameters.shard().degree != 1) throw Error("a model folder is written from a whole model");
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) throw Error(folder.string() + ": cannot be created: " + error.message());
  write_text(folder / "config.json", config_text(parameters, storage, files));
  for (const auto& [name, text] : files) {
    if (name != "config.json") write_text(folder / name, text);
  }
  if (files.empty()) {
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

void export_folder(const fs::path& folder, const Parameters& parameters, DType storage,
                   const fs::path& source) {
  if (!source.empty() && fs::exists(folder) && fs::exists(source) &&
      fs::equivalent(folder, source)) {
    throw InputError(folder.string() + ": is the folder the model came from; choose another");
  }
  write_model_folder(folder, parameters, storage,
                     source.empty() ? ModelFiles{} : read_model_folder(source));
}

}  // namespace fst
