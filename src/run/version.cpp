#include "fst/run/version.h"

#include <boost/version.hpp>

#include "fst/comm/device_exchange.h"
#include "fst/store/library.h"
#include "fst/tensor/device.h"
#include "fst/tensor/library_attention.h"
#include "fst/tensor/products.h"

#include "kernels/exec.h"

#ifndef FST_VERSION
#define FST_VERSION "0"
#endif
#ifndef FST_GIT_COMMIT
#define FST_GIT_COMMIT ""
#endif

namespace fst {

std::string version() {
  return FST_VERSION;
}

std::string git_commit() {
  const std::string commit = FST_GIT_COMMIT;
  return commit.empty() ? "unknown" : commit;
}

std::string version_line() {
  return "fst " + version() + " (commit " + git_commit() + ")";
}

std::string version_report() {
  std::string text = version_line() + "\n";
  text += "compiler     GCC " __VERSION__ "\n";
  text += "boost        " + std::to_string(BOOST_VERSION / 100000) + "." +
          std::to_string(BOOST_VERSION / 100 % 1000) + "\n";
  text += library_versions();
  text +=
      std::string("kernels      cpu; best here: ") + kernels::name_of(kernels::best_isa()) + "\n";
  text += "cuda         " + Device::cuda_support() + "\n";
  text += "nccl         " + nccl_support() + "\n";
  text += "cublaslt     " + cublaslt_support() + "\n";
  text += "cudnn        " + cudnn_support() + "\n";
  return text;
}

}  // namespace fst
