#include "nccl_api.h"

#include <cstdlib>
#include <dlfcn.h>

#include "fst/comm/device_exchange.h"

namespace fst {

namespace {

constexpr const char* usual_name = "libnccl.so.2";
constexpr int old_code_until = 10000;  // up to 2.8 a version was 1000 * major + 100 * minor + patch

std::string text_of(int version) {
  const int major = version < old_code_until ? 1000 : 10000;
  return std::to_string(version / major) + "." + std::to_string(version % major / 100) + "." +
         std::to_string(version % 100);
}

/// Looks up functions until one is missing, whose name it keeps.
class Symbols {
 public:
  explicit Symbols(void* library) : library_(library) {}
  template <class Function>
  void find(Function& function, const char* name) {
    void* const found = missing_.empty() ? dlsym(library_, name) : nullptr;
    if (found == nullptr && missing_.empty()) missing_ = name;
    function = reinterpret_cast<Function>(found);
  }
  const std::string& missing() const { return missing_; }

 private:
  void* library_;
  std::string missing_;
};

NcclLibrary open_library() {
  NcclLibrary nccl;
  const char* const named = std::getenv("FST_NCCL_LIBRARY");
  const std::string name = named == nullptr || *named == '\0' ? usual_name : named;
  void* const library = dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL);  // until the process ends
  if (library == nullptr) {
    const char* const reason = dlerror();
    nccl.problem = reason == nullptr ? name + " cannot be opened" : reason;
    return nccl;
  }
  Symbols symbols(library);
  NcclApi& api = nccl.api;
  symbols.find(api.get_version, "ncclGetVersion");
  symbols.find(api.get_unique_id, "ncclGetUniqueId");
  symbols.find(api.comm_init_rank_config, "ncclCommInitRankConfig");
  symbols.find(api.comm_destroy, "ncclCommDestroy");
  symbols.find(api.comm_abort, "ncclCommAbort");
  symbols.find(api.comm_get_async_error, "ncclCommGetAsyncError");
  symbols.find(api.get_error_string, "ncclGetErrorString");
  symbols.find(api.get_last_error, "ncclGetLastError");
  symbols.find(api.group_start, "ncclGroupStart");
  symbols.find(api.group_end, "ncclGroupEnd");
  symbols.find(api.send, "ncclSend");
  symbols.find(api.recv, "ncclRecv");
  symbols.find(api.all_gather, "ncclAllGather");
  if (api.get_version == nullptr || api.get_version(&nccl.version) != nccl::success) {
    nccl.problem = name + " does not tell its version";
  } else if (nccl.version < nccl::oldest_version) {
    nccl.problem = name + " is version " + nccl.version_text() + "; at least " +
                   text_of(nccl::oldest_version) + " is needed";
  } else if (!symbols.missing().empty()) {
    nccl.problem = name + " has no " + symbols.missing();
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
