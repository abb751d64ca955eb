#include <algorithm>
#include <string>

#include "attention_case.h"

/// Decode attention over bfloat16 by tensor cores, of sequences with a single row, against its
/// definition.
namespace fst::kernels {
namespace {

using fst::test::Case;
using fst::test::DeviceForward;
using fst::test::expect_same;
using fst::test::Floats;
using fst::test::HeadShape;
using fst::test::Lengths;
using fst::test::name_of;
using fst::test::widened;

/// Sequences with a single row, the last of so many keys.
Case<Bf16> decoding(const HeadShape& shape, const Lengths& keys, std::int64_t gap = 0) {
  return Case<Bf16>(shape, {keys, Lengths(keys.size(), 1)}, gap);
}

void expect_defined(const Case<Bf16>& c, const std::string& name, std::int64_t shift = 0) {
  const fst::test::Forward want = defined_forward(c);
  const DeviceForward<Bf16> got(c, shift);
  EXPECT_TRUE(std::none_of(want.lse.begin(), want.lse.end(), [](float x) { return x != x; }));
  expect_same(want.out, got.out, (name + ", out").c_str());
  expect_same(want.lse, got.lse, (name + ", lse").c_str());
}
void expect_defined(const HeadShape& shape, const Lengths& keys, std::int64_t gap = 0,
                    std::int64_t shift = 0) {
  expect_defined(decoding(shape, keys, gap), name_of(shape, {keys, Lengths(keys.size(), 1)}),
                 shift);
}

// The cache is NaN wherever no key lies, and its blocks lie in any order.
TEST(CudaDecodeBf16, BothSidesOfBlocksTilesAndSplitsHaveTheBitsOfTheDefinition) {
  expect_defined({3, 1, 24}, {1, 2, 16, 17, 18, 64, 65, 128, 129, 130, 1024, 1025, 1026, 2101});
  // What is copied in whole pieces passes through the ring several times.
  expect_defined({1, 1, 64}, {701, 1101});
  expect_defined({1, 1, 128}, {401, 1025});
}

TEST(CudaDecodeBf16, HeadsOfAnySizeHaveTheBitsOfTheDefinition) {
  for (const std::int64_t dim : {5, 16, 20, 24, 32, 48, 64, 72, 80, 96, 104, 128}) {
    expect_defined({2, 2, dim}, {151, 22});
  }
}

TEST(CudaDecodeBf16, GroupsOfAnySizeHaveTheBitsOfTheDefinition) {
  for (const std::int64_t group : {1, 2, 3, 4, 5, 6, 7, 8, 9, 19}) {
    expect_defined({2 * group, 2, 16}, {141, 2});
  }
}

TEST(CudaDecodeBf16, WhatIsNotAlignedIsCopiedElementByElement) {
  for (const HeadShape& shape : {HeadShape{4, 2, 20}, HeadShape{4, 2, 72}, HeadShape{2, 1, 128}}) {
    for (const std::int64_t shift : {0, 1, 2}) expect_defined(shape, {40, 101}, 3, shift);
  }
}

TEST(CudaDecodeBf16, PagesMayBeShared) {
  Case<Bf16> c = decoding({4, 2, 32}, {71, 91, 34});
  auto& table = c.batch.table;
  const auto row = static_cast<std::size_t>(c.batch.max_blocks);
  for (std::size_t s = 1; s < 3; ++s) {
    for (std::size_t b = 0; b < 2; ++b) table[s * row + b] = table[b];
  }
  expect_defined(c, "a shared prefix");
}

/// Scores that rise from tile to tile, so that each shrinks what came before.
TEST(CudaDecodeBf16, OutputsAreRescaledWhereTheMaximumGrows) {
  const HeadShape shape{2, 1, 16};
  Case<Bf16> c = decoding(shape, {701});
  std::fill(c.q.begin(), c.q.end(), 4.0f);
  for (std::int64_t j = 0; j < 701; ++j) {
    const float key = static_cast<float>(j / attention_tile) * 0.125f;
    std::fill_n(c.k.begin() + j * shape.dim, shape.dim, key);
  }
  Case<Bf16> all(shape, {{701}, {701}}, 0);  // the same blocks, written as a whole
  all.k = c.k;
  kv_write(fst::test::twin(), all.batch.cache.data(), {all.k.data(), all.kv_stride},
           {all.v.data(), all.kv_stride}, all.batch.paged());
  c.batch.cache = all.batch.cache;
  expect_defined(c, "rising scores");
}

TEST(CudaDecodeBf16, SequencesWithOtherNumbersOfRowsMayLieBetween) {
  expect_defined(Case<Bf16>({4, 2, 24}, {{41, 36, 7, 1101}, {1, 3, 0, 1}}, 0), "a mixed batch");
}

TEST(CudaDecodeBf16, RowsHaveTheBitsThatTheyHaveTogether) {
  for (const HeadShape& shape : {HeadShape{6, 2, 40}, HeadShape{2, 1, 128}}) {
    const std::int64_t keys = 132, rows = 7;
    const Case<Bf16> together(shape, {{keys}, {rows}}, 0);
    Case<Bf16> alone = together;
    auto& batch = alone.batch;
    batch.context.clear();
    batch.cu_seqlens = {0};
    for (std::int64_t row = 0; row < rows; ++row) {
      batch.context.push_back(static_cast<std::int32_t>(keys - rows + row));
      batch.cu_seqlens.push_back(static_cast<std::int32_t>(row + 1));
      if (row == 0) continue;
      batch.table.insert(batch.table.end(), together.batch.table.begin(),
                         together.batch.table.end());
    }
    const DeviceForward<Bf16> want(together), got(alone);
    expect_same(widened(want.out.host()), got.out, "out");
    expect_same(want.lse.host(), got.lse, "lse");
  }
}

/// An infinite element of one head's query, or a NaN in a key that both heads of a group see, makes
/// NaNs of all that they make, and of nothing else.
TEST(CudaDecodeBf16, WhatIsNotFiniteReachesWhatItMakes) {
  const HeadShape shape{4, 2, 64};
  const auto dim = static_cast<std::size_t>(shape.dim);
  const Case<Bf16> finite = decoding(shape, {150, 40});
  const DeviceForward<Bf16> expected(finite);
  for (const bool query : {true, false}) {
    Case<Bf16> c = finite;
    Floats out = widened(expected.out.host()), lse = expected.lse.host();
    if (query) {
      c.q[2 * dim + 5] = std::numeric_limits<float>::infinity();  // row 0, head 2
    } else {
      const std::int64_t block = c.batch.table[0];  // head 2's KV head is 1
      const std::int64_t key = ((block * 2 + 1) * 2 * shape.dim + 5) * attention_block + 7;
      c.batch.cache[static_cast<std::size_t>(key)] = fst::test::untouched;
    }
    const std::size_t heads = query ? 1 : 2;
    std::fill_n(out.begin() + 2 * shape.dim, heads * dim, fst::test::untouched);
    std::fill_n(lse.begin() + 2, heads, fst::test::untouched);
    const DeviceForward<Bf16> got(c);
    expect_same(out, got.out, query ? "query, out" : "key, out");
    expect_same(lse, got.lse, query ? "query, lse" : "key, lse");
  }
}

TEST(CudaDecodeBf16, SizesOfRealModelsHaveTheBitsOfTheDefinition) {
  expect_defined({16, 8, 128}, {261});
  if (!fst::test::large()) return;
  expect_defined({16, 8, 128}, {4096, 1024, 2701});
  expect_defined({32, 4, 128}, {3001});
}

}  // namespace
}  // namespace fst::kernels
