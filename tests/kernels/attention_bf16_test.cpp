#include <gtest/gtest.h>

#include "attention_support.h"
#include "halves.h"
#include "isa.h"

/// Attention over bfloat16 against the same kernels over float32, on inputs that bfloat16 holds:
/// all arithmetic is the same, so its outputs are those of float32, rounded.
namespace fst::kernels {
namespace {

using test::attend;
using test::Batch;
using test::differing;
using test::from;
using test::HeadShape;
using test::into;
using test::isas;
using test::Noise;
using test::Result;
using test::rounded;
using test::write_keys;

const HeadShape shapes[] = {{4, 2, 32}, {3, 3, 24}, {8, 1, 16}, {6, 2, 5}, {2, 2, 128}};

Cpu best() {
  return Cpu{best_isa(), nullptr};
}

/// A batch, its cache over bfloat16 (NaN where no key or value is) and inputs that it holds.
struct Problem {
  Batch batch;
  std::vector<Bf16> cache;
  std::vector<float> q, k, v, dout;
  Problem(HeadShape shape, const std::vector<std::int64_t>& lengths, std::uint32_t seed)
      : batch(shape, lengths, lengths, seed), cache(test::narrowed(batch.cache)) {
    Noise noise(seed);
    q = rounded(noise.normals(batch.rows() * batch.width(), 1.5));
    k = rounded(noise.normals(batch.rows() * batch.kv_width()));
    v = rounded(noise.normals(batch.rows() * batch.kv_width()));
    dout = rounded(noise.normals(batch.rows() * batch.width()));
  }
};

/// Writes the keys and attends, over bfloat16.
Result attend_halves(const Cpu& cpu, Problem& p, const std::vector<float>& q,
                     const std::vector<float>& k, const std::vector<float>& v) {
  const Batch& batch = p.batch;
  const auto half_q = test::narrowed(q), half_k = test::narrowed(k), half_v = test::narrowed(v);
  const std::int64_t narrow = batch.kv_width();
  kv_write(cpu, p.cache.data(), from(half_k, narrow), from(half_v, narrow), batch.paged());
  std::vector<Bf16> out(half_q.size());
  Result r;
  r.lse.resize(static_cast<std::size_t>(batch.rows() * batch.shape.heads));
  attention_forward(cpu, into(out, batch.width()), r.lse.data(), from(half_q, batch.width()),
                    p.cache.data(), batch.paged(), batch.scale());
  r.out = test::widened(out);
  return r;
}

std::vector<float> rows_between(const std::vector<float>& x, std::int64_t width, std::int64_t begin,
                                std::int64_t end) {
  return {x.begin() + begin * width, x.begin() + end * width};
}

TEST(AttentionOfBfloat16, ForwardIsTheRoundedResultOfFloat32) {
  ThreadPool pool(2);
  for (const HeadShape& shape : shapes) {
    Problem p(shape, {35, 1, 143, 16}, 41);
    write_keys(best(), p.batch, p.k, p.v);
    const Result want = attend(best(), p.batch, p.q);
    for (const Isa isa : isas()) {
      for (ThreadPool* threads : {static_cast<ThreadPool*>(nullptr), &pool}) {
        const Result got = attend_halves(Cpu{isa, threads}, p, p.q, p.k, p.v);
        EXPECT_EQ(differing(got.out, rounded(want.out)), 0) << name_of(isa) << " " << shape.dim;
        EXPECT_EQ(differing(got.lse, want.lse), 0) << name_of(isa) << " dim " << shape.dim;
      }
    }
  }
}

TEST(AttentionOfBfloat16, ForwardIsRoundedOnceAcrossSplits) {
  const HeadShape shape{3, 1, 24};
  Problem p(shape, {1060}, 42);
  write_keys(best(), p.batch, p.k, p.v);
  const Result want = attend(best(), p.batch, p.q);
  const Result got = attend_halves(best(), p, p.q, p.k, p.v);
  EXPECT_EQ(differing(got.out, rounded(want.out)), 0);
  EXPECT_EQ(differing(got.lse, want.lse), 0);
}

TEST(AttentionOfBfloat16, RowsDoNotDependOnHowTheSequenceIsChunked) {
  const std::int64_t length = 150;
  for (const HeadShape& shape : shapes) {
    Problem whole(shape, {length}, 43), p(shape, {length}, 44);  // blocks in another order
    const Result want = attend_halves(best(), whole, whole.q, whole.k, whole.v);
    std::int64_t begin = 0;
    for (const std::int64_t end : {1, 16, 17, 99, 149, 150}) {
      p.batch.cu_seqlens = {0, static_cast<std::int32_t>(end - begin)};
      p.batch.context = {static_cast<std::int32_t>(begin)};
      const std::int64_t wide = p.batch.width(), narrow = p.batch.kv_width();
      const Result got = attend_halves(best(), p, rows_between(whole.q, wide, begin, end),
                                       rows_between(whole.k, narrow, begin, end),
                                       rows_between(whole.v, narrow, begin, end));
      EXPECT_EQ(differing(got.out, rows_between(want.out, wide, begin, end)), 0) << shape.dim;
      EXPECT_EQ(differing(got.lse, rows_between(want.lse, shape.heads, begin, end)), 0);
      begin = end;
    }
  }
}

struct Gradients {
  std::vector<float> dq, dk, dv;
};

/// The gradients over T, in rows with a gap behind them, given the rounded `out`.
template <class T>
Gradients backward(const Cpu& cpu, const Problem& p, const std::vector<T>& cache,
                   const Result& forward) {
  const std::int64_t wide = p.batch.width(), narrow = p.batch.kv_width();
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
  return {test::widened(dq), test::widened(dk), test::widened(dv)};
}

void expect_rounded_gradients(HeadShape shape, const std::vector<std::int64_t>& lengths) {
  ThreadPool pool(2);
  Problem p(shape, lengths, 45);
  const Result forward = attend_halves(best(), p, p.q, p.k, p.v);
  write_keys(best(), p.batch, p.k, p.v);
  const Gradients want = backward(best(), p, p.batch.cache, forward);
  for (const Isa isa : isas()) {
    for (ThreadPool* threads : {static_cast<ThreadPool*>(nullptr), &pool}) {
      const Gradients got = backward(Cpu{isa, threads}, p, p.cache, forward);
      EXPECT_EQ(differing(got.dq, rounded(want.dq)), 0) << name_of(isa) << " dim " << shape.dim;
      EXPECT_EQ(differing(got.dk, rounded(want.dk)), 0) << name_of(isa) << " dim " << shape.dim;
      EXPECT_EQ(differing(got.dv, rounded(want.dv)), 0) << name_of(isa) << " dim " << shape.dim;
    }
  }
}

TEST(AttentionOfBfloat16, BackwardIsTheRoundedResultOfFloat32) {
  for (const HeadShape& shape : shapes) expect_rounded_gradients(shape, {35, 141, 16, 1});
}

TEST(AttentionOfBfloat16, BackwardIsRoundedOnceAcrossTilesOfKeys) {
  expect_rounded_gradients({4, 2, 16}, {277, 130});
}

}  // namespace
}  // namespace fst::kernels
