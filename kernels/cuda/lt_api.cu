#include "kernels/cuda/lt_api.h"
#include "kernels/shared_library.h"

namespace fst::kernels {

namespace {

std::string text_of(std::size_t version) {
  return std::to_string(version / 10000) + "." + std::to_string(version % 10000 / 100) + "." +
         std::to_string(version % 100);
}

/// NVIDIA's knows nothing of an emulator's memory and must never see an address of it: beside an
/// emulated run time (tests/emulator) only a library that is named is opened.
std::vector<std::string> usual_names() {
#if defined(__CUDACC__)
  return {"libcublasLt.so.13", "libcublasLt.so.12"};
#else
  return {};
#endif
}

LtLibrary open_library() {
  LtLibrary opened;
  SharedLibrary library("FST_CUBLASLT_LIBRARY", usual_names());
  if (!library.opened()) {
    opened.problem = library.problem().empty()
                         ? "GPUs are emulated and FST_CUBLASLT_LIBRARY is not set"
                         : library.problem();
    return opened;
  }
  LtApi& api = opened.api;
  library.find(api.get_version, "cublasLtGetVersion");
  library.find(api.get_status_string, "cublasLtGetStatusString");
  library.find(api.create, "cublasLtCreate");
  library.find(api.destroy, "cublasLtDestroy");
  library.find(api.operation_create, "cublasLtMatmulDescCreate");
  library.find(api.operation_destroy, "cublasLtMatmulDescDestroy");
  library.find(api.operation_set, "cublasLtMatmulDescSetAttribute");
  library.find(api.layout_create, "cublasLtMatrixLayoutCreate");
  library.find(api.layout_destroy, "cublasLtMatrixLayoutDestroy");
  library.find(api.layout_set, "cublasLtMatrixLayoutSetAttribute");
  library.find(api.preference_create, "cublasLtMatmulPreferenceCreate");
  library.find(api.preference_destroy, "cublasLtMatmulPreferenceDestroy");
  library.find(api.preference_set, "cublasLtMatmulPreferenceSetAttribute");
  library.find(api.candidates, "cublasLtMatmulAlgoGetHeuristic");
  library.find(api.algorithm_get, "cublasLtMatmulAlgoConfigGetAttribute");
  library.find(api.multiply, "cublasLtMatmul");
  if (!library.missing().empty()) {
    opened.problem = "the cuBLASLt here has no " + library.missing();
    return opened;
  }
  opened.version = api.get_version();
  if (opened.version < lt::oldest_version) {
    opened.problem = "cuBLASLt is version " + opened.version_text() + "; at least " +
                     text_of(lt::oldest_version) + " is needed";
  }
  return opened;
}

}  // namespace

std::string LtLibrary::version_text() const {
  return text_of(version);
}

const LtLibrary& lt_library() {
  static const LtLibrary library = open_library();
  return library;
}

}  // namespace fst::kernels
