#include "tests/cuda/words.h"

#include <bit>
#include <cmath>
#include <vector>

#include <gtest/gtest.h>

#include "kernels/bf16.h"

namespace fst::kernels::test {
namespace {

struct CudaWords : testing::Test {
  Cuda cuda = open_cuda(0);
  ~CudaWords() override { close_cuda(cuda); }
};

TEST_F(CudaWords, DoWhatTheirDescriptionSays) {
  constexpr unsigned blocks = 3;
  auto* counts = static_cast<std::int64_t*>(allocate(cuda, sizeof(std::int64_t)));
  auto* least = static_cast<std::int32_t*>(allocate(cuda, sizeof(std::int32_t)));
  zero(cuda, counts, sizeof *counts);
  zero(cuda, least, sizeof *least);
  std::vector<Words> words(64 * blocks);
  auto* out = static_cast<Words*>(allocate(cuda, words.size() * sizeof(Words)));
  say_words(cuda, blocks, counts, least, out);
  copy_to_host(cuda, words.data(), out, words.size() * sizeof(Words));
  for (int t = 0; t < 64; ++t) {
    const Words& w = words[64 + static_cast<std::size_t>(t)];
    const int warp = t / 32 * 32;
    EXPECT_EQ(w.shuffled, 100 + warp + 7);
    EXPECT_EQ(w.crossed, 100 + (t ^ 5));
    EXPECT_EQ(w.any_of_first, warp == 0);
    EXPECT_FALSE(w.any_of_none);
    EXPECT_EQ(w.uniform, warp);
    EXPECT_EQ(w.bits, 0xbfc00000u);
    EXPECT_EQ(w.value, 1.5f);
    EXPECT_EQ(w.fused, -0x1p-24f);
    EXPECT_EQ(w.root, std::sqrt(2.0f));
    EXPECT_EQ(w.denormal, 0x1p-128f);
    EXPECT_EQ(w.greatest, -2.0f);
    EXPECT_TRUE(std::isnan(w.greatest_left));
    EXPECT_TRUE(std::isnan(w.greatest_right));
  }
  EXPECT_EQ(read_word(cuda, counts), (std::int64_t{64} * blocks) << 33);
  std::int32_t found = 0;
  copy_to_host(cuda, &found, least, sizeof found);
  EXPECT_EQ(found, 40 - 63);
  for (void* memory :
       {static_cast<void*>(counts), static_cast<void*>(least), static_cast<void*>(out)}) {
    release(cuda, memory);
  }
}

/// Every upper half, with lower ones below, at and above the tie.
TEST_F(CudaWords, NarrowPairsAsOneByOne) {
  std::vector<std::uint32_t> pairs(1 << 16);
  auto* out = static_cast<std::uint32_t*>(allocate(cuda, pairs.size() * sizeof(std::uint32_t)));
  const auto half = [](float x) { return std::isnan(x) ? 0x7fffu : narrowed(x).bits; };
  for (const std::uint32_t low : {0x0000u, 0x7fffu, 0x8000u, 0x8001u}) {
    narrow_pairs(cuda, low, out);
    copy_to_host(cuda, pairs.data(), out, pairs.size() * sizeof(std::uint32_t));
    for (std::uint32_t i = 0; i < pairs.size(); ++i) {
      const auto x = std::bit_cast<float>(i << 16 | low);
      ASSERT_EQ(pairs[i], half(x) | half(-x) << 16) << std::hex << (i << 16 | low);
    }
  }
  release(cuda, out);
}

TEST_F(CudaWords, AddUpToTheSumsOfRows) {
  constexpr std::int64_t rows = 5, columns = 1036;
  std::vector<float> x(rows * columns), sums(rows);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i % 17);
  auto* in = static_cast<float*>(allocate(cuda, x.size() * sizeof(float)));
  auto* out = static_cast<float*>(allocate(cuda, sums.size() * sizeof(float)));
  copy_to_device(cuda, in, x.data(), x.size() * sizeof(float));
  sum_rows(cuda, in, out, rows, columns);
  copy_to_host(cuda, sums.data(), out, sums.size() * sizeof(float));
  for (std::int64_t r = 0; r < rows; ++r) {
    float expected = 0.0f;  // integers below 2^24: exact in any order
    for (std::int64_t c = 0; c < columns; ++c)
      expected += x[static_cast<std::size_t>(r * columns + c)];
    EXPECT_EQ(sums[static_cast<std::size_t>(r)], expected);
  }
  release(cuda, in);
  release(cuda, out);
}

}  // namespace
}  // namespace fst::kernels::test
