#pragma once

#include <climits>
#include <cstddef>
#include <string>

struct ncclComm;  // NCCL's own

namespace fst {

/// What the program uses of NCCL's public interface (nccl.h of release 2.14 and later), declared
/// here since the library is opened at run time and its header need not be there.
/// tests/nccl/header_check.cpp compares this with a header that is.
namespace nccl {

using Comm = ncclComm*;
struct UniqueId {
  char internal[128];
};
enum Result : int { success = 0, in_progress = 7 };  // others are errors
enum Type : int { u8 = 1, i32 = 2, i64 = 4, f16 = 6, f32 = 7, f64 = 8, bf16 = 9 };
/// ncclConfig_t as release 2.14 has it: later ones have more fields behind, and go by `size` and
/// `version`.
struct Config {
  std::size_t size = sizeof(Config);
  unsigned magic = 0xcafebeef;
  unsigned version = 21400;
  int blocking = INT_MIN;
  int unused = INT_MIN;  // padding; of 2.17 on cgaClusterSize, and this is "not set"
};
/// The first release with communicators that do not block.
inline constexpr int oldest_version = 21400;

}  // namespace nccl

/// The functions of NCCL, with its names and meaning. Streams are cudaStream_t.
struct NcclApi {
  nccl::Result (*get_version)(int* version) = nullptr;
  nccl::Result (*get_unique_id)(nccl::UniqueId* id) = nullptr;
  nccl::Result (*comm_init_rank_config)(nccl::Comm* comm, int ranks, nccl::UniqueId id, int rank,
                                        nccl::Config* config) = nullptr;
  nccl::Result (*comm_destroy)(nccl::Comm comm) = nullptr;
  nccl::Result (*comm_abort)(nccl::Comm comm) = nullptr;
  nccl::Result (*comm_get_async_error)(nccl::Comm comm, nccl::Result* state) = nullptr;
  const char* (*get_error_string)(nccl::Result result) = nullptr;
  const char* (*get_last_error)(nccl::Comm comm) = nullptr;
  nccl::Result (*group_start)() = nullptr;
  nccl::Result (*group_end)() = nullptr;
  nccl::Result (*send)(const void* from, std::size_t count, nccl::Type type, int peer,
                       nccl::Comm comm, void* stream) = nullptr;
  nccl::Result (*recv)(void* to, std::size_t count, nccl::Type type, int peer, nccl::Comm comm,
                       void* stream) = nullptr;
  nccl::Result (*all_gather)(const void* mine, void* all, std::size_t count, nccl::Type type,
                             nccl::Comm comm, void* stream) = nullptr;
  nccl::Result (*broadcast)(const void* from, void* to, std::size_t count, nccl::Type type,
                            int root, nccl::Comm comm, void* stream) = nullptr;
};

/// NCCL on this machine, or why it is not there.
struct NcclLibrary {
  NcclApi api;
  int version = 0;      // 10000 * major + 100 * minor + patch
  std::string problem;  // why it cannot be used; "": it can

  /// "2.28.9"
  std::string version_text() const;
};

/// Opens libnccl.so.2, or what the environment variable FST_NCCL_LIBRARY names; once.
const NcclLibrary& nccl_library();

}  // namespace fst
