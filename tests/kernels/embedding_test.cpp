#include "kernels/embedding.h"

#include <gtest/gtest.h>

#include "halves.h"
#include "isa.h"
#include "kernels/thread_pool.h"
#include "noise.h"

namespace fst::kernels {
namespace {

using test::differing;
using test::Noise;

TEST(Embedding, ForwardCopiesTheRowOfEachToken) {
  Noise noise(1);
  const auto table = noise.normals(5 * 7);
  const std::vector<std::int32_t> tokens{4, 0, 4};
  std::vector<float> y(3 * 7);
  embedding_forward(Cpu{}, y.data(), tokens.data(), table.data(), 3, 7, {0, 5});
  for (std::size_t t = 0; t < 3; ++t) {
    for (std::size_t i = 0; i < 7; ++i) {
      EXPECT_EQ(y[t * 7 + i], table[static_cast<std::size_t>(tokens[t]) * 7 + i]);
    }
  }
}

TEST(Embedding, PartsOfTheTableAddUpToTheWholeBitForBit) {
  const std::int64_t vocab = 6, dim = 7;
  Noise noise(3);
  auto table = noise.normals(vocab * dim);
  table[3] = -0.0f;
  table[4] = 0.0f;
  const std::vector<std::int32_t> tokens{5, 0, 3, 0};
  std::vector<float> whole(4 * 7), low(whole), high(whole);
  embedding_forward(Cpu{}, whole.data(), tokens.data(), table.data(), 4, dim, {0, vocab});
  embedding_forward(Cpu{}, low.data(), tokens.data(), table.data(), 4, dim, {0, 3});
  embedding_forward(Cpu{}, high.data(), tokens.data(), table.data() + 3 * dim, 4, dim, {3, 3});
  std::vector<float> sum(whole.size());
  for (std::size_t i = 0; i < sum.size(); ++i) sum[i] = low[i] + high[i];
  EXPECT_EQ(differing(sum, whole), 0);

  const auto dy = noise.normals(4 * dim);
  std::vector<float> dwhole(table.size()), dparts(table.size());
  embedding_backward(Cpu{}, dwhole.data(), dy.data(), tokens.data(), 4, dim, {0, vocab});
  embedding_backward(Cpu{}, dparts.data(), dy.data(), tokens.data(), 4, dim, {0, 3});
  embedding_backward(Cpu{}, dparts.data() + 3 * dim, dy.data(), tokens.data(), 4, dim, {3, 3});
  EXPECT_EQ(differing(dparts, dwhole), 0);
}

TEST(Embedding, BackwardAddsInTheOrderOfTheRowsOnAnyNumberOfThreads) {
  const std::int64_t rows = 300, dim = 131, vocab = 5;  // many repeats
  Noise noise(2);
  const auto dy = noise.normals(rows * dim), start = noise.normals(vocab * dim);
  std::vector<std::int32_t> tokens;
  for (std::int64_t t = 0; t < rows; ++t) {
    tokens.push_back(static_cast<std::int32_t>(noise.below(vocab)));
  }
  std::vector<float> want = start;
  for (std::int64_t t = 0; t < rows; ++t) {
    for (std::int64_t i = 0; i < dim; ++i) {
      want[static_cast<std::size_t>(tokens[static_cast<std::size_t>(t)] * dim + i)] +=
          dy[static_cast<std::size_t>(t * dim + i)];
    }
  }
  ThreadPool two(2), three(3);
  for (ThreadPool* pool : {static_cast<ThreadPool*>(nullptr), &two, &three}) {
    std::vector<float> got = start;
    embedding_backward(Cpu{best_isa(), pool}, got.data(), dy.data(), tokens.data(), rows, dim,
                       {0, vocab});
    EXPECT_EQ(differing(got, want), 0);
  }
}

TEST(Embedding, OfBfloat16CopiesRowsAndAddsGradientsInFloat32) {
  const std::int64_t rows = 31, dim = 19, vocab = 6;
  Noise noise(4);
  const auto table = test::narrowed(noise.normals(vocab * dim));
  const auto dy = test::narrowed(noise.normals(rows * dim));
  const auto start = noise.normals(vocab * dim);
  std::vector<std::int32_t> tokens;
  for (std::int64_t t = 0; t < rows; ++t) {
    tokens.push_back(static_cast<std::int32_t>(noise.below(vocab)));
  }
  const VocabRows part{2, 3};  // so that some rows become -0
  const std::vector<float> wide = test::widened(table), wide_dy = test::widened(dy);
  std::vector<float> want(wide_dy.size()), want_table = start, got_table = start;
  std::vector<Bf16> got(want.size());
  embedding_forward(Cpu{}, want.data(), tokens.data(), wide.data(), rows, dim, part);
  embedding_forward(Cpu{}, got.data(), tokens.data(), table.data(), rows, dim, part);
  EXPECT_EQ(differing(test::widened(got), want), 0);
  embedding_backward(Cpu{}, want_table.data(), wide_dy.data(), tokens.data(), rows, dim, part);
  embedding_backward(Cpu{}, got_table.data(), dy.data(), tokens.data(), rows, dim, part);
  EXPECT_EQ(differing(got_table, want_table), 0);
}

}  // namespace
}  // namespace fst::kernels
