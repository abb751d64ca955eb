#pragma once

#include <cstdint>
#include <filesystem>
#include <stdexcept>
#include <string>
#include <vector>

#include <hdf5.h>

namespace fst::testing {

/// Just enough of HDF5 to read golden data. Failures throw std::runtime_error: a test that cannot
/// read its data must not pass.
class GoldenFile {
 public:
  explicit GoldenFile(const std::filesystem::path& path)
      : file_(H5Fopen(path.c_str(), H5F_ACC_RDONLY, H5P_DEFAULT)) {
    if (file_ < 0) throw std::runtime_error(path.string() + ": cannot be opened");
  }
  GoldenFile(const GoldenFile&) = delete;
  GoldenFile& operator=(const GoldenFile&) = delete;
  ~GoldenFile() { H5Fclose(file_); }

  /// Names of what lies in a group, ascending; empty if there is no such group.
  std::vector<std::string> names(const std::string& group) const {
    std::vector<std::string> names;
    if (!exists(group)) return names;
    const auto collect = [](hid_t, const char* name, const H5L_info_t*, void* list) -> herr_t {
      static_cast<std::vector<std::string>*>(list)->emplace_back(name);
      return 0;
    };
    const herr_t status = H5Literate_by_name(file_, group.c_str(), H5_INDEX_NAME, H5_ITER_INC,
                                             nullptr, collect, &names, H5P_DEFAULT);
    if (status < 0) throw std::runtime_error(group + ": cannot be listed");
    return names;
  }

  /// Whether an absolute path leads to something.
  bool exists(const std::string& path) const {
    for (std::size_t slash = path.find('/', 1);; slash = path.find('/', slash + 1)) {
      if (H5Lexists(file_, path.substr(0, slash).c_str(), H5P_DEFAULT) <= 0) return false;
      if (slash == std::string::npos) return true;
    }
  }

  std::vector<float> floats(const std::string& path) const {
    return read<float>(path, H5T_NATIVE_FLOAT);
  }
  std::vector<std::int32_t> ints(const std::string& path) const {
    return read<std::int32_t>(path, H5T_NATIVE_INT32);
  }

  /// A numeric attribute of the object at `path`, or `missing`.
  double attribute(const std::string& path, const char* name, double missing) const {
    if (H5Aexists_by_name(file_, path.c_str(), name, H5P_DEFAULT) <= 0) return missing;
    const hid_t id = H5Aopen_by_name(file_, path.c_str(), name, H5P_DEFAULT, H5P_DEFAULT);
    double value = 0.0;
    const herr_t status = H5Aread(id, H5T_NATIVE_DOUBLE, &value);
    H5Aclose(id);
    if (status < 0) throw std::runtime_error(path + ": attribute " + name + " is unreadable");
    return value;
  }

 private:
  template <class T>
  std::vector<T> read(const std::string& path, hid_t type) const {
    const hid_t dataset = H5Dopen2(file_, path.c_str(), H5P_DEFAULT);
    if (dataset < 0) throw std::runtime_error(path + ": no such dataset");
    const hid_t space = H5Dget_space(dataset);
    std::vector<T> values(static_cast<std::size_t>(H5Sget_simple_extent_npoints(space)));
    const herr_t status =
        values.empty() ? 0 : H5Dread(dataset, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, values.data());
    H5Sclose(space);
    H5Dclose(dataset);
    if (status < 0) throw std::runtime_error(path + ": unreadable");
    return values;
  }

  hid_t file_;
};

}  // namespace fst::testing
