#include "attention_definition.h"

#include <gtest/gtest.h>

#include "isa.h"

/// Attention over float32 and bfloat16 against the plain loops of attention_definition.h, and what
/// bfloat16 costs.
namespace fst::kernels {
namespace {

using test::Batch;
using test::differing;
using test::fma_chain;
using test::from;
using test::HeadShape;
using test::into;
using test::isas;
using test::Noise;
using test::Result;

const HeadShape shapes[] = {{4, 2, 32}, {3, 3, 24}, {8, 1, 16}, {6, 2, 5}, {2, 2, 128}};

Cpu best() {
  return Cpu{best_isa(), nullptr};
}

/// A batch with inputs that bfloat16 holds; its cache is NaN where no key or value is.
struct Problem {
  Batch batch;
  std::vector<float> q, k, v, dout;
  Problem(HeadShape shape, const std::vector<std::int64_t>& lengths, std::uint32_t seed)
      : batch(shape, lengths, lengths, seed) {
    Noise noise(seed);
    q = test::rounded(noise.normals(batch.rows() * batch.width(), 1.5));
    k = test::rounded(noise.normals(batch.rows() * batch.kv_width()));
    v = test::rounded(noise.normals(batch.rows() * batch.kv_width()));
    dout = test::rounded(noise.normals(batch.rows() * batch.width()));
  }
};

/// Writes the keys and attends, over T.
template <class T>
Result attend(const Cpu& cpu, Problem& p, const std::vector<float>& q, const std::vector<float>& k,
              const std::vector<float>& v) {
  Batch& batch = p.batch;
  const auto cpu_q = test::stored_as<T>(q), cpu_k = test::stored_as<T>(k),
             cpu_v = test::stored_as<T>(v);
  auto cache = test::stored_as<T>(batch.cache);
  const std::int64_t narrow = batch.kv_width();
  kv_write(cpu, cache.data(), from(cpu_k, narrow), from(cpu_v, narrow), batch.paged());
  std::vector<T> out(cpu_q.size());
  Result r;
  r.lse.resize(static_cast<std::size_t>(batch.rows() * batch.shape.heads));
  attention_forward(cpu, into(out, batch.width()), r.lse.data(), from(cpu_q, batch.width()),
                    cache.data(), batch.paged(), batch.scale());
  r.out = test::widened(out);
  batch.cache = test::widened(cache);
  return r;
}
template <class T>
Result attend(const Cpu& cpu, Problem& p) {
  return attend<T>(cpu, p, p.q, p.k, p.v);
}

std::vector<float> rows_between(const std::vector<float>& x, std::int64_t width, std::int64_t begin,
                                std::int64_t end) {
  return {x.begin() + begin * width, x.begin() + end * width};
}

template <class T>
struct AttentionDefinition : testing::Test {};
using Elements = testing::Types<float, Bf16>;
TYPED_TEST_SUITE(AttentionDefinition, Elements);

template <class T>
void expect_defined_forward(HeadShape shape, const std::vector<std::int64_t>& lengths) {
  ThreadPool pool(2);
  Problem p(shape, lengths, 41);
  attend<T>(best(), p);  // brings keys and values to the cache
  const Result want = test::attention_definition<T>(p.batch, p.q, p.batch.width(), fma_chain);
  for (const Isa isa : isas()) {
    for (ThreadPool* threads : {static_cast<ThreadPool*>(nullptr), &pool}) {
      const Result got = attend<T>(Cpu{isa, threads}, p);
      EXPECT_EQ(differing(got.out, want.out), 0) << name_of(isa) << " dim " << shape.dim;
      EXPECT_EQ(differing(got.lse, want.lse), 0) << name_of(isa) << " dim " << shape.dim;
    }
  }
}

TYPED_TEST(AttentionDefinition, TheForwardPassHasItsBits) {
  for (const HeadShape& shape : shapes) expect_defined_forward<TypeParam>(shape, {35, 1, 143, 16});
}

TYPED_TEST(AttentionDefinition, TheForwardPassHasItsBitsAcrossSplits) {
  expect_defined_forward<TypeParam>({3, 1, 8}, {1060});
}

TYPED_TEST(AttentionDefinition, RowsDoNotDependOnHowTheSequenceIsChunked) {
  using T = TypeParam;
  const std::int64_t length = 150;
  for (const HeadShape& shape : shapes) {
    Problem whole(shape, {length}, 43), p(shape, {length}, 44);  // blocks in another order
    const Result want = attend<T>(best(), whole);
    std::int64_t begin = 0;
    for (const std::int64_t end : {1, 16, 17, 99, 149, 150}) {
      p.batch.cu_seqlens = {0, static_cast<std::int32_t>(end - begin)};
      p.batch.context = {static_cast<std::int32_t>(begin)};
      const std::int64_t wide = p.batch.width(), narrow = p.batch.kv_width();
      const Result got = attend<T>(best(), p, rows_between(whole.q, wide, begin, end),
                                   rows_between(whole.k, narrow, begin, end),
                                   rows_between(whole.v, narrow, begin, end));
      EXPECT_EQ(differing(got.out, rows_between(want.out, wide, begin, end)), 0) << shape.dim;
      EXPECT_EQ(differing(got.lse, rows_between(want.lse, shape.heads, begin, end)), 0);
      begin = end;
    }
  }
}

/// The gradients over T, in rows with a gap behind them, given the rounded `out`.
template <class T>
test::AttentionGradientsOf backward(const Cpu& cpu, const Problem& p, const Result& forward) {
  const std::int64_t wide = p.batch.width(), narrow = p.batch.kv_width();
  const auto cache = test::stored_as<T>(p.batch.cache);
  const auto q = test::stored_as<T>(p.q), dout = test::stored_as<T>(p.dout);
  const auto out = test::stored_as<T>(forward.out);
  const auto garbage = [&](std::int64_t width) {  // the outputs are overwritten, the gaps are not
    return std::vector<T>(static_cast<std::size_t>(p.batch.rows() * (width + 3)),
                          narrowed_to<T>(7.0f));
  };
  std::vector<T> dq = garbage(wide), dk = garbage(narrow), dv = dk;
  const AttentionGradients<T> gradients{into(dq, wide + 3),   into(dk, narrow + 3),
                                        into(dv, narrow + 3), from(dout, wide),
                                        from(out, wide),      forward.lse.data()};
  attention_backward(cpu, gradients, from(q, wide), cache.data(), p.batch.paged(), p.batch.scale());
  const auto without_gaps = [&](const std::vector<T>& x, std::int64_t width) {
    std::vector<float> rows;
    for (std::int64_t r = 0; r < p.batch.rows(); ++r) {
      const T* const row = x.data() + r * (width + 3);
      for (std::int64_t i = 0; i < width + 3; ++i) {
        if (i < width) {
          rows.push_back(widened(row[i]));
        } else {
          EXPECT_EQ(widened(row[i]), 7.0f);
        }
      }
    }
    return rows;
  };
  return {without_gaps(dq, wide), without_gaps(dk, narrow), without_gaps(dv, narrow)};
}

template <class T>
void expect_defined_backward(HeadShape shape, const std::vector<std::int64_t>& lengths) {
  ThreadPool pool(2);
  Problem p(shape, lengths, 45);
  const Result forward = attend<T>(best(), p);
  const auto want =
      test::attention_backward_definition<T>(p.batch, p.q, p.dout, forward, fma_chain);
  for (const Isa isa : isas()) {
    for (ThreadPool* threads : {static_cast<ThreadPool*>(nullptr), &pool}) {
      const auto got = backward<T>(Cpu{isa, threads}, p, forward);
      EXPECT_EQ(differing(got.dq, want.dq), 0) << name_of(isa) << " dim " << shape.dim;
      EXPECT_EQ(differing(got.dk, want.dk), 0) << name_of(isa) << " dim " << shape.dim;
      EXPECT_EQ(differing(got.dv, want.dv), 0) << name_of(isa) << " dim " << shape.dim;
    }
  }
}

TYPED_TEST(AttentionDefinition, TheBackwardPassHasItsBits) {
  for (const HeadShape& shape : shapes) expect_defined_backward<TypeParam>(shape, {35, 83, 16, 1});
}

TYPED_TEST(AttentionDefinition, TheBackwardPassHasItsBitsAcrossTilesOfKeys) {
  expect_defined_backward<TypeParam>({4, 2, 8}, {277, 130});
}

// Half a unit in the last place of bfloat16. An output is a mean of values with weights that are
// off by this much each, and rounded itself: twice this of the values' mean size at most.
constexpr double half_ulp = 0x1p-9;

double rms(const std::vector<float>& x) {
  double sum = 0.0;
  for (const float value : x) sum += double{value} * double{value};
  return std::sqrt(sum / static_cast<double>(x.size()));
}
std::vector<float> difference(std::vector<float> a, const std::vector<float>& b) {
  for (std::size_t i = 0; i < a.size(); ++i) a[i] -= b[i];
  return a;
}

TEST(AttentionOfBfloat16, IsThatOfFloat32ButForItsRoundings) {
  for (const HeadShape& shape : shapes) {
    Problem p(shape, {35, 143, 1}, 46);
    const Result want = attend<float>(best(), p), got = attend<Bf16>(best(), p);
    EXPECT_EQ(differing(got.lse, want.lse), 0);
    EXPECT_LE(rms(difference(got.out, want.out)), 2 * half_ulp * rms(want.out));
    const auto exact = backward<float>(best(), p, got), rounded = backward<Bf16>(best(), p, got);
    for (const auto part : {&test::AttentionGradientsOf::dq, &test::AttentionGradientsOf::dk,
                            &test::AttentionGradientsOf::dv}) {
      const std::vector<float>& x = exact.*part;
      EXPECT_LE(rms(difference(rounded.*part, x)), 2 * half_ulp * rms(x));
    }
  }
}

}  // namespace
}  // namespace fst::kernels
