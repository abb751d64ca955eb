#include <gtest/gtest.h>

#include "attention_support.h"
#include "isa.h"
#include "kernels/attention.h"

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
using test::write_keys;

// Central differences with step 1/64 on a float32 loss summed in double: error about h^2 plus
// rounding 1e-6 / h.
constexpr double difference_bound = 3e-3;
// Float32 chains against the same formulas in double precision.
constexpr double reference_bound = 3e-5;

const HeadShape shapes[] = {{4, 2, 32}, {3, 3, 24}, {8, 1, 16}, {6, 2, 5}};

struct Problem {
  Batch batch;
  std::vector<float> q, k, v, dout;
  Problem(HeadShape shape, const std::vector<std::int64_t>& lengths, std::uint32_t seed)
      : batch(shape, lengths, lengths, seed) {
    Noise noise(seed);
    q = noise.normals(batch.rows() * batch.width());
    k = noise.normals(batch.rows() * batch.kv_width());
    v = noise.normals(batch.rows() * batch.kv_width());
    dout = noise.normals(batch.rows() * batch.width());
  }
  Result forward(const Cpu& cpu) {
    write_keys(cpu, batch, k, v);
    return attend(cpu, batch, q);
  }
  double loss() {
    const Result r = forward(Cpu{best_isa(), nullptr});
    double total = 0.0;
    for (std::size_t i = 0; i < r.out.size(); ++i) {
      total += static_cast<double>(r.out[i]) * static_cast<double>(dout[i]);
    }
    return total;
  }
};

struct Gradients {
  std::vector<float> dq, dk, dv;
};

Gradients backward(const Cpu& cpu, Problem& p) {
  const Result r = p.forward(cpu);
  Gradients g;
  const float garbage = 7.0f;  // the outputs are overwritten
  g.dq.assign(p.q.size(), garbage);
  g.dk.assign(p.k.size(), garbage);
  g.dv.assign(p.v.size(), garbage);
  const std::int64_t wide = p.batch.width(), narrow = p.batch.kv_width();
  const AttentionGradients<float> gradients{into(g.dq, wide),   into(g.dk, narrow),
                                            into(g.dv, narrow), from(p.dout, wide),
                                            from(r.out, wide),  r.lse.data()};
  attention_backward(cpu, gradients, from(p.q, wide), p.batch.cache.data(), p.batch.paged(),
                     p.batch.scale());
  return g;
}

TEST(AttentionBackward, AgreesWithCentralDifferences) {
  const double step = 1.0 / 64;
  for (const HeadShape& shape : shapes) {
    Problem p(shape, {19, 3}, 31);
    const Gradients g = backward(Cpu{best_isa(), nullptr}, p);
    const auto check = [&](std::vector<float>& x, const std::vector<float>& dx, const char* name) {
      for (std::size_t i = 0; i < x.size(); i += 37) {
        const float old = x[i];
        x[i] = old + static_cast<float>(step);
        const double up = p.loss();
        x[i] = old - static_cast<float>(step);
        const double down = p.loss();
        x[i] = old;
        ASSERT_NEAR(dx[i], (up - down) / (2 * step), difference_bound)
            << name << " " << i << " dim " << shape.dim;
      }
    };
    check(p.q, g.dq, "dq");
    check(p.k, g.dk, "dk");
    check(p.v, g.dv, "dv");
  }
}

/// The formulas of kernels/attention.h in double precision, one sequence.
void expect_reference(HeadShape s, std::int64_t length) {
  Problem p(s, {length}, 33);
  const Gradients got = backward(Cpu{best_isa(), nullptr}, p);
  const Result r = p.forward(Cpu{best_isa(), nullptr});
  const auto scale = static_cast<double>(p.batch.scale());
  std::vector<double> dq(p.q.size()), dk(p.k.size()), dv(p.v.size());
  const auto dot = [&](const std::vector<float>& x, std::int64_t i, const std::vector<float>& y,
                       std::int64_t j) {
    double total = 0.0;
    for (std::int64_t h = 0; h < s.dim; ++h) {
      total += static_cast<double>(x[static_cast<std::size_t>(i * s.dim + h)]) *
               static_cast<double>(y[static_cast<std::size_t>(j * s.dim + h)]);
    }
    return total;
  };
  const auto add = [&](std::vector<double>& to, std::int64_t i, double factor,
                       const std::vector<float>& x, std::int64_t j) {
    for (std::int64_t h = 0; h < s.dim; ++h) {
      to[static_cast<std::size_t>(i * s.dim + h)] +=
          factor * static_cast<double>(x[static_cast<std::size_t>(j * s.dim + h)]);
    }
  };
  for (std::int64_t i = 0; i < length; ++i) {
    for (std::int64_t n = 0; n < s.heads; ++n) {
      const std::int64_t row = i * s.heads + n;
      const double d = dot(p.dout, row, r.out, row);
      for (std::int64_t j = 0; j <= i; ++j) {
        const std::int64_t key = j * s.kv_heads + n / (s.heads / s.kv_heads);
        const double pij = std::exp(dot(p.q, row, p.k, key) * scale -
                                    static_cast<double>(r.lse[static_cast<std::size_t>(row)]));
        const double ds = pij * (dot(p.dout, row, p.v, key) - d) * scale;
        add(dq, row, ds, p.k, key);
        add(dk, key, ds, p.q, row);
        add(dv, key, pij, p.dout, row);
      }
    }
  }
  for (std::size_t i = 0; i < dq.size(); ++i) ASSERT_NEAR(got.dq[i], dq[i], reference_bound) << i;
  for (std::size_t i = 0; i < dk.size(); ++i) ASSERT_NEAR(got.dk[i], dk[i], reference_bound) << i;
  for (std::size_t i = 0; i < dv.size(); ++i) ASSERT_NEAR(got.dv[i], dv[i], reference_bound) << i;
}

TEST(AttentionBackward, AgreesWithTheFormulasInDoublePrecision) {
  for (const HeadShape& shape : shapes) expect_reference(shape, 35);
  expect_reference({2, 1, 16}, 277);  // three tiles
}

TEST(AttentionBackward, BitsAreTheSameOnAllInstructionSetsAndThreads) {
  ThreadPool pool(2);
  for (const HeadShape& shape : shapes) {
    Problem p(shape, {35, 141, 16, 1}, 35);
    const Gradients first = backward(Cpu{best_isa(), nullptr}, p);
    for (const Isa isa : isas()) {
      for (ThreadPool* threads : {static_cast<ThreadPool*>(nullptr), &pool}) {
        const Gradients got = backward(Cpu{isa, threads}, p);
        EXPECT_EQ(differing(got.dq, first.dq), 0) << name_of(isa) << " dim " << shape.dim;
        EXPECT_EQ(differing(got.dk, first.dk), 0) << name_of(isa) << " dim " << shape.dim;
        EXPECT_EQ(differing(got.dv, first.dv), 0) << name_of(isa) << " dim " << shape.dim;
      }
    }
  }
}

TEST(AttentionBackward, ASequenceDoesNotDependOnItsBatch) {
  const HeadShape shape{4, 2, 32};
  Problem packed(shape, {20, 47, 33}, 37);
  const Gradients all = backward(Cpu{best_isa(), nullptr}, packed);
  Problem alone(shape, {47}, 38);
  const auto cut = [](const std::vector<float>& x, std::int64_t width) {
    return std::vector<float>(x.begin() + 20 * width, x.begin() + 67 * width);
  };
  const std::int64_t wide = packed.batch.width(), narrow = packed.batch.kv_width();
  alone.q = cut(packed.q, wide);
  alone.k = cut(packed.k, narrow);
  alone.v = cut(packed.v, narrow);
  alone.dout = cut(packed.dout, wide);
  const Gradients one = backward(Cpu{best_isa(), nullptr}, alone);
  EXPECT_EQ(differing(cut(all.dq, wide), one.dq), 0);
  EXPECT_EQ(differing(cut(all.dk, narrow), one.dk), 0);
  EXPECT_EQ(differing(cut(all.dv, narrow), one.dv), 0);
}

}  // namespace
}  // namespace fst::kernels
