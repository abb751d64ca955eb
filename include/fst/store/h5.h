#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include <hdf5.h>

#include "fst/comm/communicator.h"

// A thin layer over the HDF5 C API: handles that close themselves, every code checked, no printing
// by the library. One thread at a time.

namespace fst::h5 {

/// Returns `code` if it is not negative; else throws Error with the call and HDF5's own reason.
hid_t check(hid_t code, const char* call);
#define FST_H5_CHECK(call) ::fst::h5::check((call), #call)

/// Owns an identifier of the library.
class Handle {
 public:
  using Close = herr_t (*)(hid_t);
  Handle() = default;
  Handle(hid_t id, Close closer) : id_(id), close_(closer) {}
  Handle(Handle&& other) noexcept : id_(std::exchange(other.id_, -1)), close_(other.close_) {}
  Handle& operator=(Handle&& other) noexcept;
  Handle(const Handle&) = delete;
  Handle& operator=(const Handle&) = delete;
  ~Handle() { release(); }

  hid_t id() const { return id_; }
  /// Closes now and checks; for files, where closing writes.
  void close(const char* what);

 private:
  void release();
  hid_t id_ = -1;
  Close close_ = nullptr;
};

/// What a dataset is made of.
enum class Element : std::uint8_t { f32, f64, i32, i64, u64, u8, other };
std::size_t bytes_of(Element element);
const char* name_of(Element element);

/// An HDF5 file with the envelope of envelope.h in front (a user block), in a format that every
/// library since 1.8 reads. Paths are absolute ("/step/lr"); groups on the way are made.
class File {
 public:
  /// A new file; there must be none of that name that matters. With more than one member: parallel
  /// and collective, as is then everything that makes something; raw data may be written by any
  /// member on its own.
  static File create(const std::filesystem::path& file,
                     const Communicator& comm = Communicator::self());
  static File open(const std::filesystem::path& file);
  static File open_to_append(const std::filesystem::path& file);
  void close();

  const std::filesystem::path& path() const { return path_; }
  bool has(const std::string& path) const;
  /// All datasets, absolute paths, sorted.
  std::vector<std::string> datasets() const;

  /// Dataset of fixed size, not yet written.
  void make(const std::string& path, Element element, std::vector<std::int64_t> dims);
  /// One-dimensional dataset that can grow; `compress`: shuffle and deflate.
  void make_growing(const std::string& path, Element element, std::int64_t chunk, bool compress);
  Element element(const std::string& path) const;
  std::vector<std::int64_t> dims(const std::string& path) const;
  /// Number of elements.
  std::int64_t size(const std::string& path) const;
  void resize(const std::string& path, std::int64_t size);

  /// Elements [begin, ...), row-major, of a dataset of that element type; whole rows where it has
  /// more than one dimension.
  void write_bytes(const std::string& path, Element element, std::int64_t begin,
                   std::span<const std::byte> bytes);
  void read_bytes(const std::string& path, Element element, std::int64_t begin,
                  std::span<std::byte> bytes) const;
  /// Runs of `width` elements, `stride` apart from `begin` on, of a one-dimensional dataset.
  void write_runs(const std::string& path, Element element, std::int64_t begin, std::int64_t width,
                  std::int64_t stride, std::span<const std::byte> bytes);
  /// Makes and fills a dataset; `dims` default to one dimension.
  template <class T>
  void put(const std::string& path, std::span<const T> values, std::vector<std::int64_t> dims = {});
  /// The whole dataset, row-major.
  template <class T>
  std::vector<T> get(const std::string& path) const;

  /// Attributes of a group or dataset, "/" for the file's. An old value is replaced.
  void set_attribute(const std::string& object, const std::string& name, std::string_view text);
  void set_attribute(const std::string& object, const std::string& name, std::int64_t number);
  /// A text of any bytes but zero, of variable length, as h5py writes and reads a str.
  void set_variable_text(const std::string& object, const std::string& name,
                         const std::string& text);
  bool has_attribute(const std::string& object, const std::string& name) const;
  std::string text_attribute(const std::string& object, const std::string& name) const;
  std::int64_t integer_attribute(const std::string& object, const std::string& name) const;
  /// All of them as "name = value".
  std::vector<std::string> attributes(const std::string& object) const;

 private:
  File(std::filesystem::path path, Handle file) : path_(std::move(path)), file_(std::move(file)) {}
  Handle dataset(const std::string& path) const;
  void make(const std::string& path, Element element, const Handle& space, const Handle& options);
  void transfer(const std::string& path, Element element, std::int64_t begin, std::size_t bytes,
                void* into, const void* from) const;

  std::filesystem::path path_;
  Handle file_;
};

template <class T>
constexpr Element element_of() {
  if constexpr (std::is_same_v<T, float>) return Element::f32;
  if constexpr (std::is_same_v<T, double>) return Element::f64;
  if constexpr (std::is_same_v<T, std::int32_t>) return Element::i32;
  if constexpr (std::is_same_v<T, std::int64_t>) return Element::i64;
  if constexpr (std::is_same_v<T, std::uint64_t>) return Element::u64;
  if constexpr (std::is_same_v<T, std::uint8_t>) return Element::u8;
}

template <class T>
void File::put(const std::string& path, std::span<const T> values, std::vector<std::int64_t> dims) {
  if (dims.empty()) dims = {static_cast<std::int64_t>(values.size())};
  make(path, element_of<T>(), std::move(dims));
  write_bytes(path, element_of<T>(), 0, std::as_bytes(values));
}

template <class T>
std::vector<T> File::get(const std::string& path) const {
  std::vector<T> values(static_cast<std::size_t>(size(path)));
  read_bytes(path, element_of<T>(), 0, std::as_writable_bytes(std::span(values)));
  return values;
}

}  // namespace fst::h5
