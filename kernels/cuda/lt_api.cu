#include <cstdlib>
#include <dlfcn.h>
#include <vector>

#include "kernels/cuda/lt_api.h"

namespace fst::kernels {

namespace {

std::string text_of(std::size_t version) {
  return std::to_string(version / 10000) + "." + std::to_string(version % 10000 / 100) + "." +
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

/// The first of them that can be opened, for good; nullptr: none, and `problem` is why the first
/// cannot.
void* open_first(const std::vector<std::string>& names, std::string& problem) {
  for (const std::string& name : names) {
    void* const library = dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (library != nullptr) return library;
    const char* const reason = dlerror();
    if (problem.empty()) problem = reason == nullptr ? name + " cannot be opened" : reason;
  }
  return nullptr;
}

LtLibrary open_library() {
  LtLibrary opened;
  const char* const named = std::getenv("FST_CUBLASLT_LIBRARY");
  const bool chosen = named != nullptr && *named != '\0';
  std::string problem;
  void* const library =
      open_first(chosen ? std::vector<std::string>{named}
                        : std::vector<std::string>{"libcublasLt.so.13", "libcublasLt.so.12"},
                 problem);
  if (library == nullptr) {
    opened.problem = problem;
    return opened;
  }
  Symbols symbols(library);
  LtApi& api = opened.api;
  symbols.find(api.get_version, "cublasLtGetVersion");
  symbols.find(api.get_status_string, "cublasLtGetStatusString");
  symbols.find(api.create, "cublasLtCreate");
  symbols.find(api.destroy, "cublasLtDestroy");
  symbols.find(api.operation_create, "cublasLtMatmulDescCreate");
  symbols.find(api.operation_destroy, "cublasLtMatmulDescDestroy");
  symbols.find(api.operation_set, "cublasLtMatmulDescSetAttribute");
  symbols.find(api.layout_create, "cublasLtMatrixLayoutCreate");
  symbols.find(api.layout_destroy, "cublasLtMatrixLayoutDestroy");
  symbols.find(api.layout_set, "cublasLtMatrixLayoutSetAttribute");
  symbols.find(api.preference_create, "cublasLtMatmulPreferenceCreate");
  symbols.find(api.preference_destroy, "cublasLtMatmulPreferenceDestroy");
  symbols.find(api.preference_set, "cublasLtMatmulPreferenceSetAttribute");
  symbols.find(api.candidates, "cublasLtMatmulAlgoGetHeuristic");
  symbols.find(api.algorithm_get, "cublasLtMatmulAlgoConfigGetAttribute");
  symbols.find(api.multiply, "cublasLtMatmul");
  if (!symbols.missing().empty()) {
    opened.problem = "the cuBLASLt here has no " + symbols.missing();
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
