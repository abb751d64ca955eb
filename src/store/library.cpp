#include "fst/store/library.h"

#include <hdf5.h>

#include "fst/base/error.h"
#include "fst/comm/mpi.h"

namespace fst {

std::string library_versions() {
  unsigned major = 0, minor = 0, release = 0;
  if (H5get_libversion(&major, &minor, &release) < 0) throw Error("HDF5: no version");
  std::string mpi(MPI_MAX_LIBRARY_VERSION_STRING, '\0');
  int length = 0;
  FST_MPI_CHECK(MPI_Get_library_version(mpi.data(), &length));
  mpi.resize(static_cast<std::size_t>(length));
  return "hdf5         " + std::to_string(major) + "." + std::to_string(minor) + "." +
         std::to_string(release) + "\nmpi          " + mpi.substr(0, mpi.find_first_of(",\n")) +
         "\n";
}

}  // namespace fst
