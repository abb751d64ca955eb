#include <cmath>
#include <string>

#include "attention_case.h"

/// Attention over bfloat16 by tensor cores, of sequences with several rows, against its definition.
namespace fst::kernels {
namespace {

using fst::test::Case;
using fst::test::DeviceForward;
using fst::test::expect_same;
using fst::test::Extent;
using fst::test::Floats;
using fst::test::HeadShape;
using fst::test::Lengths;
using fst::test::name_of;
using fst::test::widened;

void expect_defined(const HeadShape& shape, const Extent& extent, std::int64_t gap,
                    std::int64_t shift = 0) {
  const Case<Bf16> c(shape, extent, gap);
  const fst::test::Forward want = defined_forward(c);
  const DeviceForward<Bf16> got(c, shift);
  expect_same(want.out, got.out, (name_of(shape, extent) + ", out").c_str());
  expect_same(want.lse, got.lse, (name_of(shape, extent) + ", lse").c_str());
}

// The cache is NaN wherever no key lies, and its blocks lie in any order.
TEST(CudaAttentionBf16, EveryGroupAndHeadSizeHasTheBitsOfTheDefinition) {
  const HeadShape shapes[] = {{1, 1, 16}, {2, 1, 24}, {3, 1, 40},  {5, 1, 64},
                              {8, 1, 72}, {6, 2, 80}, {4, 2, 128}, {3, 3, 5}};
  for (const HeadShape& shape : shapes) {
    expect_defined(shape, {{2, 37, 0, 19}, {2, 37, 0, 5}}, 0);
    expect_defined(shape, {{33, 17}, {32, 17}}, 3);
  }
}

TEST(CudaAttentionBf16, RowsOnBothSidesOfATileHaveTheBitsOfTheDefinition) {
  expect_defined({2, 1, 128}, {{130, 257, 128}, {130, 5, 2}}, 0);
  expect_defined({3, 1, 64}, {{129, 300}, {4, 70}}, 8);
  expect_defined({5, 1, 20}, {{161}, {161}}, 0);  // rows that begin nowhere in particular
}

TEST(CudaAttentionBf16, SplitsOfLongSequencesAreJoinedAsDefined) {
  expect_defined({2, 1, 24}, {{1060, 2070, 30}, {41, 3, 30}}, 1);
  expect_defined({2, 2, 128}, {{1026, 3080}, {4, 2}}, 0);
}

TEST(CudaAttentionBf16, ACacheMayBeginAnywhere) {
  for (const std::int64_t shift : {1, 4}) {
    expect_defined({4, 2, 32}, {{40, 37, 5}, {3, 37, 2}}, 0, shift);
    expect_defined({2, 1, 128}, {{140}, {20}}, 0, shift);
  }
}

TEST(CudaAttentionBf16, UnitsOfOneHeadFollowEachOther) {
  expect_defined({70, 1, 16}, {{20, 131}, {20, 3}}, 0);
}

/// The rows of a sequence, all at once and in chunks that end at `ends`.
void expect_chunks(const HeadShape& shape, const Lengths& ends) {
  const std::int64_t length = ends.back();
  const Case<Bf16> whole(shape, {{length}, {length}}, 0);
  const DeviceForward<Bf16> expected(whole);
  const Floats out = widened(expected.out.host()), lse = expected.lse.host();
  std::int64_t begin = 0;
  for (const std::int64_t end : ends) {
    Case<Bf16> chunk(shape, {{length}, {end - begin}}, 0, 2);  // blocks in another order
    chunk.batch.context = {static_cast<std::int32_t>(begin)};
    chunk.q.assign(whole.q.begin() + begin * whole.q_stride,
                   whole.q.begin() + end * whole.q_stride);
    const DeviceForward<Bf16> got(chunk);
    const auto part = [&](const Floats& all, std::int64_t width) {
      return Floats(all.begin() + begin * width, all.begin() + end * width);
    };
    expect_same(part(out, whole.q_stride), got.out, "out");
    expect_same(part(lse, shape.heads), got.lse, "lse");
    begin = end;
  }
}

TEST(CudaAttentionBf16, ChunksOfAPrefillHaveTheBitsOfTheWhole) {
  expect_chunks({3, 1, 24}, {2, 16, 33, 127, 129, 147});
  if (!fst::test::large()) return;
  expect_chunks({16, 8, 128}, {1000, 1026, 2500, 4103});  // Qwen3-0.6B
  expect_chunks({32, 8, 128}, {2047, 2049});              // Qwen3-8B
}

// The CPU's sums are rounded to nearest, the tensor core's cut, 2^-23 a block of 16. That moves a
// probability or an output, which are rounded at 2^-9, to its neighbour now and then: by less than
// all of them being rounded once more.
constexpr double output_tolerance = 0x1p-9;
// Scores of up to a few tens, of eight blocks.
constexpr float lse_tolerance = 32 * 8 * 0x1p-23f;

TEST(CudaAttentionBf16, ItIsThatOfTheCpuButForItsSums) {
  const Case<Bf16> c({4, 2, 128}, {{140, 37}, {30, 37}}, 0);
  const fst::test::Forward cpu = twin_forward(c);
  const DeviceForward<Bf16> gpu(c);
  const Floats out = widened(gpu.out.host()), lse = gpu.lse.host();
  double squares = 0.0, differences = 0.0;
  for (std::size_t i = 0; i < out.size(); ++i) {
    squares += double{cpu.out[i]} * double{cpu.out[i]};
    differences += std::pow(double{cpu.out[i]} - double{out[i]}, 2);
  }
  EXPECT_LE(std::sqrt(differences), output_tolerance * std::sqrt(squares));
  for (std::size_t i = 0; i < lse.size(); ++i) EXPECT_NEAR(lse[i], cpu.lse[i], lse_tolerance);
}

}  // namespace
}  // namespace fst::kernels
