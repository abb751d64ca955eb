#include <string>

#include "batch.h"

// Attention by cuDNN's graphs beside our own kernels. On an emulated GPU the library is
// stand_in.cpp, which computes whatever graph it is given in float; on a GPU it is cuDNN.
namespace fst {
namespace {

using cudnn_test::Batch;
using cudnn_test::by_library;
using cudnn_test::by_own;
using cudnn_test::distance;
using cudnn_test::expect_same_bits;
using cudnn_test::large;
using cudnn_test::Results;
using cudnn_test::Sizes;

/// Root mean square of the difference over that of the values. Ours rounds a result once, the
/// graphs also round the law and ds to bf16 before they are multiplied: 2^-9 each, at random.
constexpr double tolerance = 0.006;
constexpr double lse_tolerance = 1e-5;  // float32, other orders

void expect_agreement(const Results& theirs, const Results& ours) {
  EXPECT_LT(distance(theirs.out, ours.out), tolerance);
  EXPECT_LT(distance(theirs.lse, ours.lse), lse_tolerance);
  EXPECT_LT(distance(theirs.dq, ours.dq), tolerance);
  EXPECT_LT(distance(theirs.dk, ours.dk), tolerance);
  EXPECT_LT(distance(theirs.dv, ours.dv), tolerance);
}

class CudnnAttention : public testing::Test {
 protected:
  // A GPU's machine need not have cuDNN; emulated.cudnn, which skips nothing, has a stand-in.
  void SetUp() override {
    if (!cudnn_usable()) GTEST_SKIP() << "cuDNN: " << cudnn_support();
  }
};

TEST_F(CudnnAttention, AgreesWithOursForwardAndBackward) {
  std::vector<Sizes> cases{{{5, 1, 37, 130, 18}, 4, 2, 16}, {{33, 17}, 3, 3, 24}, {{19}, 8, 1, 8}};
  if (large()) cases.push_back({{2048, 1500, 300, 1}, 16, 8, 128});
  for (const Sizes& sizes : cases) {
    Batch batch(sizes);
    LibraryAttention library(batch.device);
    expect_agreement(by_library(batch, library), by_own(batch));
  }
}

TEST_F(CudnnAttention, AgreesInPiecesOfHeadsToo) {
  Batch batch({{21, 40, 9}, 8, 4, 16});
  LibraryAttention library(batch.device, 1);
  expect_agreement(by_library(batch, library), by_own(batch));
}

TEST_F(CudnnAttention, MakesAPlanForAShapeOnce) {
  Batch batch({{5, 20, 3, 40, 18}, 2, 1, 8});
  LibraryAttention library(batch.device);
  const Results first = by_library(batch, library);
  EXPECT_EQ(library.plans(), 4);  // four sequences and one, forward and backward
  expect_same_bits(by_library(batch, library), first);
  Batch shorter({{6, 7, 8, 9}, 2, 1, 8});
  by_library(shorter, library);
  EXPECT_EQ(library.plans(), 4);
  Batch longer({{129}, 2, 1, 8});
  by_library(longer, library);
  EXPECT_EQ(library.plans(), 6);
}

TEST_F(CudnnAttention, LaysOutEachBatchAnew) {
  LibraryAttention library(Device::cuda(0));
  for (const std::vector<std::int32_t>& lengths :
       {std::vector<std::int32_t>{7, 12}, {12, 7}, {19}, {7, 12}}) {
    Batch batch({lengths, 2, 2, 8});
    EXPECT_LT(distance(by_library(batch, library).out, by_own(batch).out), tolerance);
  }
}

TEST_F(CudnnAttention, RefusesTheCpuAndTensorsThatDoNotFit) {
  EXPECT_THROW(LibraryAttention(Device::cpu()), InputError);
  Batch batch({{7, 5}, 2, 1, 8});
  LibraryAttention library(batch.device);
  Buffer out(batch.device, DType::bf16, {12, 16}), lse(batch.device, DType::f32, {12, 2});
  PackedHeads heads = batch.heads();
  const std::vector<std::int32_t> others{0, 7, 11}, empty{0, 7, 7, 12};
  heads.first_rows = others;
  EXPECT_THROW(library.forward(out.tensor(), lse.tensor(), heads), Error);
  heads.first_rows = empty;
  EXPECT_THROW(library.forward(out.tensor(), lse.tensor(), heads), Error);
  Buffer narrow(batch.device, DType::bf16, {12, 8});
  EXPECT_THROW(library.forward(narrow.tensor(), lse.tensor(), batch.heads()), Error);
}

}  // namespace
}  // namespace fst
