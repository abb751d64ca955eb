#include "fst/store/h5.h"

#include <algorithm>
#include <array>
#include <numeric>

#include "fst/base/error.h"
#include "fst/base/log.h"
#include "fst/comm/mpi.h"
#include "fst/store/envelope.h"

namespace fst::h5 {

namespace {

/// Once, before the first call: no printing, and no flush at exit of files that could not be
/// closed.
void start() {
  static const bool started = [] {
    check(H5dont_atexit(), "H5dont_atexit");
    check(H5open(), "H5open");
    check(H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr), "H5Eset_auto2");
    return true;
  }();
  static_cast<void>(started);
}

struct Kind {
  Element element;
  const char* name;
  std::size_t bytes;
  hid_t file, memory;
};

std::array<Kind, 6> kinds() {
  return {{{Element::f32, "f32", 4, H5T_IEEE_F32LE, H5T_NATIVE_FLOAT},
           {Element::f64, "f64", 8, H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE},
           {Element::i32, "i32", 4, H5T_STD_I32LE, H5T_NATIVE_INT32},
           {Element::i64, "i64", 8, H5T_STD_I64LE, H5T_NATIVE_INT64},
           {Element::u64, "u64", 8, H5T_STD_U64LE, H5T_NATIVE_UINT64},
           {Element::u8, "u8", 1, H5T_STD_U8LE, H5T_NATIVE_UINT8}}};
}

Kind kind_of(Element element) {
  start();
  for (const Kind& kind : kinds()) {
    if (kind.element == element) return kind;
  }
  throw Error("HDF5: an element type this program does not use");
}

/// The innermost message of the error stack.
herr_t keep_reason(unsigned, const H5E_error2_t* entry, void* into) {
  *static_cast<std::string*>(into) = entry->desc == nullptr ? "" : entry->desc;
  return 0;
}

Handle file_options(const Communicator& comm) {
  Handle options(FST_H5_CHECK(H5Pcreate(H5P_FILE_ACCESS)), H5Pclose);
  FST_H5_CHECK(H5Pset_libver_bounds(options.id(), H5F_LIBVER_EARLIEST, H5F_LIBVER_V18));
  if (comm.size() > 1) {
    FST_H5_CHECK(H5Pset_fapl_mpio(options.id(), native(comm), MPI_INFO_NULL));
  } else {
    // RunLock keeps writers apart; flock inside HDF5 fails on some network file systems.
    FST_H5_CHECK(H5Pset_file_locking(options.id(), false, true));
  }
  return options;
}

Handle group_maker() {
  Handle options(FST_H5_CHECK(H5Pcreate(H5P_LINK_CREATE)), H5Pclose);
  FST_H5_CHECK(H5Pset_create_intermediate_group(options.id(), 1));
  return options;
}

Handle simple_space(const std::vector<hsize_t>& dims, const hsize_t* most) {
  return {FST_H5_CHECK(H5Screate_simple(static_cast<int>(dims.size()), dims.data(), most)),
          H5Sclose};
}

std::vector<hsize_t> extent_of(const Handle& space) {
  const auto rank = FST_H5_CHECK(H5Sget_simple_extent_ndims(space.id()));
  std::vector<hsize_t> sizes(static_cast<std::size_t>(rank));
  FST_H5_CHECK(H5Sget_simple_extent_dims(space.id(), sizes.data(), nullptr));
  return sizes;
}

herr_t note_dataset(hid_t, const char* name, const H5O_info_t* object, void* into) {
  if (object->type == H5O_TYPE_DATASET) {
    static_cast<std::vector<std::string>*>(into)->push_back(std::string("/") + name);
  }
  return 0;
}

}  // namespace

hid_t check(hid_t code, const char* call) {
  if (code >= 0) return code;
  std::string reason;
  if (H5Ewalk2(H5E_DEFAULT, H5E_WALK_DOWNWARD, keep_reason, &reason) < 0) reason.clear();
  throw Error("HDF5: " + std::string(call) + ": " + (reason.empty() ? "failed" : reason));
}

Handle& Handle::operator=(Handle&& other) noexcept {
  if (this != &other) {
    release();
    id_ = std::exchange(other.id_, -1);
    close_ = other.close_;
  }
  return *this;
}

void Handle::close(const char* what) {
  if (id_ >= 0) check(close_(std::exchange(id_, -1)), what);
}

void Handle::release() {
  if (id_ >= 0 && close_(std::exchange(id_, -1)) < 0) log::warn("HDF5: a handle did not close");
}

std::size_t bytes_of(Element element) {
  return kind_of(element).bytes;
}
const char* name_of(Element element) {
  return element == Element::other ? "other" : kind_of(element).name;
}

File File::create(const std::filesystem::path& file, const Communicator& comm) {
  start();
  const Handle access = file_options(comm);
  const Handle making(FST_H5_CHECK(H5Pcreate(H5P_FILE_CREATE)), H5Pclose);
  FST_H5_CHECK(H5Pset_userblock(making.id(), envelope_bytes));
  const hid_t id = H5Fcreate(file.c_str(), H5F_ACC_TRUNC, making.id(), access.id());
  return {file, Handle(check(id, ("create " + file.string()).c_str()), H5Fclose)};
}

File File::open(const std::filesystem::path& file) {
  start();
  const Handle access = file_options(Communicator::self());
  const hid_t id = H5Fopen(file.c_str(), H5F_ACC_RDONLY, access.id());
  return {file, Handle(check(id, ("open " + file.string()).c_str()), H5Fclose)};
}

File File::open_to_append(const std::filesystem::path& file) {
  start();
  const Handle access = file_options(Communicator::self());
  const hid_t id = H5Fopen(file.c_str(), H5F_ACC_RDWR, access.id());
  return {file, Handle(check(id, ("open " + file.string()).c_str()), H5Fclose)};
}

void File::close() {
  file_.close(("close " + path_.string()).c_str());
}

bool File::has(const std::string& path) const {
  // Each link on the way must be asked for: H5Lexists fails where a group is missing.
  for (std::size_t end = path.find('/', 1);; end = path.find('/', end + 1)) {
    const htri_t there = H5Lexists(file_.id(), path.substr(0, end).c_str(), H5P_DEFAULT);
    FST_H5_CHECK(there);
    if (there == 0) return false;
    if (end == std::string::npos) return true;
  }
}

std::vector<std::string> File::datasets() const {
  std::vector<std::string> paths;
  FST_H5_CHECK(
      H5Ovisit2(file_.id(), H5_INDEX_NAME, H5_ITER_INC, note_dataset, &paths, H5O_INFO_BASIC));
  std::sort(paths.begin(), paths.end());
  return paths;
}

Handle File::dataset(const std::string& path) const {
  const hid_t id = H5Dopen2(file_.id(), path.c_str(), H5P_DEFAULT);
  if (id < 0) throw Error(path_.string() + ": there is no dataset " + path);
  return {id, H5Dclose};
}

void File::make(const std::string& path, Element element, const Handle& space,
                const Handle& options) {
  const Handle links = group_maker();
  const hid_t id = H5Dcreate2(file_.id(), path.c_str(), kind_of(element).file, space.id(),
                              links.id(), options.id(), H5P_DEFAULT);
  const Handle made(check(id, ("make " + path).c_str()), H5Dclose);
}

void File::make(const std::string& path, Element element, std::vector<std::int64_t> dims) {
  const std::vector<hsize_t> sizes(dims.begin(), dims.end());
  const Handle space = simple_space(sizes, nullptr);
  const Handle options(FST_H5_CHECK(H5Pcreate(H5P_DATASET_CREATE)), H5Pclose);
  FST_H5_CHECK(H5Pset_fill_time(options.id(), H5D_FILL_TIME_NEVER));
  FST_H5_CHECK(H5Pset_obj_track_times(options.id(), false));  // equal contents, equal bytes
  make(path, element, space, options);
}

void File::make_growing(const std::string& path, Element element, std::int64_t chunk,
                        bool compress) {
  const hsize_t none = H5S_UNLIMITED;
  const Handle space = simple_space({0}, &none);
  const Handle options(FST_H5_CHECK(H5Pcreate(H5P_DATASET_CREATE)), H5Pclose);
  const auto length = static_cast<hsize_t>(chunk);
  FST_H5_CHECK(H5Pset_chunk(options.id(), 1, &length));
  FST_H5_CHECK(H5Pset_obj_track_times(options.id(), false));
  if (compress) {
    FST_H5_CHECK(H5Pset_shuffle(options.id()));
    FST_H5_CHECK(H5Pset_deflate(options.id(), 1));
  }
  make(path, element, space, options);
}

Element File::element(const std::string& path) const {
  const Handle set = dataset(path);
  const Handle type(FST_H5_CHECK(H5Dget_type(set.id())), H5Tclose);
  for (const Kind& kind : kinds()) {
    if (H5Tequal(type.id(), kind.file) > 0) return kind.element;
  }
  return Element::other;
}

std::vector<std::int64_t> File::dims(const std::string& path) const {
  const Handle set = dataset(path);
  const Handle space(FST_H5_CHECK(H5Dget_space(set.id())), H5Sclose);
  const auto sizes = extent_of(space);
  return {sizes.begin(), sizes.end()};
}

std::int64_t File::size(const std::string& path) const {
  const auto sizes = dims(path);
  return std::accumulate(sizes.begin(), sizes.end(), std::int64_t{1}, std::multiplies<>());
}

void File::resize(const std::string& path, std::int64_t size) {
  const Handle set = dataset(path);
  const auto length = static_cast<hsize_t>(size);
  FST_H5_CHECK(H5Dset_extent(set.id(), &length));
}

void File::transfer(const std::string& path, Element element, std::int64_t begin, std::size_t bytes,
                    void* into, const void* from) const {
  const Kind kind = kind_of(element);
  const Handle set = dataset(path);
  const Handle space(FST_H5_CHECK(H5Dget_space(set.id())), H5Sclose);
  const Handle type(FST_H5_CHECK(H5Dget_type(set.id())), H5Tclose);
  const auto total = FST_H5_CHECK(H5Sget_simple_extent_npoints(space.id()));
  const std::string what = path_.string() + ": " + path;
  if (H5Tequal(type.id(), kind.file) <= 0) throw Error(what + " is not of type " + kind.name);
  const auto count = static_cast<std::int64_t>(bytes / kind.bytes);
  if (begin < 0 || begin + count > total) {
    throw Error(what + " has " + std::to_string(total) + " elements, wanted are [" +
                std::to_string(begin) + ", " + std::to_string(begin + count) + ")");
  }
  if (count == 0) return;
  hid_t memory = H5S_ALL, part = H5S_ALL;
  Handle memory_space;
  if (count != total) {  // else all of it, whatever its rank
    std::vector<hsize_t> first(1), length = extent_of(space);
    const std::int64_t row = total / static_cast<std::int64_t>(length.front());
    if (begin % row != 0 || count % row != 0) throw Error(what + ": only whole rows can be moved");
    first.resize(length.size(), 0);
    first.front() = static_cast<hsize_t>(begin / row);
    length.front() = static_cast<hsize_t>(count / row);
    FST_H5_CHECK(H5Sselect_hyperslab(space.id(), H5S_SELECT_SET, first.data(), nullptr,
                                     length.data(), nullptr));
    memory_space = simple_space(length, nullptr);
    memory = memory_space.id();
    part = space.id();
  }
  const herr_t code = into != nullptr
                          ? H5Dread(set.id(), kind.memory, memory, part, H5P_DEFAULT, into)
                          : H5Dwrite(set.id(), kind.memory, memory, part, H5P_DEFAULT, from);
  check(code, ((into != nullptr ? "read " : "write ") + what).c_str());
}

void File::write_bytes(const std::string& path, Element element, std::int64_t begin,
                       std::span<const std::byte> bytes) {
  transfer(path, element, begin, bytes.size(), nullptr, bytes.data());
}

void File::write_runs(const std::string& path, Element element, std::int64_t begin,
                      std::int64_t width, std::int64_t stride, std::span<const std::byte> bytes) {
  const Kind kind = kind_of(element);
  const Handle set = dataset(path);
  const Handle space(FST_H5_CHECK(H5Dget_space(set.id())), H5Sclose);
  const auto count = static_cast<std::int64_t>(bytes.size() / kind.bytes);
  const std::vector<hsize_t> extent = extent_of(space);
  if (width < 1 || stride < width || count % width != 0 || extent.size() != 1) {
    throw Error(path_.string() + ": " + path + ": " + std::to_string(count) +
                " elements are no runs of " + std::to_string(width) + ", " +
                std::to_string(stride) + " apart, of a list");
  }
  if (count == 0) return;
  const std::int64_t end = begin + (count / width - 1) * stride + width;
  if (begin < 0 || end > static_cast<std::int64_t>(extent.front())) {
    throw Error(path_.string() + ": " + path + " has " + std::to_string(extent.front()) +
                " elements, wanted are runs in [" + std::to_string(begin) + ", " +
                std::to_string(end) + ")");
  }
  const auto at = static_cast<hsize_t>(begin), step = static_cast<hsize_t>(stride);
  const auto runs = static_cast<hsize_t>(count / width), block = static_cast<hsize_t>(width);
  FST_H5_CHECK(H5Sselect_hyperslab(space.id(), H5S_SELECT_SET, &at, &step, &runs, &block));
  const Handle memory = simple_space({static_cast<hsize_t>(count)}, nullptr);
  FST_H5_CHECK(H5Dwrite(set.id(), kind.memory, memory.id(), space.id(), H5P_DEFAULT, bytes.data()));
}

void File::read_bytes(const std::string& path, Element element, std::int64_t begin,
                      std::span<std::byte> bytes) const {
  if (!bytes.empty()) transfer(path, element, begin, bytes.size(), bytes.data(), nullptr);
}

}  // namespace fst::h5
