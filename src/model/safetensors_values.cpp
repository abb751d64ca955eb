#include <algorithm>
#include <bit>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <fcntl.h>
#include <unistd.h>

#include "fst/base/error.h"
#include "fst/model/safetensors.h"
#include "fst/tensor/host_view.h"

#include "nlohmann/json.hpp"

// Values of stored tensors: widening when read, rounding when written.
namespace fst {

namespace {

constexpr std::size_t header_alignment = 64;

float widen_bf16(std::uint16_t bits) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16);
}

/// IEEE half to float, exact; subnormals are scaled by 2^-24.
float widen_f16(std::uint16_t bits) {
  const std::uint32_t sign = static_cast<std::uint32_t>(bits & 0x8000u) << 16;
  const std::uint32_t exponent = (bits >> 10) & 0x1fu;
  const std::uint32_t mantissa = bits & 0x3ffu;
  if (exponent == 0) {
    const float magnitude = static_cast<float>(mantissa) * 0x1p-24f;
    return std::bit_cast<float>(sign | std::bit_cast<std::uint32_t>(magnitude));
  }
  const std::uint32_t wide = exponent == 31 ? 255u : exponent - 15 + 127;
  return std::bit_cast<float>(sign | (wide << 23) | (mantissa << 13));
}

/// Round to nearest even; the values are finite.
std::uint16_t narrow_bf16(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  return static_cast<std::uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

template <class Stored, class Widen>
bool widen_all(float* out, std::span<const std::byte> bytes, Widen widen) {
  bool finite = true;
  const std::size_t n = bytes.size() / sizeof(Stored);
  for (std::size_t i = 0; i < n; ++i) {
    Stored stored;
    std::memcpy(&stored, bytes.data() + i * sizeof(Stored), sizeof(Stored));  // may be unaligned
    out[i] = widen(stored);
    finite = finite && std::isfinite(out[i]);
  }
  return finite;
}

/// Where the rows of a block begin in a stored tensor: at `begin` + r * `columns`.
struct StoredRows {
  std::int64_t begin = 0, columns = 0;
};

template <class Stored, class Widen>
bool widen_rows(const Tensor& values, const StoredTensor& stored, const StoredRows& from,
                Widen widen) {
  constexpr auto width = static_cast<std::int64_t>(sizeof(Stored));
  bool finite = true;
  HostView<float> out(values, Contents::undefined);
  for (std::int64_t r = 0; r < values.dim(0); ++r) {
    const auto begin = static_cast<std::size_t>((from.begin + r * from.columns) * width);
    const auto count = static_cast<std::size_t>(values.dim(1) * width);
    const bool good = widen_all<Stored>(out.data() + r * values.dim(1),
                                        stored.bytes.subspan(begin, count), widen);
    finite = finite && good;
  }
  out.store();
  return finite;
}

/// values [rows, n] = n elements from the beginning of each row.
void read_rows(Tensor& values, const StoredTensor& stored, const StoredRows& from) {
  bool finite = true;
  switch (stored.dtype) {
    case DType::f32:
      finite = widen_rows<float>(values, stored, from, [](float x) { return x; });
      break;
    case DType::bf16:
      finite = widen_rows<std::uint16_t>(values, stored, from, widen_bf16);
      break;
    case DType::f16:
      finite = widen_rows<std::uint16_t>(values, stored, from, widen_f16);
      break;
    default:
      throw InputError(stored.file + ": tensor \"" + stored.name + "\" is stored as " +
                       name_of(stored.dtype) + "; expected f32, bf16 or f16");
  }
  if (!finite) {
    throw InputError(stored.file + ": tensor \"" + stored.name +
                     "\" holds a value that is not finite");
  }
}

/// A file that is written under a temporary name and gets its own only when complete.
class NewFile {
 public:
  explicit NewFile(const std::filesystem::path& file)
      : file_(file), temporary_(file.string() + ".tmp." + std::to_string(::getpid())) {
    descriptor_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (descriptor_ < 0) fail("created");
  }
  NewFile(const NewFile&) = delete;
  NewFile& operator=(const NewFile&) = delete;
  ~NewFile() {
    if (descriptor_ >= 0) {
      ::close(descriptor_);
      ::unlink(temporary_.c_str());
    }
  }
  void write(const void* bytes, std::size_t size) {
    const char* next = static_cast<const char*>(bytes);
    while (size > 0) {
      const ssize_t written = ::write(descriptor_, next, size);
      if (written < 0 && errno == EINTR) continue;
      if (written <= 0) fail("written");
      next += written;
      size -= static_cast<std::size_t>(written);
    }
  }
  void commit() {
    if (::fsync(descriptor_) != 0) fail("flushed");
    const int descriptor = std::exchange(descriptor_, -1);
    if (::close(descriptor) != 0 || ::rename(temporary_.c_str(), file_.c_str()) != 0) {
      const int error = errno;
      ::unlink(temporary_.c_str());
      errno = error;
      fail("renamed");
    }
  }

 private:
  [[noreturn]] void fail(const char* what) const {
    throw Error(file_.string() + ": cannot be " + what + ": " + std::strerror(errno));
  }
  std::filesystem::path file_, temporary_;
  int descriptor_ = -1;
};

std::string make_header(std::span<const TensorToWrite> tensors, DType storage) {
  nlohmann::json header;  // keys come out sorted, like the data
  header["__metadata__"]["format"] = "pt";
  std::int64_t offset = 0;
  for (const TensorToWrite& tensor : tensors) {
    const std::int64_t end = offset + tensor.values.size() * size_of(storage);
    header[tensor.name] = {{"dtype", storage == DType::bf16 ? "BF16" : "F32"},
                           {"shape", tensor.shape},
                           {"data_offsets", {offset, end}}};
    offset = end;
  }
  std::string text = header.dump();
  const std::size_t used = sizeof(std::uint64_t) + text.size();
  text.append((header_alignment - used % header_alignment) % header_alignment, ' ');
  return text;
}

void write_values(NewFile& file, const Tensor& values, DType storage) {
  const HostFloats host(values);
  const float* data = host.span().data();
  const auto n = static_cast<std::size_t>(values.size());
  if (storage == DType::f32) return file.write(data, n * sizeof(float));
  constexpr std::size_t chunk = 1 << 16;
  std::vector<std::uint16_t> narrow(chunk);
  for (std::size_t begin = 0; begin < n; begin += chunk) {
    const std::size_t count = std::min(chunk, n - begin);
    std::transform(data + begin, data + begin + count, narrow.begin(), narrow_bf16);
    file.write(narrow.data(), count * sizeof(std::uint16_t));
  }
}

}  // namespace

void read_values(Tensor& values, const StoredTensor& stored) {
  if (values.size() != stored.size() || !values.contiguous()) {
    throw Error(stored.name + ": " + std::to_string(stored.size()) + " elements do not fit " +
                values.shape());
  }
  Tensor row = values.view({1, values.size()});
  read_rows(row, stored, {.columns = values.size()});
}

void read_block(Tensor& values, const StoredTensor& stored, std::int64_t row, std::int64_t column) {
  const bool vector = stored.shape.size() == 1;
  const std::int64_t stored_rows = vector ? 1 : stored.shape[0];
  const std::int64_t columns = vector ? stored.shape[0] : stored.shape[1];
  const std::int64_t inner = vector ? values.size() : values.dim(1);
  const std::int64_t rows = vector ? 1 : values.dim(0);
  if (row < 0 || column < 0 || row + rows > stored_rows || column + inner > columns ||
      !values.contiguous()) {
    throw Error(stored.name + ": " + values.shape() + " is no block of it at " +
                std::to_string(row) + ", " + std::to_string(column));
  }
  // Whole rows lie one after the other: they are read as one.
  const bool whole_rows = inner == columns;
  Tensor matrix = whole_rows ? values.view({1, values.size()}) : values.view({rows, inner});
  read_rows(matrix, stored, {row * columns + column, columns});
}

void write_safetensors(const std::filesystem::path& file, std::vector<TensorToWrite> tensors,
                       DType storage) {
  if (storage != DType::f32 && storage != DType::bf16) {
    throw Error(file.string() + ": cannot store weights as " + name_of(storage));
  }
  std::sort(tensors.begin(), tensors.end(),
            [](const TensorToWrite& a, const TensorToWrite& b) { return a.name < b.name; });
  for (const TensorToWrite& tensor : tensors) {
    std::int64_t size = 1;
    for (const std::int64_t dim : tensor.shape) size *= dim;
    if (size != tensor.values.size() || !tensor.values.contiguous()) {
      throw Error(tensor.name + ": " + tensor.values.shape() + " does not hold its shape's " +
                  std::to_string(size) + " elements");
    }
  }
  const std::string header = make_header(tensors, storage);
  const std::uint64_t length = header.size();
  NewFile out(file);
  out.write(&length, sizeof(length));
  out.write(header.data(), header.size());
  for (const TensorToWrite& tensor : tensors) write_values(out, tensor.values, storage);
  out.commit();
}

}  // namespace fst
