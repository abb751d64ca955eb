#include "kernels/rms_norm.h"

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

// A few float32 roundings of values of order 1; sums of up to 131 terms.
constexpr double reference_bound = 2e-6;
constexpr double weight_bound = 2e-5;
constexpr float eps = 1e-6f;

struct Rows {
  std::int64_t rows, dim;
  std::vector<float> x, weight, dy;
  Rows(std::int64_t r, std::int64_t d, std::uint32_t seed) : rows(r), dim(d) {
    Noise noise(seed);
    x = noise.normals(rows * dim, 2.0);
    weight = noise.normals(dim);
    dy = noise.normals(rows * dim);
  }
};

struct Results {
  std::vector<float> y, rstd, dx, dweight;
};

Results run(const Cpu& cpu, const Rows& in, bool accumulate = false) {
  Results r;
  r.y.resize(in.x.size());
  r.rstd.resize(static_cast<std::size_t>(in.rows));
  r.dx.assign(in.x.size(), 0.5f);
  r.dweight.assign(in.weight.size(), 0.25f);
  rms_norm_forward(cpu, r.y.data(), r.rstd.data(), in.x.data(), in.weight.data(), in.rows, in.dim,
                   eps);
  rms_norm_backward(cpu, r.dx.data(), r.dweight.data(), in.dy.data(), in.x.data(), r.rstd.data(),
                    in.weight.data(), in.rows, in.dim, accumulate);
  return r;
}

Cpu best() {
  return Cpu{best_isa(), nullptr};
}

TEST(RmsNorm, HasUnitRootMeanSquareForUnitWeight) {
  Rows in(3, 7, 1);
  in.weight.assign(7, 1.0f);
  const Results r = run(best(), in);
  for (std::int64_t t = 0; t < in.rows; ++t) {
    double square = 0.0;
    for (std::int64_t i = 0; i < in.dim; ++i) {
      const auto y = static_cast<double>(r.y[static_cast<std::size_t>(t * in.dim + i)]);
      square += y * y / static_cast<double>(in.dim);
    }
    EXPECT_NEAR(square, 1.0, reference_bound) << "row " << t;
  }
}

/// Both directions by the formulas in double precision.
void expect_reference(const Rows& in) {
  const Results r = run(best(), in);
  std::vector<double> dweight(in.weight.size(), 0.25);
  for (std::int64_t t = 0; t < in.rows; ++t) {
    const auto at = [&](const std::vector<float>& v, std::int64_t i) {
      return static_cast<double>(v[static_cast<std::size_t>(t * in.dim + i)]);
    };
    const auto weight = [&](std::int64_t i) {
      return static_cast<double>(in.weight[static_cast<std::size_t>(i)]);
    };
    double square = 0.0, inner = 0.0;
    for (std::int64_t i = 0; i < in.dim; ++i) {
      square += at(in.x, i) * at(in.x, i);
      inner += at(in.dy, i) * weight(i) * at(in.x, i);
    }
    const auto dim = static_cast<double>(in.dim);
    const double rstd = 1.0 / std::sqrt(square / dim + static_cast<double>(eps));
    for (std::int64_t i = 0; i < in.dim; ++i) {
      ASSERT_NEAR(at(r.y, i), at(in.x, i) * rstd * weight(i), reference_bound * 8);
      const double dx = rstd * (at(in.dy, i) * weight(i) - at(in.x, i) * rstd * rstd * inner / dim);
      ASSERT_NEAR(at(r.dx, i), dx, reference_bound * 8) << "row " << t << " column " << i;
      dweight[static_cast<std::size_t>(i)] += at(in.dy, i) * at(in.x, i) * rstd;
    }
  }
  for (std::size_t i = 0; i < dweight.size(); ++i) {
    ASSERT_NEAR(r.dweight[i], dweight[i], weight_bound) << i;
  }
}

TEST(RmsNorm, AgreesWithTheFormulasInDoublePrecision) {
  for (const std::int64_t dim : {1, 7, 16, 48, 131}) expect_reference(Rows(13, dim, 2));
}

TEST(RmsNorm, AddsToTheDataGradientWhereAsked) {
  const Rows in(5, 37, 3);
  const Results plain = run(best(), in), added = run(best(), in, true);
  for (std::size_t i = 0; i < plain.dx.size(); ++i) {
    ASSERT_EQ(added.dx[i], 0.5f + plain.dx[i]) << i;
  }
}

TEST(RmsNorm, BitsAreTheSameOnAllInstructionSetsAndThreads) {
  ThreadPool pool(2);
  for (const std::int64_t dim : {7, 131, 160}) {
    const Rows in(301, dim, 4);
    const Results first = run(best(), in);
    for (const Isa isa : isas()) {
      for (ThreadPool* threads : {static_cast<ThreadPool*>(nullptr), &pool}) {
        const Results got = run(Cpu{isa, threads}, in);
        EXPECT_EQ(differing(got.y, first.y), 0) << name_of(isa);
        EXPECT_EQ(differing(got.rstd, first.rstd), 0) << name_of(isa);
        EXPECT_EQ(differing(got.dx, first.dx), 0) << name_of(isa);
        EXPECT_EQ(differing(got.dweight, first.dweight), 0) << name_of(isa);
      }
    }
  }
}

TEST(RmsNorm, WeightGradientIsOneChainHoweverTheRowsAreCut) {
  const Rows in(29, 40, 5);
  const Results whole = run(best(), in);
  std::vector<float> dweight(in.weight.size(), 0.25f), dx(in.x.size());
  std::int64_t begin = 0;
  for (const std::int64_t end : {1, 17, 29}) {
    const std::int64_t at = begin * in.dim;
    rms_norm_backward(best(), dx.data(), dweight.data(), in.dy.data() + at, in.x.data() + at,
                      whole.rstd.data() + begin, in.weight.data(), end - begin, in.dim, false);
    begin = end;
  }
  EXPECT_EQ(differing(dweight, whole.dweight), 0);
}

/// run() with rows of bfloat16, which hold the rounded values of `in`.
Results run_halves(const Cpu& cpu, const Rows& in, bool accumulate = false) {
  const std::vector<Bf16> x = test::narrowed(in.x), dy = test::narrowed(in.dy);
  std::vector<Bf16> y(x.size()), dx(x.size(), narrowed(0.5f));
  Results r;
  r.rstd.resize(static_cast<std::size_t>(in.rows));
  r.dweight.assign(in.weight.size(), 0.25f);
  rms_norm_forward(cpu, y.data(), r.rstd.data(), x.data(), in.weight.data(), in.rows, in.dim, eps);
  rms_norm_backward(cpu, dx.data(), r.dweight.data(), dy.data(), x.data(), r.rstd.data(),
                    in.weight.data(), in.rows, in.dim, accumulate);
  r.y = test::widened(y);
  r.dx = test::widened(dx);
  return r;
}

TEST(RmsNorm, OfBfloat16IsTheRoundedResultOfFloat32) {
  ThreadPool pool(2);
  for (const std::int64_t dim : {7, 131, 160}) {
    Rows in(301, dim, 6);
    const auto halves = in;
    in.x = test::rounded(in.x);
    in.dy = test::rounded(in.dy);
    for (const bool accumulate : {false, true}) {
      const Results want = run(best(), in, accumulate);
      for (const Isa isa : isas()) {
        for (ThreadPool* threads : {static_cast<ThreadPool*>(nullptr), &pool}) {
          const Results got = run_halves(Cpu{isa, threads}, halves, accumulate);
          EXPECT_EQ(differing(got.y, test::rounded(want.y)), 0) << name_of(isa);
          EXPECT_EQ(differing(got.rstd, want.rstd), 0) << name_of(isa);
          EXPECT_EQ(differing(got.dx, test::rounded(want.dx)), 0) << name_of(isa);
          EXPECT_EQ(differing(got.dweight, want.dweight), 0) << name_of(isa);
        }
      }
    }
  }
}

}  // namespace
}  // namespace fst::kernels
