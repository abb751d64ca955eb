#include <algorithm>

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
CheckpointReader& CheckpointReader::operator=(CheckpointReader&&) noexcept = default;
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

namespace {

/// The chunk of an array that was read last, whole: its sum is over all of it.
class ChunkCache {
 public:
  ChunkCache(const h5::File& file, const std::string& name, std::int64_t size)
      : file_(&file),
        name_(&name),
        size_(size),
        values_(static_cast<std::size_t>(chunk_elements)) {}

  /// Copies the elements from `begin` on.
  void copy(std::int64_t begin, std::span<float> out) {
    while (!out.empty()) {
      load(begin / chunk_elements);
      const auto length =
          std::min(out.size(), static_cast<std::size_t>(chunk_end(chunk_, size_) - begin));
      std::copy_n(values_.begin() + (begin - chunk_begin(chunk_)), length, out.begin());
      begin += static_cast<std::int64_t>(length);
      out = out.subspan(length);
    }
  }

 private:
  void load(std::int64_t chunk) {
    if (chunk == chunk_) return;
    chunk_ = -1;
    const std::int64_t begin = chunk_begin(chunk);
    const auto part =
        std::span(values_).first(static_cast<std::size_t>(chunk_end(chunk, size_) - begin));
    std::uint64_t sum = 0;
    file_->read_bytes(sums_path(*name_), h5::Element::u64, chunk,
                      std::as_writable_bytes(std::span(&sum, 1)));
    file_->read_bytes(*name_, h5::Element::f32, begin, std::as_writable_bytes(part));
    if (float_sum(begin, part) != sum) {
      throw Error(file_->path().string() + ": " + *name_ + " is damaged near element " +
                  std::to_string(begin));
    }
    chunk_ = chunk;
  }

  const h5::File* file_;
  const std::string* name_;
  std::int64_t size_, chunk_ = -1;
  std::vector<float> values_;
};

}  // namespace

void CheckpointReader::array(const std::string& name,
                             std::span<const ArrayPart<float>> parts) const {
  const std::int64_t size = array_size(name);
  ChunkCache chunks(*state_->file, name, size);
  for (const ArrayPart<float>& part : parts) {
    if (part.begin < 0 || part.end() > size) {
      throw Error(state_->path.string() + ": " + name + " has " + std::to_string(size) +
                  " elements, wanted are [" + std::to_string(part.begin) + ", " +
                  std::to_string(part.end()) + ")");
    }
    for (std::int64_t i = 0; i < part.runs(); ++i) {
      chunks.copy(part.begin + i * part.stride, part.run(i));
    }
  }
}

void CheckpointReader::array(const std::string& name, std::int64_t begin,
                             std::span<float> out) const {
  const ArrayPart<float> part{begin, out};
  array(name, {&part, 1});
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
