#include "fst/run/model_source.h"

#include <algorithm>
#include <filesystem>

#include "fst/base/error.h"
#include "fst/learn/reshard.h"
#include "fst/store/checkpoint_file.h"
#include "fst/store/files.h"
#include "fst/tensor/ops.h"

namespace fst {

namespace {

const std::string& file_of(const ModelFiles& files, const char* name, const std::string& path) {
  const auto file = files.find(name);
  if (file == files.end()) throw InputError(path + ": has no " + name);
  return file->second;
}

ModelFiles read_checkpoint_files(const Communicator& comm, const std::string& path) {
  ModelFiles files;
  try {
    const CheckpointReader reader(comm, path);
    for (const char* name : model_file_names) {
      const std::string blob = std::string("/model/") + name;
      if (reader.has(blob)) files[name] = reader.blob(blob);
    }
  } catch (const Error& error) {
    throw InputError(error.what());  // the user named this file
  }
  return files;
}

/// Reads a shard of the weights, read_elements at a time.
void read_values(const CheckpointReader& reader, const std::vector<ParameterSpec>& specs,
                 const ValueSink& sink) {
  for (const Range piece : row_pieces(specs, read_elements)) {
    std::vector<float> values(static_cast<std::size_t>(piece.size()));
    reader.array(weights_name, global_parts(specs, piece, std::span(values), Replicated::include));
    sink(piece.begin, values);
  }
}

}  // namespace

bool is_checkpoint(const std::string& path) {
  return std::filesystem::is_regular_file(path);
}

ModelFiles read_model_files(const Communicator& comm, const std::string& path) {
  if (path.empty()) throw InputError("no model given");
  if (is_checkpoint(path)) return read_checkpoint_files(comm, path);
  if (std::filesystem::is_directory(path)) return read_model_folder(path);
  throw InputError(path + ": neither a model folder nor a checkpoint");
}

ModelFiles read_model_files(const std::string& path) {
  return read_model_files(Communicator::self(), path);
}

Tokenizer tokenizer_of(const ModelFiles& files, const std::string& path) {
  return Tokenizer(file_of(files, "tokenizer.json", path), path + "/tokenizer.json");
}

Chat chat_of(const ModelFiles& files, const std::string& path) {
  const auto text = [&](const char* name) {
    const auto file = files.find(name);
    return file == files.end() ? std::string() : file->second;
  };
  return Chat::from_texts(text("chat_template.jinja"), text("tokenizer_config.json"), path);
}

ModelSource ModelSource::open(const Communicator& comm, const std::string& path) {
  ModelSource source;
  source.path = path;
  source.files = read_model_files(comm, path);
  source.config =
      Qwen3Config::parse(file_of(source.files, "config.json", path), path + "/config.json");
  const auto generation = source.files.find("generation_config.json");
  if (generation != source.files.end()) {
    source.config.read_generation_config(generation->second, path + "/generation_config.json");
  }
  return source;
}

ModelSource ModelSource::open(const std::string& path) {
  return open(Communicator::self(), path);
}

Parameters ModelSource::load(const Communicator& comm, const Device& device, const Shard& shard,
                             const Holding& holding, ModelIdentity* identity) const {
  ops::expect_head_size(device, path, config.head_dim);
  Parameters parameters(config, device, shard, holding);
  const ValueSink sink = [&](std::int64_t begin, std::span<const float> values) {
    parameters.put(begin, values);
    if (identity != nullptr) identity->add(begin, values);
  };
  if (!is_checkpoint(path)) {
    read_parameters(path, config, shard, sink);
    return parameters;
  }
  const CheckpointReader reader(comm, path);
  if (!reader.has(weights_name) || reader.array_size(weights_name) != config.parameter_count()) {
    throw InputError(path + ": holds no weights of the model its config.json describes");
  }
  read_values(reader, parameters.specs(), sink);
  return parameters;
}

void read_weights(const CheckpointReader& reader, Parameters& parameters) {
  read_values(reader, parameters.specs(), [&](std::int64_t begin, std::span<const float> values) {
    parameters.put(begin, values);
  });
}

std::int64_t law_vocabulary(const ModelSource& source, const Tokenizer& tokenizer) {
  if (tokenizer.vocab_size() > source.config.vocab_size) {
    throw InputError(source.path + ": the tokenizer has " + std::to_string(tokenizer.vocab_size()) +
                     " tokens, the model " + std::to_string(source.config.vocab_size) + " rows");
  }
  return tokenizer.vocab_size();
}

FrozenModel& FrozenModels::at(const Communicator& role, const std::string& path,
                              const TensorParallel* unit) {
  const Shard shard = shard_of(unit);
  const std::pair key(path, shard.degree);
  const auto found = models_.find(key);
  if (found != models_.end()) return found->second;
  FrozenModel& frozen = models_[key];
  frozen.source = ModelSource::open(role, path);
  const std::int64_t positions =
      std::min(max_positions_, frozen.source.config.max_position_embeddings);
  frozen.model = std::make_unique<Qwen3>(
      frozen.source.config, device_,
      Qwen3Options{
          .use = Use::inference, .max_positions = positions, .dtype = dtype_, .unit = unit});
  const Device memory =
      frozen.model->reads_in_place() ? device_ : device_.during(MemoryPhase::loading);
  ModelIdentity identity(frozen.source.config, shard);
  frozen.model->set_weights(frozen.source.load(role, memory, shard, {dtype_}, &identity));
  frozen.identity = identity.of(unit, device_);
  return frozen;
}

std::uint64_t FrozenModels::identity_of(const std::string& path) const {
  for (const auto& [key, frozen] : models_) {
    if (key.first == path) return frozen.identity;
  }
  return 0;
}

}  // namespace fst
