#include "cudnn_api.h"

#include <cstdlib>
#include <dlfcn.h>

namespace fst {

namespace {

constexpr const char* usual_name = "libcudnn.so.9";

std::string text_of(std::size_t version) {
  return std::to_string(version / 10000) + "." + std::to_string(version % 10000 / 100) + "." +
         std::to_string(version % 100);
}

template <class Function>
bool find(Function& function, void* library, const char* name, std::string& missing) {
  function = reinterpret_cast<Function>(dlsym(library, name));
  if (function == nullptr && missing.empty()) missing = name;
  return function != nullptr;
}

/// The name of the first function that the library lacks; "": it has all.
std::string look_up(CudnnApi& api, void* library) {
  std::string missing;
  find(api.get_error_string, library, "cudnnGetErrorString", missing);
  find(api.get_last_error_string, library, "cudnnGetLastErrorString", missing);
  find(api.create, library, "cudnnCreate", missing);
  find(api.destroy, library, "cudnnDestroy", missing);
  find(api.set_stream, library, "cudnnSetStream", missing);
  find(api.create_descriptor, library, "cudnnBackendCreateDescriptor", missing);
  find(api.destroy_descriptor, library, "cudnnBackendDestroyDescriptor", missing);
  find(api.finalize, library, "cudnnBackendFinalize", missing);
  find(api.set_attribute, library, "cudnnBackendSetAttribute", missing);
  find(api.get_attribute, library, "cudnnBackendGetAttribute", missing);
  find(api.execute, library, "cudnnBackendExecute", missing);
  return missing;
}

CudnnLibrary open_library() {
  CudnnLibrary cudnn;
  const char* const named = std::getenv("FST_CUDNN_LIBRARY");
  const std::string name = named == nullptr || *named == '\0' ? usual_name : named;
  void* const library = dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL);  // until the process ends
  if (library == nullptr) {
    const char* const reason = dlerror();
    cudnn.problem = reason == nullptr ? name + " cannot be opened" : reason;
    return cudnn;
  }
  std::string missing;
  if (!find(cudnn.api.get_version, library, "cudnnGetVersion", missing)) {
    cudnn.problem = name + " does not tell its version";
    return cudnn;
  }
  cudnn.version = cudnn.api.get_version();
  if (cudnn.version < cudnn::oldest_version) {
    cudnn.problem = name + " is version " + cudnn.version_text() + "; at least " +
                    text_of(cudnn::oldest_version) + " is needed";
    return cudnn;
  }
  missing = look_up(cudnn.api, library);
  if (!missing.empty()) cudnn.problem = name + " has no " + missing;
  return cudnn;
}

}  // namespace

std::string CudnnLibrary::version_text() const {
  return text_of(version);
}

const CudnnLibrary& cudnn_library() {
  static const CudnnLibrary library = open_library();
  return library;
}

}  // namespace fst
