#include "cudnn_api.h"

#include "kernels/shared_library.h"

namespace fst {

namespace {

constexpr const char* usual_name = "libcudnn.so.9";

std::string text_of(std::size_t version) {
  return std::to_string(version / 10000) + "." + std::to_string(version % 10000 / 100) + "." +
         std::to_string(version % 100);
}

void look_up(CudnnApi& api, kernels::SharedLibrary& library) {
  library.find(api.get_error_string, "cudnnGetErrorString");
  library.find(api.get_last_error_string, "cudnnGetLastErrorString");
  library.find(api.create, "cudnnCreate");
  library.find(api.destroy, "cudnnDestroy");
  library.find(api.set_stream, "cudnnSetStream");
  library.find(api.create_descriptor, "cudnnBackendCreateDescriptor");
  library.find(api.destroy_descriptor, "cudnnBackendDestroyDescriptor");
  library.find(api.finalize, "cudnnBackendFinalize");
  library.find(api.set_attribute, "cudnnBackendSetAttribute");
  library.find(api.get_attribute, "cudnnBackendGetAttribute");
  library.find(api.execute, "cudnnBackendExecute");
}

CudnnLibrary open_library() {
  CudnnLibrary cudnn;
  kernels::SharedLibrary library("FST_CUDNN_LIBRARY", {usual_name});
  if (!library.opened()) {
    cudnn.problem = library.problem();
    return cudnn;
  }
  library.find(cudnn.api.get_version, "cudnnGetVersion");
  if (cudnn.api.get_version == nullptr) {
    cudnn.problem = library.name() + " does not tell its version";
    return cudnn;
  }
  cudnn.version = cudnn.api.get_version();
  if (cudnn.version < cudnn::oldest_version) {
    cudnn.problem = library.name() + " is version " + cudnn.version_text() + "; at least " +
                    text_of(cudnn::oldest_version) + " is needed";
    return cudnn;
  }
  look_up(cudnn.api, library);
  if (!library.missing().empty()) {
    cudnn.problem = library.name() + " has no " + library.missing();
  }
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
