#include "kernels/attention.h"

#include <algorithm>

#include <gtest/gtest.h>

#include "attention_support.h"
#include "isa.h"

namespace fst::kernels {
namespace {

using test::attend;
using test::Batch;
using test::differing;
using test::HeadShape;
using test::isas;
using test::Noise;
using test::Result;
using test::write_keys;

// Chains of a few thousand float32 operations on values of order 1, against double precision.
constexpr double forward_bound = 2e-5;

const HeadShape shapes[] = {{4, 2, 32}, {3, 3, 24}, {8, 1, 16}, {6, 2, 5}, {2, 2, 128}};

struct Inputs {
  std::vector<float> q, k, v;
  Inputs(HeadShape s, std::int64_t rows, std::uint32_t seed) {
    Noise noise(seed);
    q = noise.normals(rows * s.heads * s.dim, 1.5);
    k = noise.normals(rows * s.kv_heads * s.dim);
    v = noise.normals(rows * s.kv_heads * s.dim);
  }
};

Cpu best() {
  return Cpu{best_isa(), nullptr};
}

std::vector<float> rows_between(const std::vector<float>& x, std::int64_t width, std::int64_t begin,
                                std::int64_t end) {
  return {x.begin() + begin * width, x.begin() + end * width};
}

/// Attention of one sequence with all its rows in the batch: what every other way is compared with.
Result whole(const Cpu& cpu, HeadShape shape, const Inputs& in, std::int64_t length) {
  Batch batch(shape, {length}, {length});
  write_keys(cpu, batch, in.k, in.v);
  return attend(cpu, batch, in.q);
}

/// Plain softmax attention in double precision.
void reference(std::vector<double>& out, std::vector<double>& lse, HeadShape s, const Inputs& in,
               std::int64_t length, double scale) {
  const auto at = [](const std::vector<float>& x, std::int64_t i) {
    return static_cast<double>(x[static_cast<std::size_t>(i)]);
  };
  for (std::int64_t i = 0; i < length; ++i) {
    for (std::int64_t n = 0; n < s.heads; ++n) {
      const std::int64_t g = n / (s.heads / s.kv_heads);
      std::vector<double> score;
      for (std::int64_t j = 0; j <= i; ++j) {
        double dot = 0.0;
        for (std::int64_t h = 0; h < s.dim; ++h) {
          dot +=
              at(in.q, (i * s.heads + n) * s.dim + h) * at(in.k, (j * s.kv_heads + g) * s.dim + h);
        }
        score.push_back(dot * scale);
      }
      const double m = *std::max_element(score.begin(), score.end());
      double sum = 0.0;
      for (double& x : score) sum += (x = std::exp(x - m));
      lse.push_back(m + std::log(sum));
      for (std::int64_t h = 0; h < s.dim; ++h) {
        double total = 0.0;
        for (std::int64_t j = 0; j <= i; ++j) {
          total += score[static_cast<std::size_t>(j)] * at(in.v, (j * s.kv_heads + g) * s.dim + h);
        }
        out.push_back(total / sum);
      }
    }
  }
}

TEST(AttentionForward, AgreesWithPlainSoftmaxInDoublePrecision) {
  for (const HeadShape& shape : shapes) {
    for (const std::int64_t length : {1, 17, 35, 150}) {
      const Inputs in(shape, length, 3);
      const Result got = whole(best(), shape, in, length);
      std::vector<double> out, lse;
      reference(out, lse, shape, in, length, 1.0 / std::sqrt(static_cast<double>(shape.dim)));
      for (std::size_t i = 0; i < out.size(); ++i) {
        ASSERT_NEAR(got.out[i], out[i], forward_bound) << "dim " << shape.dim << " at " << i;
      }
      for (std::size_t i = 0; i < lse.size(); ++i) ASSERT_NEAR(got.lse[i], lse[i], forward_bound);
    }
  }
}

TEST(AttentionForward, AgreesAcrossSplitsOfLongSequences) {
  const HeadShape shape{1, 1, 8};
  const std::int64_t length = 2500;  // three splits
  const Inputs in(shape, length, 4);
  Batch batch(shape, {length}, {length});
  write_keys(best(), batch, in.k, in.v);
  const Result got = attend(best(), batch, in.q);
  std::vector<double> out, lse;
  reference(out, lse, shape, in, length, static_cast<double>(batch.scale()));
  for (std::size_t i = 0; i < out.size(); ++i) ASSERT_NEAR(got.out[i], out[i], forward_bound) << i;
  for (std::size_t i = 0; i < lse.size(); ++i) ASSERT_NEAR(got.lse[i], lse[i], forward_bound) << i;
}

TEST(AttentionForward, BitsAreTheSameOnAllInstructionSetsAndThreads) {
  ThreadPool pool(2);
  for (const HeadShape& shape : shapes) {
    const std::int64_t length = 143;
    const Inputs in(shape, length, 5);
    const Result first = whole(best(), shape, in, length);
    for (const Isa isa : isas()) {
      for (ThreadPool* threads : {static_cast<ThreadPool*>(nullptr), &pool}) {
        const Result got = whole(Cpu{isa, threads}, shape, in, length);
        EXPECT_EQ(differing(got.out, first.out), 0) << name_of(isa) << " dim " << shape.dim;
        EXPECT_EQ(differing(got.lse, first.lse), 0) << name_of(isa) << " dim " << shape.dim;
      }
    }
  }
}

TEST(AttentionForward, BitsAreTheSameOnAllInstructionSetsAcrossSplits) {
  const HeadShape shape{3, 1, 24};
  const std::int64_t length = 1060, rows = 41;  // the rows begin before the second split
  const Inputs in(shape, length, 12);
  Batch batch(shape, {length}, {length});
  write_keys(best(), batch, in.k, in.v);
  batch.cu_seqlens = {0, static_cast<std::int32_t>(rows)};
  batch.context = {static_cast<std::int32_t>(length - rows)};
  const Result first = attend(best(), batch, in.q);
  for (const Isa isa : isas()) {
    const Result got = attend(Cpu{isa, nullptr}, batch, in.q);
    EXPECT_EQ(differing(got.out, first.out), 0) << name_of(isa);
    EXPECT_EQ(differing(got.lse, first.lse), 0) << name_of(isa);
  }
}

// The cache holds NaN wherever no key has been written, so this also shows that keys beyond a row's
// position are not touched.
void expect_any_chunking(HeadShape shape, std::int64_t length,
                         const std::vector<std::vector<std::int64_t>>& cuts) {
  const Inputs in(shape, length, 6);
  const Result want = whole(best(), shape, in, length);
  for (const auto& ends : cuts) {
    Batch batch(shape, {length}, {length}, 7);
    std::int64_t begin = 0;
    for (const std::int64_t end : ends) {
      batch.cu_seqlens = {0, static_cast<std::int32_t>(end - begin)};
      batch.context = {static_cast<std::int32_t>(begin)};
      write_keys(best(), batch, rows_between(in.k, batch.kv_width(), begin, end),
                 rows_between(in.v, batch.kv_width(), begin, end));
      const Result got = attend(best(), batch, rows_between(in.q, batch.width(), begin, end));
      EXPECT_EQ(differing(got.out, rows_between(want.out, batch.width(), begin, end)), 0)
          << "dim " << shape.dim << " rows " << begin << " to " << end;
      EXPECT_EQ(differing(got.lse, rows_between(want.lse, shape.heads, begin, end)), 0);
      begin = end;
    }
  }
}

TEST(AttentionForward, RowsDoNotDependOnHowTheSequenceIsChunked) {
  std::vector<std::int64_t> one_by_one(150);
  std::iota(one_by_one.begin(), one_by_one.end(), 1);
  for (const HeadShape& shape : shapes) {
    expect_any_chunking(shape, 150, {one_by_one, {150}, {1, 129, 150}, {16, 17, 99, 149, 150}});
  }
}

TEST(AttentionForward, RowsDoNotDependOnTheChunkingAcrossSplits) {
  expect_any_chunking({2, 1, 8}, 2100, {{1000, 1024, 1025, 1026, 2047, 2049, 2100}, {1, 2100}});
}

TEST(AttentionForward, RowsDoNotDependOnTheBatchNorOnTheOrderOfBlocks) {
  const HeadShape shape{4, 2, 32};
  const std::vector<std::int64_t> lengths{35, 1, 0, 130, 16};
  std::vector<Inputs> sequences;
  Batch batch(shape, lengths, lengths, 9);
  std::vector<float> q, k, v;
  for (std::size_t s = 0; s < lengths.size(); ++s) {
    sequences.emplace_back(shape, lengths[s], static_cast<std::uint32_t>(20 + s));
    const Inputs& in = sequences.back();
    q.insert(q.end(), in.q.begin(), in.q.end());
    k.insert(k.end(), in.k.begin(), in.k.end());
    v.insert(v.end(), in.v.begin(), in.v.end());
  }
  write_keys(best(), batch, k, v);
  const Result got = attend(best(), batch, q);
  for (std::size_t s = 0; s < lengths.size(); ++s) {
    if (lengths[s] == 0) continue;
    const Result alone = whole(best(), shape, sequences[s], lengths[s]);
    const std::int64_t begin = batch.cu_seqlens[s], end = batch.cu_seqlens[s + 1];
    EXPECT_EQ(differing(rows_between(got.out, batch.width(), begin, end), alone.out), 0) << s;
    EXPECT_EQ(differing(rows_between(got.lse, shape.heads, begin, end), alone.lse), 0) << s;
  }
}

TEST(AttentionForward, LargeScoresNeitherOverflowNorVanish) {
  const HeadShape shape{1, 1, 16};
  Inputs in(shape, 40, 11);
  for (float& x : in.q) x *= 300.0f;
  const Result got = whole(best(), shape, in, 40);
  for (const float x : got.out) EXPECT_TRUE(std::isfinite(x));
  for (const float x : got.lse) EXPECT_TRUE(std::isfinite(x));
}

}  // namespace
}  // namespace fst::kernels
