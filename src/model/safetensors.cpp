#include "fst/model/safetensors.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <fstream>
#include <optional>
#include <set>
#include <sstream>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <utility>

#include "fst/base/error.h"

#include "nlohmann/json.hpp"

namespace fst {

using nlohmann::json;

namespace {

// The format's own limit: github.com/huggingface/safetensors, README, "Format".
constexpr std::uint64_t max_header_bytes = 100'000'000;
constexpr std::uint64_t length_bytes = 8;
constexpr std::size_t max_rank = 4;

std::optional<DType> parse_dtype(const std::string& name) {
  constexpr std::pair<const char*, DType> known[] = {
      {"F32", DType::f32}, {"BF16", DType::bf16}, {"F16", DType::f16}, {"F64", DType::f64},
      {"I32", DType::i32}, {"I64", DType::i64},   {"U8", DType::u8}};
  for (const auto& [text, dtype] : known) {
    if (name == text) return dtype;
  }
  return std::nullopt;
}

/// Parses JSON whose top-level keys must be distinct (the format forbids duplicates, but a plain
/// parser keeps the last one silently).
json parse_distinct(std::string_view text, const std::string& file) {
  std::set<std::string> names;
  std::string twice;
  const auto watch = [&](int depth, json::parse_event_t event, json& value) {
    if (event == json::parse_event_t::key && depth == 1) {
      const std::string name = value.get<std::string>();
      if (!names.insert(name).second) twice = name;
    }
    return true;
  };
  json object;
  try {
    object = json::parse(text, watch);
  } catch (const json::exception& error) {
    throw InputError(file + ": header is not valid JSON: " + error.what());
  }
  if (!twice.empty()) throw InputError(file + ": tensor \"" + twice + "\" appears twice");
  if (!object.is_object()) throw InputError(file + ": header is not a JSON object");
  return object;
}

class HeaderEntry {
 public:
  HeaderEntry(const std::string& file, const std::string& name, const json& entry)
      : file_(file), name_(name), entry_(entry) {
    if (!entry.is_object()) refuse("its entry is not an object");
  }

  [[noreturn]] void refuse(const std::string& why) const {
    throw InputError(file_ + ": tensor \"" + name_ + "\": " + why);
  }
  const json& field(const char* key) const {
    const auto found = entry_.find(key);
    if (found == entry_.end()) refuse(std::string(key) + " is missing");
    return *found;
  }
  DType dtype() const {
    const json& value = field("dtype");
    if (!value.is_string()) refuse("dtype is not a text");
    const auto dtype = parse_dtype(value.get<std::string>());
    if (!dtype) {
      refuse("dtype " + value.dump(-1, ' ', true, json::error_handler_t::replace) +
             " is not supported; expected F32, BF16, F16, F64, I32, I64 or U8");
    }
    return *dtype;
  }
  std::vector<std::int64_t> shape() const {
    const json& value = field("shape");
    if (!value.is_array() || value.size() > max_rank) {
      refuse("shape is not a list of at most " + std::to_string(max_rank) + " sizes");
    }
    std::vector<std::int64_t> shape;
    for (const json& dim : value) shape.push_back(as_size(dim, "shape"));
    return shape;
  }
  /// Bytes of all elements; refuses products that overflow.
  std::int64_t bytes(const std::vector<std::int64_t>& shape, DType dtype) const {
    std::int64_t bytes = size_of(dtype);
    for (const std::int64_t dim : shape) {
      if (__builtin_mul_overflow(bytes, dim, &bytes)) refuse("shape overflows 64 bits");
    }
    return bytes;
  }
  std::pair<std::int64_t, std::int64_t> offsets(std::int64_t available) const {
    const json& value = field("data_offsets");
    if (!value.is_array() || value.size() != 2) refuse("data_offsets is not a pair");
    const std::int64_t begin = as_size(value[0], "data_offsets");
    const std::int64_t end = as_size(value[1], "data_offsets");
    if (begin > end || end > available) {
      refuse("data_offsets [" + std::to_string(begin) + ", " + std::to_string(end) +
             "] are not within the file's " + std::to_string(available) + " bytes of data");
    }
    return {begin, end};
  }

 private:
  std::int64_t as_size(const json& value, const char* what) const {
    constexpr std::uint64_t limit = std::uint64_t{1} << 62;
    if (!value.is_number_unsigned() || value.get<std::uint64_t>() > limit) {
      refuse(std::string(what) + " holds " +
             value.dump(-1, ' ', true, json::error_handler_t::replace) +
             "; expected integers from 0");
    }
    return value.get<std::int64_t>();
  }

  const std::string& file_;
  const std::string& name_;
  const json& entry_;
};

/// The format allows neither holes nor overlaps: sorted by begin, tensors tile the data.
void check_tiling(const std::string& file, std::span<const StoredTensor> tensors,
                  std::span<const std::byte> data) {
  std::vector<const StoredTensor*> order;
  for (const StoredTensor& tensor : tensors) order.push_back(&tensor);
  std::sort(order.begin(), order.end(), [](const StoredTensor* a, const StoredTensor* b) {
    return std::pair(a->bytes.data(), a->bytes.size()) <
           std::pair(b->bytes.data(), b->bytes.size());
  });
  const std::byte* next = data.data();
  for (const StoredTensor* tensor : order) {
    if (tensor->bytes.data() != next) {
      throw InputError(
          file + ": tensor \"" + tensor->name + "\": its data " +
          (tensor->bytes.data() < next ? "overlaps another tensor's" : "leaves a hole before it"));
    }
    next += tensor->bytes.size();
  }
  if (next != data.data() + data.size()) {
    throw InputError(file + ": " + std::to_string(data.data() + data.size() - next) +
                     " bytes after the last tensor belong to none");
  }
}

std::vector<StoredTensor> parse_header(const std::string& file, std::span<const std::byte> bytes) {
  if (bytes.size() < length_bytes) {
    throw InputError(file + ": truncated: " + std::to_string(bytes.size()) +
                     " bytes, the header's length alone takes 8");
  }
  std::uint64_t length = 0;
  std::memcpy(&length, bytes.data(), length_bytes);
  if (length > max_header_bytes || length > bytes.size() - length_bytes) {
    throw InputError(file + ": header length " + std::to_string(length) + " is beyond the file's " +
                     std::to_string(bytes.size()) +
                     " bytes or the format's limit: truncated, or no safetensors file");
  }
  const std::string_view header(reinterpret_cast<const char*>(bytes.data()) + length_bytes,
                                static_cast<std::size_t>(length));
  const std::span<const std::byte> data = bytes.subspan(length_bytes + length);
  const json object = parse_distinct(header, file);
  std::vector<StoredTensor> tensors;
  for (const auto& [name, value] : object.items()) {
    if (name == "__metadata__") continue;
    const HeaderEntry entry(file, name, value);
    StoredTensor tensor{name, entry.dtype(), entry.shape(), {}, file};
    const auto [begin, end] = entry.offsets(static_cast<std::int64_t>(data.size()));
    const std::int64_t expected = entry.bytes(tensor.shape, tensor.dtype);
    if (end - begin != expected) {
      entry.refuse("holds " + std::to_string(end - begin) + " bytes; its shape and dtype take " +
                   std::to_string(expected));
    }
    tensor.bytes =
        data.subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(end - begin));
    tensors.push_back(std::move(tensor));
  }
  check_tiling(file, tensors, data);
  return tensors;
}

}  // namespace

/// A read-only memory map of a file.
class SafetensorsReader::Mapping {
 public:
  explicit Mapping(const std::filesystem::path& file) {
    const int descriptor = ::open(file.c_str(), O_RDONLY | O_CLOEXEC);
    if (descriptor < 0) {
      throw InputError(file.string() + ": cannot be opened: " + std::strerror(errno));
    }
    struct stat status {};
    const bool regular = ::fstat(descriptor, &status) == 0 && S_ISREG(status.st_mode);
    if (regular && status.st_size > 0) {
      size_ = static_cast<std::size_t>(status.st_size);
      memory_ = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, descriptor, 0);
    }
    ::close(descriptor);
    if (!regular) throw InputError(file.string() + ": not a regular file");
    if (memory_ == MAP_FAILED) throw Error(file.string() + ": cannot be mapped");
  }
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;
  ~Mapping() {
    if (memory_ != nullptr) ::munmap(memory_, size_);
  }
  std::span<const std::byte> bytes() const {
    return {static_cast<const std::byte*>(memory_), size_};
  }

 private:
  void* memory_ = nullptr;
  std::size_t size_ = 0;
};

std::int64_t StoredTensor::size() const {
  std::int64_t n = 1;
  for (const std::int64_t dim : shape) n *= dim;
  return n;
}

SafetensorsReader::SafetensorsReader(const std::filesystem::path& path) {
  if (!std::filesystem::is_directory(path)) {
    add_file(path);
  } else if (std::filesystem::exists(path / "model.safetensors.index.json")) {
    add_shards(path / "model.safetensors.index.json");
  } else if (std::filesystem::exists(path / "model.safetensors")) {
    add_file(path / "model.safetensors");
  } else {
    throw InputError(path.string() +
                     ": holds neither model.safetensors nor model.safetensors.index.json");
  }
  sort_and_check_names();
}

SafetensorsReader::~SafetensorsReader() = default;
SafetensorsReader::SafetensorsReader(SafetensorsReader&&) noexcept = default;
SafetensorsReader& SafetensorsReader::operator=(SafetensorsReader&&) noexcept = default;

void SafetensorsReader::add_file(const std::filesystem::path& file) {
  auto mapping = std::make_unique<Mapping>(file);
  for (StoredTensor& tensor : parse_header(file.string(), mapping->bytes())) {
    tensors_.push_back(std::move(tensor));
  }
  mappings_.push_back(std::move(mapping));
}

void SafetensorsReader::add_shards(const std::filesystem::path& index) {
  std::ifstream in(index, std::ios::binary);
  std::ostringstream text;
  text << in.rdbuf();
  const json object = parse_distinct(text.str(), index.string());
  const auto map = object.find("weight_map");
  if (map == object.end() || !map->is_object() || map->empty()) {
    throw InputError(index.string() + ": weight_map is missing or not an object");
  }
  std::set<std::string> shards;
  for (const auto& [name, shard] : map->items()) {
    const std::string file = shard.is_string() ? shard.get<std::string>() : "";
    if (file.empty() || file.find('/') != std::string::npos || file == "." || file == "..") {
      throw InputError(index.string() + ": tensor \"" + name +
                       "\": expected the name of a file in the same folder");
    }
    shards.insert(file);
  }
  for (const std::string& shard : shards) add_file(index.parent_path() / shard);
  sort_and_check_names();
  for (const auto& [name, shard] : map->items()) {
    const StoredTensor* tensor = find(name);
    const std::string file = (index.parent_path() / shard.get<std::string>()).string();
    if (tensor == nullptr || tensor->file != file) {
      throw InputError(index.string() + ": tensor \"" + name + "\" is not in " + file);
    }
  }
  for (const StoredTensor& tensor : tensors_) {
    if (!map->contains(tensor.name)) {
      throw InputError(tensor.file + ": tensor \"" + tensor.name + "\" is not listed in " +
                       index.string());
    }
  }
}

void SafetensorsReader::sort_and_check_names() {
  std::sort(tensors_.begin(), tensors_.end(),
            [](const StoredTensor& a, const StoredTensor& b) { return a.name < b.name; });
  for (std::size_t i = 1; i < tensors_.size(); ++i) {
    if (tensors_[i].name == tensors_[i - 1].name) {
      throw InputError(tensors_[i].file + ": tensor \"" + tensors_[i].name + "\" is also in " +
                       tensors_[i - 1].file);
    }
  }
}

const StoredTensor* SafetensorsReader::find(const std::string& name) const {
  const auto found = std::lower_bound(
      tensors_.begin(), tensors_.end(), name,
      [](const StoredTensor& tensor, const std::string& key) { return tensor.name < key; });
  return found == tensors_.end() || found->name != name ? nullptr : &*found;
}

}  // namespace fst
