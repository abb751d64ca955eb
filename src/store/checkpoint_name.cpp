#include <algorithm>
#include <charconv>

#include "fst/base/error.h"
#include "fst/base/log.h"
#include "fst/store/checkpoint_file.h"
#include "fst/store/envelope.h"
#include "fst/store/files.h"

namespace fst {

namespace fs = std::filesystem;

namespace {

constexpr std::size_t kept_newest = 2;  // the newest may turn out damaged

/// Takes a number without sign or leading zeros off the front of `text`.
template <class T>
bool take_number(std::string_view& text, T& number) {
  const auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), number);
  const auto length = static_cast<std::size_t>(end - text.data());
  if (failed != std::errc{} || number < 0 || text.substr(0, length) != std::to_string(number)) {
    return false;
  }
  text.remove_prefix(length);
  return true;
}

bool take(std::string_view& text, std::string_view prefix) {
  if (!text.starts_with(prefix)) return false;
  text.remove_prefix(prefix.size());
  return true;
}

}  // namespace

std::string file_name(const CheckpointId& id) {
  std::string name = "checkpoint-" + std::to_string(id.step);
  if (id.round >= 0) name += ".r" + std::to_string(id.round);
  return name + ".h5";
}

std::optional<CheckpointId> parse_checkpoint_name(std::string_view name) {
  CheckpointId id;
  if (!take(name, "checkpoint-") || !take_number(name, id.step)) return std::nullopt;
  if (take(name, ".r") && !take_number(name, id.round)) return std::nullopt;
  if (name != ".h5") return std::nullopt;
  return id;
}

std::vector<CheckpointId> list_checkpoints(const fs::path& folder) {
  std::vector<CheckpointId> found;
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (const auto id = parse_checkpoint_name(entry.path().filename().string())) {
      found.push_back(*id);
    }
  }
  std::sort(found.rbegin(), found.rend());
  return found;
}

std::optional<CheckpointReader> newest_good_checkpoint(const Communicator& comm,
                                                       const fs::path& folder) {
  std::string names;  // rank 0 looks; the others take its word
  together(comm, "list of checkpoints", [&] {
    if (comm.rank() != 0 || !fs::exists(folder)) return;
    remove_temporaries(folder);
    for (const CheckpointId& id : list_checkpoints(folder)) names += file_name(id) + "\n";
  });
  comm.broadcast(names, 0, "list of checkpoints");
  for (std::size_t begin = 0, end = 0; begin < names.size(); begin = end + 1) {
    end = names.find('\n', begin);
    const fs::path file = folder / names.substr(begin, end - begin);
    try {
      return CheckpointReader(comm, file);
    } catch (const Error& error) {
      if (comm.rank() == 0) {
        log::warn(std::string(error.what()) + "; trying the checkpoint before");
      }
    }
  }
  return std::nullopt;
}

void set_aside(const fs::path& folder, const CheckpointId& taken) {
  for (const CheckpointId& id : list_checkpoints(folder)) {
    if (id <= taken) continue;
    const fs::path aside = folder / (file_name(id) + ".aside");
    log::warn((folder / file_name(id)).string() + " is kept as " + aside.filename().string());
    fs::rename(folder / file_name(id), aside);
  }
}

void keep_checkpoints(const fs::path& folder, const CheckpointId& newest, std::int64_t keep_every) {
  std::vector<CheckpointId> found = list_checkpoints(folder);
  std::erase_if(found, [&](const CheckpointId& id) {
    const bool superseded = newest.round < 0 && id.step == newest.step && id.round >= 0;
    if (superseded) fs::remove(folder / file_name(id));
    return superseded;
  });
  for (std::size_t i = kept_newest; i < found.size(); ++i) {
    const bool milestone = keep_every > 0 && found[i].round < 0 && found[i].step % keep_every == 0;
    if (!milestone) fs::remove(folder / file_name(found[i]));
  }
}

}  // namespace fst
