#include "nccl_api.h"

#include "fst/comm/device_exchange.h"

#include "kernels/shared_library.h"

namespace fst {

namespace {

constexpr const char* usual_name = "libnccl.so.2";
constexpr int old_code_until = 10000;  // up to 2.8 a version was 1000 * major + 100 * minor + patch

std::string text_of(int version) {
  const int major = version < old_code_until ? 1000 : 10000;
  return std::to_string(version / major) + "." + std::to_string(version % major / 100) + "." +
         std::to_string(version % 100);
}

NcclLibrary open_library() {
  NcclLibrary nccl;
  kernels::SharedLibrary library("FST_NCCL_LIBRARY", {usual_name});
  if (!library.opened()) {
    nccl.problem = library.problem();
    return nccl;
  }
  NcclApi& api = nccl.api;
  library.find(api.get_version, "ncclGetVersion");
  library.find(api.get_unique_id, "ncclGetUniqueId");
  library.find(api.comm_init_rank_config, "ncclCommInitRankConfig");
  library.find(api.comm_destroy, "ncclCommDestroy");
  library.find(api.comm_abort, "ncclCommAbort");
  library.find(api.comm_get_async_error, "ncclCommGetAsyncError");
  library.find(api.get_error_string, "ncclGetErrorString");
  library.find(api.get_last_error, "ncclGetLastError");
  library.find(api.group_start, "ncclGroupStart");
  library.find(api.group_end, "ncclGroupEnd");
  library.find(api.send, "ncclSend");
  library.find(api.recv, "ncclRecv");
  library.find(api.all_gather, "ncclAllGather");
  library.find(api.broadcast, "ncclBroadcast");
  if (api.get_version == nullptr || api.get_version(&nccl.version) != nccl::success) {
    nccl.problem = library.name() + " does not tell its version";
  } else if (nccl.version < nccl::oldest_version) {
    nccl.problem = library.name() + " is version " + nccl.version_text() + "; at least " +
                   text_of(nccl::oldest_version) + " is needed";
  } else if (!library.missing().empty()) {
    nccl.problem = library.name() + " has no " + library.missing();
  }
  return nccl;
}

}  // namespace

std::string NcclLibrary::version_text() const {
  return text_of(version);
}

const NcclLibrary& nccl_library() {
  static const NcclLibrary library = open_library();
  return library;
}

std::string nccl_support() {
  const NcclLibrary& library = nccl_library();
  return library.problem.empty() ? library.version_text() : "none (" + library.problem + ")";
}

bool nccl_usable() {
  return nccl_library().problem.empty();
}

}  // namespace fst
