#pragma once

#include <mpi.h>

#include "fst/comm/communicator.h"

// For comm/ and store/ only: nothing above includes MPI.

namespace fst {

/// Throws Error with MPI's text if `code` is not MPI_SUCCESS.
void mpi_check(int code, const char* call, const char* file, int line);
/// The communicator under a Communicator of at least two members.
MPI_Comm native(const Communicator& comm);

}  // namespace fst

#define FST_MPI_CHECK(call) ::fst::mpi_check((call), #call, __FILE__, __LINE__)
