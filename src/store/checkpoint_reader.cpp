#include "fst/base/error.h"
#include "fst/store/checkpoint_file.h"
#include "fst/store/checksum.h"
#include "fst/store/envelope.h"
#include "fst/store/h5.h"

#include "checkpoint_layout.h"

namespace fst {

using namespace checkpoint;

struct CheckpointReader::State {
  std::filesystem::path path;
  std::optional<h5::File> file;

  /// Throws Error unless `name` is there and of this kind.
  void expect(const std::string& name, const char* kind) const;
  template <class T>
  std::vector<T> small(const std::string& name, const char* kind) const;
};

CheckpointReader::CheckpointReader(const Communicator& comm, std::filesystem::path file)
    : state_(std::make_unique<State>(State{std::move(file), std::nullopt})) {
  State& state = *state_;
  check_envelope(comm, state.path);
  together(comm, "opening " + state.path.string(), [&] {
    state.file = h5::File::open(state.path);
    const bool ours = state.file->has_attribute("/", "filetype") &&
                      state.file->text_attribute("/", "filetype") == filetype;
    if (!ours) throw Error(state.path.string() + ": is not a checkpoint of fst");
    const std::int64_t version = state.file->integer_attribute("/", "schema_version");
    if (version != schema_version) {
      throw Error(state.path.string() + ": has schema version " + std::to_string(version) +
                  ", this program reads " + std::to_string(schema_version));
    }
  });
}
CheckpointReader::CheckpointReader(CheckpointReader&&) noexcept = default;
CheckpointReader::~CheckpointReader() = default;

const std::filesystem::path& CheckpointReader::file() const {
  return state_->path;
}

std::vector<std::string> CheckpointReader::names() const {
  std::vector<std::string> names = state_->file->datasets();
  std::erase_if(names, [](const std::string& name) { return name.starts_with(sums_path("/")); });
  return names;
}

bool CheckpointReader::has(const std::string& name) const {
  return state_->file->has(name);
}

void CheckpointReader::State::expect(const std::string& name, const char* kind) const {
  if (!file->has(name)) {
    std::string there;
    for (const std::string& other : file->datasets()) {
      if (!other.starts_with(sums_path("/"))) there += " " + other;
    }
    throw Error(path.string() + ": there is no " + name + "; there are" + there);
  }
  const std::string found = file->text_attribute(name, "kind");
  if (found == kind) return;
  throw Error(path.string() + ": " + name + " is of kind " + found + ", expected " + kind);
}

std::int64_t CheckpointReader::array_size(const std::string& name) const {
  state_->expect(name, "array");
  return state_->file->size(name);
}

void CheckpointReader::array(const std::string& name, std::int64_t begin,
                             std::span<float> out) const {
  const std::int64_t size = array_size(name);
  const auto end = begin + static_cast<std::int64_t>(out.size());
  if (begin < 0 || end > size) {
    throw Error(state_->path.string() + ": " + name + " has " + std::to_string(size) +
                " elements, wanted are [" + std::to_string(begin) + ", " + std::to_string(end) +
                ")");
  }
  if (out.empty()) return;
  const std::int64_t first = begin / chunk_elements;
  std::vector<std::uint64_t> sums(static_cast<std::size_t>(chunks_of(end) - first));
  state_->file->read_bytes(sums_path(name), h5::Element::u64, first,
                           std::as_writable_bytes(std::span(sums)));
  std::vector<float> whole(static_cast<std::size_t>(chunk_elements));
  for (std::int64_t chunk = first; chunk < chunks_of(end); ++chunk) {
    // A chunk that is wanted in part is read whole: its sum is over all of it.
    const std::int64_t from = chunk_begin(chunk), to = chunk_end(chunk, size);
    const std::int64_t want = std::max(begin, from), stop = std::min(end, to);
    const bool all = want == from && stop == to;
    const auto length = static_cast<std::size_t>(to - from);
    const auto part =
        out.subspan(static_cast<std::size_t>(want - begin), static_cast<std::size_t>(stop - want));
    const auto into = all ? part : std::span(whole).first(length);
    state_->file->read_bytes(name, h5::Element::f32, from, std::as_writable_bytes(into));
    if (float_sum(from, into) != sums[static_cast<std::size_t>(chunk - first)]) {
      throw Error(state_->path.string() + ": " + name + " is damaged near element " +
                  std::to_string(from));
    }
    if (!all) {
      std::copy_n(whole.begin() + (want - from), part.size(), part.begin());
    }
  }
}

template <class T>
std::vector<T> CheckpointReader::State::small(const std::string& name, const char* kind) const {
  expect(name, kind);
  std::vector<T> values = file->get<T>(name);
  const auto sum = static_cast<std::uint64_t>(file->integer_attribute(name, "checksum"));
  if (hash64(std::as_bytes(std::span(values))) != sum) {
    throw Error(path.string() + ": " + name + " is damaged");
  }
  return values;
}

std::string CheckpointReader::blob(const std::string& name) const {
  const auto bytes = state_->small<std::uint8_t>(name, "blob");
  return {bytes.begin(), bytes.end()};
}

std::vector<std::int64_t> CheckpointReader::integers(const std::string& name) const {
  return state_->small<std::int64_t>(name, "integers");
}

std::string CheckpointReader::config() const {
  return state_->file->text_attribute("/", "config");
}

}  // namespace fst
