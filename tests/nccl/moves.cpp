#include "moves.h"

#include <cstdlib>
#include <dlfcn.h>
#include <sstream>
#include <stdexcept>

#include <mpi.h>

#include "src/comm/nccl_api.h"

namespace fst::test {

namespace {

bool noting = false;
std::vector<Move> by_mpi;

void note(const char* kind, int bytes, MPI_Datatype type, int peer) {
  if (noting && type == MPI_BYTE) by_mpi.push_back({kind, bytes, peer});
}

template <class Function>
Function recorder_function(const char* name) {
  void* const library = dlopen(std::getenv("FST_NCCL_LIBRARY"), RTLD_NOW | RTLD_LOCAL);
  void* const found = library == nullptr ? nullptr : dlsym(library, name);
  if (found == nullptr) throw std::runtime_error("no recorder: set FST_NCCL_LIBRARY");
  return reinterpret_cast<Function>(found);
}

std::int64_t size_of_type(int type) {
  switch (type) {
    case nccl::u8:
      return 1;
    case nccl::i64:
    case nccl::f64:
      return 8;
    case nccl::f16:
    case nccl::bf16:
      return 2;
    default:
      return 4;
  }
}

}  // namespace

void note_moves() {
  by_mpi.clear();
  noting = true;
  recorder_function<void (*)()>("fst_recorder_clear")();
}

std::vector<Move> moves_by_mpi() {
  noting = false;
  return by_mpi;
}

std::vector<Move> moves_by_nccl() {
  std::istringstream log(recorder_function<const char* (*)()>("fst_recorder_log")());
  std::vector<Move> moves;
  Move move;
  for (int type = 0; log >> move.kind >> move.bytes >> type >> move.peer;) {
    move.bytes *= size_of_type(type);
    moves.push_back(move);
  }
  return moves;
}

std::int64_t pieces_come() {
  return recorder_function<std::int64_t (*)()>("fst_recorder_moved")();
}

}  // namespace fst::test

// In place of MPI's own functions of these names, which the profiling interface keeps as PMPI_*.
extern "C" {

int MPI_Isend(const void* from, int count, MPI_Datatype type, int to, int tag, MPI_Comm comm,
              MPI_Request* request) {
  fst::test::note("send", count, type, to);
  return PMPI_Isend(from, count, type, to, tag, comm, request);
}

int MPI_Irecv(void* to, int count, MPI_Datatype type, int from, int tag, MPI_Comm comm,
              MPI_Request* request) {
  fst::test::note("recv", count, type, from);
  return PMPI_Irecv(to, count, type, from, tag, comm, request);
}

int MPI_Iallgather(const void* mine, int count, MPI_Datatype type, void* all, int all_count,
                   MPI_Datatype all_type, MPI_Comm comm, MPI_Request* request) {
  fst::test::note("all_gather", count, type, 0);
  return PMPI_Iallgather(mine, count, type, all, all_count, all_type, comm, request);
}

int MPI_Ibcast(void* x, int count, MPI_Datatype type, int root, MPI_Comm comm,
               MPI_Request* request) {
  fst::test::note("broadcast", count, type, root);
  return PMPI_Ibcast(x, count, type, root, comm, request);
}

}  // extern "C"
