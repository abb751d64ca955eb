#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include "fst/comm/communicator.h"
#include "fst/model/chat.h"
#include "fst/model/identity.h"
#include "fst/model/model_files.h"
#include "fst/model/parameters.h"
#include "fst/model/qwen3.h"
#include "fst/model/tokenizer.h"
#include "fst/store/checkpoint_file.h"

namespace fst {

/// The small files of a Hugging Face folder or of one of our checkpoints, by name; whatever is
/// there. Throws InputError if `path` is neither, or damaged. The whole of a checkpoint is checked:
/// collective over `comm` then, whose members share the reading.
ModelFiles read_model_files(const Communicator& comm, const std::string& path);
ModelFiles read_model_files(const std::string& path);  // by this rank alone
/// The tokenizer among `files`. Throws InputError naming `path` if there is none.
Tokenizer tokenizer_of(const ModelFiles& files, const std::string& path);
/// The chat template among `files`; loads whatever it is, see Chat.
Chat chat_of(const ModelFiles& files, const std::string& path);

/// A model as it was found: a Hugging Face folder or one of our checkpoints.
struct ModelSource {
  std::string path;
  ModelFiles files;
  Qwen3Config config;

  /// Reads the small files and the configuration, not the weights. Throws InputError naming what is
  /// missing or wrong. Collective as read_model_files() is.
  static ModelSource open(const Communicator& comm, const std::string& path);
  static ModelSource open(const std::string& path);  // by this rank alone
  /// The weights, or a shard of them; `identity` is given what is read. Collective over `comm` for
  /// a checkpoint: the members share the check of the file, and each checks what it reads.
  Parameters load(const Communicator& comm, const Device& device, const Shard& shard = {},
                  const Holding& holding = {}, ModelIdentity* identity = nullptr) const;
  Tokenizer tokenizer() const { return tokenizer_of(files, path); }
  Chat chat() const { return chat_of(files, path); }
};

/// The array of a checkpoint that holds the policy's weights: all parameters in canonical order.
inline constexpr const char* weights_name = "/policy/weights";
/// Reads this rank's shard of them, masters included. Not collective.
void read_weights(const CheckpointReader& reader, Parameters& parameters);

/// True if `path` is a file, hence a checkpoint of ours.
bool is_checkpoint(const std::string& path);

/// Rows of the vocabulary that a token exists for: the law's vocabulary. Throws InputError if the
/// tokenizer has more tokens than the model has rows.
std::int64_t law_vocabulary(const ModelSource& source, const Tokenizer& tokenizer);

/// A model that does not change: base or reflection model, or this rank's shard of it. Its weights
/// are held once, as the model reads them.
struct FrozenModel {
  ModelSource source;
  std::uint64_t identity = 0;  // of the weights, equal on every machine and for every degree
  std::unique_ptr<Qwen3> model;
};

/// The frozen models of this rank, each loaded once for each degree however many roles use it.
class FrozenModels {
 public:
  FrozenModels(const Device& device, std::int64_t max_positions, DType dtype)
      : device_(device), max_positions_(max_positions), dtype_(dtype) {}
  /// `unit` shares the model (nullptr: this rank holds it whole) and must outlive this object.
  /// Roles with one degree have the same units. Collective over `role`, the ranks of all units.
  FrozenModel& at(const Communicator& role, const std::string& path, const TensorParallel* unit);
  /// 0 where this rank does not hold the model.
  std::uint64_t identity_of(const std::string& path) const;

 private:
  Device device_;
  std::int64_t max_positions_;
  DType dtype_;
  std::map<std::pair<std::string, int>, FrozenModel> models_;  // by path and degree
};

}  // namespace fst
