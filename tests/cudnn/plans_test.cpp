#include <string>

#include <gtest/gtest.h>

#include "src/tensor/cudnn_attention.h"

// cuDNN itself, of this machine, makes the plans for an H100 that need not be there: its
// heuristics accept the graphs, it compiles their kernels and tells their working memory. With a
// driver that has no device (no_driver.cpp), so nothing is loaded or run.
namespace fst::cudnn {
namespace {

// What cudaGetDeviceProperties tells of an H100 SXM5 with 80 GB, in cuDNN's words.
constexpr const char* h100 = R"({"schemaVersion": 1, "deviceName": "NVIDIA H100 80GB HBM3",
  "deviceVer": 900, "driverVer": 13000, "cudaDeviceId": 0, "pciDeviceId": 0, "isTccDriver": 0,
  "multiProcessorCount": 132, "maxThreadsPerSM": 2048, "maxCtasPerSM": 32,
  "maxRegistersPerSM": 65536, "regsPerBlock": 65536, "maxThreadsPerBlock": 1024,
  "maxBlockSize": [1024, 1024, 64], "maxGridSize": [2147483647, 65535, 65535], "warpSize": 32,
  "maxSharedMemoryPerBlock": 49152, "maxSharedMemoryPerBlockOptin": 232448,
  "reservedSharedMemoryPerBlock": 1024, "supportCoopLaunch": 1, "totalGlobalMem": 85017755648,
  "l2CacheSize": 52428800, "smClockRateKHz": 1980000, "memClockRateKHz": 2619000})";

struct Heads {
  std::int64_t heads, kv_heads, dim;
};

AttentionShape shape_of(const Heads& heads, std::int64_t sequences, std::int64_t rows) {
  const std::int64_t q = heads.heads * heads.dim, kv = heads.kv_heads * heads.dim;
  return {sequences, rows, heads.heads, heads.kv_heads, heads.dim, q, kv, q + 2 * kv, heads.heads};
}

class Plans : public testing::Test {
 protected:
  void SetUp() override {
    const CudnnLibrary& library = cudnn_library();
    if (!library.problem.empty()) GTEST_SKIP() << "no plan is made: " << library.problem;
    const std::string json = h100;
    properties_ = std::make_unique<Descriptor>(Kind::device_properties);
    properties_->set(Attribute::device_json, Element::character,
                     static_cast<std::int64_t>(json.size()), json.data());
    properties_->finalize();
  }
  Target target() const { return {nullptr, properties_.get()}; }

 private:
  std::unique_ptr<Descriptor> properties_;
};

// Qwen3-8B's heads, the tiny model's, and one without groups: a plan of its own each. About half a
// second a plan on a quiet machine.
TEST_F(Plans, AreMadeForAnH100ThatIsNotThere) {
  for (const Heads& heads : {Heads{32, 8, 128}, Heads{4, 2, 16}, Heads{4, 4, 64}}) {
    const AttentionShape shape = shape_of(heads, 4, 1280);
    EXPECT_LT(forward_plan(shape, target()).workspace(), 1 << 20);
    EXPECT_GT(backward_plan(shape, target()).workspace(), 0);
  }
}

TEST_F(Plans, OfAPartOfTheHeadsAreMadeToo) {
  AttentionShape shape = shape_of({16, 8, 128}, 1, 4096);
  shape.heads = 2;
  shape.kv_heads = 1;
  EXPECT_GT(backward_plan(shape, target()).workspace(), 0);
}

// The deterministic backward pass keeps ds of all pairs, in bf16: what attention_pieces() counts
// with. The rest grows with the rows alone.
TEST_F(Plans, OfTheBackwardPassTakeTwoBytesAHeadAndPairOfRows) {
  constexpr std::int64_t sequences = 2, rows = 8192;
  const Heads heads{16, 8, 128};
  const std::int64_t pairs = 2 * sequences * heads.heads * rows * rows;
  const std::int64_t bytes = backward_plan(shape_of(heads, sequences, rows), target()).workspace();
  EXPECT_GE(bytes, pairs);
  EXPECT_LE(bytes, pairs + pairs / 10);
}

TEST_F(Plans, ThatCudnnDoesNotSupportAreRefusedWithItsReason) {
  try {
    forward_plan(shape_of({4, 2, 12}, 1, 128), target());  // cuDNN takes multiples of 8
    FAIL() << "12 elements a head were taken";
  } catch (const std::exception& error) {
    EXPECT_EQ("cuDNN " + cudnn_library().version_text() +
                  " has no plan for attention of 1 x 128 rows, 4/2 heads of 12; its heuristics "
                  "name no engine",
              error.what());
  }
}

}  // namespace
}  // namespace fst::cudnn
