#pragma once

#include <string>

namespace fst {

/// The HDF5 and MPI libraries at run time, one "name   version" a line. Needs no MPI_Init.
std::string library_versions();

}  // namespace fst
