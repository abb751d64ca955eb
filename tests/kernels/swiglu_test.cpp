#include "kernels/swiglu.h"

#include <cmath>

#include <gtest/gtest.h>

#include "halves.h"
#include "isa.h"
#include "kernels/thread_pool.h"
#include "noise.h"

namespace fst::kernels {
namespace {

using test::differing;
using test::isas;
using test::Noise;

// A handful of float32 roundings, relative to values of order up to 40.
constexpr double relative_bound = 1e-6;

struct Results {
  std::vector<float> h, dgate_up;
};

Results run(const Cpu& cpu, const std::vector<float>& gate_up, const std::vector<float>& dh,
            std::int64_t rows, std::int64_t dim) {
  Results r{std::vector<float>(dh.size()), gate_up};  // the gradient takes the place of its input
  swiglu_forward(cpu, r.h.data(), gate_up.data(), rows, dim);
  swiglu_backward(cpu, r.dgate_up.data(), dh.data(), r.dgate_up.data(), rows, dim);
  return r;
}

TEST(Swiglu, AgreesWithTheFormulasInDoublePrecision) {
  const std::int64_t rows = 3;
  for (const std::int64_t dim : {1, 16, 41}) {
    Noise noise(1);
    const auto gate_up = noise.normals(rows * 2 * dim, 4.0), dh = noise.normals(rows * dim);
    const Results r = run(Cpu{best_isa(), nullptr}, gate_up, dh, rows, dim);
    for (std::int64_t t = 0; t < rows; ++t) {
      for (std::int64_t i = 0; i < dim; ++i) {
        const auto gate_at = static_cast<std::size_t>(t * 2 * dim + i);
        const auto up_at = gate_at + static_cast<std::size_t>(dim);
        const auto at = static_cast<std::size_t>(t * dim + i);
        const auto g = static_cast<double>(gate_up[gate_at]);
        const auto u = static_cast<double>(gate_up[up_at]), d = static_cast<double>(dh[at]);
        const double s = 1.0 / (1.0 + std::exp(-g));
        const double dg = d * u * (s + g * s * (1.0 - s));
        ASSERT_NEAR(r.h[at], g * s * u, relative_bound * (1.0 + std::fabs(g * u)));
        ASSERT_NEAR(r.dgate_up[gate_at], dg, relative_bound * (1.0 + std::fabs(d * u * g)));
        ASSERT_NEAR(r.dgate_up[up_at], d * g * s, relative_bound * (1.0 + std::fabs(d * g)));
      }
    }
  }
}

TEST(Swiglu, ExtremeGatesGiveZeroOrTheGateItself) {
  const std::vector<float> gate_up{-200.0f, 200.0f, 3.0f, 3.0f}, dh{1.0f, 1.0f};
  const Results r = run(Cpu{best_isa(), nullptr}, gate_up, dh, 1, 2);
  EXPECT_EQ(r.h, (std::vector<float>{0.0f, 600.0f}));
  EXPECT_EQ(r.dgate_up, (std::vector<float>{0.0f, 3.0f, 0.0f, 200.0f}));
}

TEST(Swiglu, BitsAreTheSameOnAllInstructionSetsAndThreads) {
  ThreadPool pool(2);
  const std::int64_t rows = 701, dim = 53;
  Noise noise(2);
  const auto gate_up = noise.normals(rows * 2 * dim, 4.0), dh = noise.normals(rows * dim);
  const Results first = run(Cpu{best_isa(), nullptr}, gate_up, dh, rows, dim);
  for (const Isa isa : isas()) {
    for (ThreadPool* threads : {static_cast<ThreadPool*>(nullptr), &pool}) {
      const Results got = run(Cpu{isa, threads}, gate_up, dh, rows, dim);
      EXPECT_EQ(differing(got.h, first.h), 0) << name_of(isa);
      EXPECT_EQ(differing(got.dgate_up, first.dgate_up), 0) << name_of(isa);
    }
  }
}

TEST(Swiglu, OfBfloat16IsTheRoundedResultOfFloat32) {
  ThreadPool pool(2);
  const std::int64_t rows = 701, dim = 53;
  Noise noise(3);
  const auto gate_up = test::rounded(noise.normals(rows * 2 * dim, 4.0));
  const auto dh = test::rounded(noise.normals(rows * dim));
  const Results want = run(Cpu{best_isa(), nullptr}, gate_up, dh, rows, dim);
  const auto half_gate_up = test::narrowed(gate_up), half_dh = test::narrowed(dh);
  for (const Isa isa : isas()) {
    for (ThreadPool* threads : {static_cast<ThreadPool*>(nullptr), &pool}) {
      const Cpu cpu{isa, threads};
      std::vector<Bf16> h(dh.size()), dgate_up = half_gate_up;
      swiglu_forward(cpu, h.data(), half_gate_up.data(), rows, dim);
      swiglu_backward(cpu, dgate_up.data(), half_dh.data(), dgate_up.data(), rows, dim);
      EXPECT_EQ(differing(test::widened(h), test::rounded(want.h)), 0) << name_of(isa);
      EXPECT_EQ(differing(test::widened(dgate_up), test::rounded(want.dgate_up)), 0)
          << name_of(isa);
    }
  }
}

}  // namespace
}  // namespace fst::kernels
