#include <cstdlib>
#include <string>

#include "batch.h"

// What the stand-in refuses as cuDNN may.
namespace fst {
namespace {

using cudnn_test::Batch;
using cudnn_test::by_library;

/// One call of the stand-in fails, while this lives.
class Planted {
 public:
  explicit Planted(const char* what) { setenv("FST_CUDNN_STAND_IN", what, 1); }
  ~Planted() { unsetenv("FST_CUDNN_STAND_IN"); }
  Planted(const Planted&) = delete;
  Planted& operator=(const Planted&) = delete;
};

TEST(CudnnFaults, AreToldWithCallAndReason) {
  Batch batch({{7}, 2, 1, 8});
  const auto message = [&](const char* fault) -> std::string {
    const Planted planted(fault);
    try {
      LibraryAttention library(batch.device);
      by_library(batch, library);
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  };
  EXPECT_EQ(message("fail:create:1"),
            "cuDNN 9.19.0: cudnnCreate: CUDNN_STATUS_EXECUTION_FAILED, planted");
  EXPECT_EQ(message("fail:execute:2"),
            "cuDNN 9.19.0: cudnnBackendExecute: CUDNN_STATUS_EXECUTION_FAILED, planted");
  EXPECT_EQ(
      message("fail:plan:4"),
      "cuDNN 9.19.0 has no plan for the gradient of attention of 1 x 128 rows, 2/1 heads of 8; "
      "CUDNN_STATUS_NOT_SUPPORTED, engine 0 is none; CUDNN_STATUS_NOT_SUPPORTED, planted");
}

}  // namespace
}  // namespace fst
