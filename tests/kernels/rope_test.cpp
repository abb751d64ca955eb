#include "kernels/rope.h"

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

// Half an ulp of float32 below 1, and a little for the double-precision routine.
constexpr double table_bound = 0x1p-25 * 1.001;
// Central differences with step 1/128 on a smooth function: about h^2 plus rounding 1e-6 / h.
constexpr double difference_bound = 2e-3;
constexpr float eps = 1e-6f;

struct Case {
  std::int64_t rows, heads, dim, stride;
  std::vector<float> x, weight, dy, cosine, sine;
  std::vector<std::int32_t> positions;
  Case(std::int64_t r, std::int64_t h, std::int64_t d) : rows(r), heads(h), dim(d) {
    stride = heads * dim + 3;  // a block of columns of something wider
    Noise noise(static_cast<std::uint32_t>(r + h + d));
    x = noise.normals(rows * stride);
    dy = noise.normals(rows * stride);
    weight = noise.normals(dim);
    for (std::int64_t t = 0; t < rows; ++t) {
      positions.push_back(static_cast<std::int32_t>(noise.below(50)));
    }
    cosine.resize(static_cast<std::size_t>(50 * dim / 2));
    sine.resize(cosine.size());
    rope_table(Cpu{best_isa(), nullptr}, cosine.data(), sine.data(), 10000.0, 50, dim / 2);
  }
  HeadRows shape(bool norm) const {
    return {rows,
            heads,
            dim,
            positions.data(),
            cosine.data(),
            sine.data(),
            norm ? weight.data() : nullptr};
  }
};

struct Results {
  std::vector<float> y, rstd, dx, dweight;
};

Results run(const Cpu& cpu, const Case& c, bool norm) {
  Results r;
  r.y.assign(c.x.size(), 9.0f);
  r.dx.assign(c.x.size(), 9.0f);
  r.rstd.assign(static_cast<std::size_t>(c.rows * c.heads), 9.0f);
  r.dweight.assign(static_cast<std::size_t>(c.heads * c.dim), 0.5f);
  head_norm_rope_forward(cpu, r.y.data(), c.stride, r.rstd.data(), c.x.data(), c.stride, eps,
                         c.shape(norm));
  head_norm_rope_backward(cpu, r.dx.data(), c.stride, norm ? r.dweight.data() : nullptr,
                          c.dy.data(), c.stride, c.x.data(), c.stride, r.rstd.data(),
                          c.shape(norm));
  return r;
}

Cpu best() {
  return Cpu{best_isa(), nullptr};
}

double loss(const Case& c, bool norm) {
  const Results r = run(best(), c, norm);
  double total = 0.0;
  for (std::int64_t t = 0; t < c.rows; ++t) {
    for (std::int64_t i = 0; i < c.heads * c.dim; ++i) {
      const auto at = static_cast<std::size_t>(t * c.stride + i);
      total += static_cast<double>(r.y[at]) * static_cast<double>(c.dy[at]);
    }
  }
  return total;
}

TEST(RopeTable, IsTheRoundedCosineAndSineOfTheRoundedAngle) {
  const std::int64_t positions = 4099;
  for (const double theta : {10000.0, 1e6}) {
    for (const std::int64_t half : {8, 12, 64}) {
      std::vector<float> cosine(static_cast<std::size_t>(positions * half)), sine(cosine.size());
      rope_table(best(), cosine.data(), sine.data(), theta, positions, half);
      for (std::int64_t p = 0; p < positions; p += 11) {
        for (std::int64_t i = 0; i < half; ++i) {
          const float exponent = static_cast<float>(2 * i) / static_cast<float>(2 * half);
          const auto power = static_cast<float>(
              std::pow(static_cast<long double>(theta), static_cast<long double>(exponent)));
          const float angle = static_cast<float>(p) * (1.0f / power);
          const auto at = static_cast<std::size_t>(p * half + i);
          ASSERT_NEAR(cosine[at], static_cast<double>(std::cos(static_cast<long double>(angle))),
                      table_bound);
          ASSERT_NEAR(sine[at], static_cast<double>(std::sin(static_cast<long double>(angle))),
                      table_bound);
        }
      }
    }
  }
}

TEST(RopeTable, BitsAreTheSameOnAllInstructionSetsAndThreads) {
  ThreadPool pool(2);
  const std::int64_t positions = 1100, half = 9;
  std::vector<float> first;
  for (const Isa isa : isas()) {
    for (ThreadPool* threads : {static_cast<ThreadPool*>(nullptr), &pool}) {
      std::vector<float> both(static_cast<std::size_t>(2 * positions * half));
      rope_table(Cpu{isa, threads}, both.data(), both.data() + positions * half, 1e6, positions,
                 half);
      if (first.empty()) first = both;
      EXPECT_EQ(differing(both, first), 0) << name_of(isa);
    }
  }
}

TEST(HeadNormRope, RotatesTheHalvesOfTheNormalisedHead) {
  for (const bool norm : {false, true}) {
    const Case c(5, 3, 24);
    const Results r = run(best(), c, norm);
    for (std::int64_t t = 0; t < c.rows; ++t) {
      for (std::int64_t n = 0; n < c.heads; ++n) {
        const float* const x = c.x.data() + t * c.stride + n * c.dim;
        const float* const y = r.y.data() + t * c.stride + n * c.dim;
        double square = 0.0;
        for (std::int64_t i = 0; i < c.dim; ++i) {
          square += static_cast<double>(x[i]) * static_cast<double>(x[i]);
        }
        const double rstd =
            norm ? 1.0 / std::sqrt(square / static_cast<double>(c.dim) + 1e-6) : 1.0;
        const auto normal = [&](std::int64_t i) {
          return static_cast<double>(x[i]) * rstd *
                 (norm ? static_cast<double>(c.weight[static_cast<std::size_t>(i)]) : 1.0);
        };
        const std::int64_t half = c.dim / 2;
        for (std::int64_t i = 0; i < half; ++i) {
          const auto at =
              static_cast<std::size_t>(c.positions[static_cast<std::size_t>(t)] * half + i);
          const auto cosine = static_cast<double>(c.cosine[at]);
          const auto sine = static_cast<double>(c.sine[at]);
          ASSERT_NEAR(y[i], normal(i) * cosine - normal(i + half) * sine, 4e-6);
          ASSERT_NEAR(y[i + half], normal(i + half) * cosine + normal(i) * sine, 4e-6);
        }
      }
      EXPECT_EQ(r.y[static_cast<std::size_t>(t * c.stride + c.heads * c.dim)], 9.0f)
          << "columns beyond the heads";
    }
  }
}

TEST(HeadNormRope, DataGradientAgreesWithCentralDifferences) {
  const float step = 1.0f / 128;
  for (const bool norm : {false, true}) {
    for (const std::int64_t dim : {10, 32}) {
      Case c(3, 2, dim);
      const Results r = run(best(), c, norm);
      for (std::int64_t t = 0; t < c.rows; ++t) {
        for (std::int64_t i = 0; i < c.heads * c.dim; i += 3) {
          const auto at = static_cast<std::size_t>(t * c.stride + i);
          const float old = c.x[at];
          c.x[at] = old + step;
          const double up = loss(c, norm);
          c.x[at] = old - step;
          const double down = loss(c, norm);
          c.x[at] = old;
          ASSERT_NEAR(r.dx[at], (up - down) * 64.0, difference_bound) << "norm " << norm;
        }
      }
    }
  }
}

TEST(HeadNormRope, WeightGradientsOfTheHeadsAddUpToCentralDifferences) {
  const float step = 1.0f / 128;
  Case c(7, 3, 24);
  const Results r = run(best(), c, true);
  for (std::int64_t i = 0; i < c.dim; ++i) {
    double sum = 0.0;
    for (std::int64_t n = 0; n < c.heads; ++n) {
      sum += static_cast<double>(r.dweight[static_cast<std::size_t>(n * c.dim + i)]) - 0.5;
    }
    const auto at = static_cast<std::size_t>(i);
    const float old = c.weight[at];
    c.weight[at] = old + step;
    const double up = loss(c, true);
    c.weight[at] = old - step;
    const double down = loss(c, true);
    c.weight[at] = old;
    ASSERT_NEAR(sum, (up - down) * 64.0, difference_bound) << i;
  }
}

TEST(HeadNormRope, BitsAreTheSameOnAllInstructionSetsAndThreads) {
  ThreadPool pool(2);
  for (const std::int64_t dim : {6, 24, 128}) {
    const Case c(301, 3, dim);
    const Results first = run(best(), c, true);
    for (const Isa isa : isas()) {
      for (ThreadPool* threads : {static_cast<ThreadPool*>(nullptr), &pool}) {
        const Results got = run(Cpu{isa, threads}, c, true);
        EXPECT_EQ(differing(got.y, first.y), 0) << name_of(isa);
        EXPECT_EQ(differing(got.rstd, first.rstd), 0) << name_of(isa);
        EXPECT_EQ(differing(got.dx, first.dx), 0) << name_of(isa);
        EXPECT_EQ(differing(got.dweight, first.dweight), 0) << name_of(isa);
      }
    }
  }
}

TEST(HeadNormRope, WorksInPlace) {
  const Case c(9, 2, 24);
  const Results apart = run(best(), c, true);
  std::vector<float> y = c.x, dx = c.dy, rstd(static_cast<std::size_t>(c.rows * c.heads));
  std::vector<float> dweight(static_cast<std::size_t>(c.heads * c.dim), 0.5f);
  head_norm_rope_forward(best(), y.data(), c.stride, rstd.data(), y.data(), c.stride, eps,
                         c.shape(true));
  head_norm_rope_backward(best(), dx.data(), c.stride, dweight.data(), dx.data(), c.stride,
                          c.x.data(), c.stride, rstd.data(), c.shape(true));
  for (std::int64_t t = 0; t < c.rows; ++t) {
    const auto n = static_cast<std::size_t>(c.heads * c.dim);
    EXPECT_EQ(differing(y.data() + t * c.stride, apart.y.data() + t * c.stride, n), 0);
    EXPECT_EQ(differing(dx.data() + t * c.stride, apart.dx.data() + t * c.stride, n), 0);
  }
  EXPECT_EQ(differing(dweight, apart.dweight), 0);
}

/// run() with rows of bfloat16, which hold the rounded values of `c`; in place where asked.
Results run_halves(const Cpu& cpu, const Case& c, bool norm, bool in_place) {
  const std::vector<Bf16> x = test::narrowed(c.x), dy = test::narrowed(c.dy);
  std::vector<Bf16> y(x.size(), narrowed(9.0f)), dx = y;
  if (in_place) {
    y = x;
    dx = dy;
  }
  Results r;
  r.rstd.assign(static_cast<std::size_t>(c.rows * c.heads), 9.0f);
  r.dweight.assign(static_cast<std::size_t>(c.heads * c.dim), 0.5f);
  head_norm_rope_forward(cpu, y.data(), c.stride, r.rstd.data(), in_place ? y.data() : x.data(),
                         c.stride, eps, c.shape(norm));
  head_norm_rope_backward(cpu, dx.data(), c.stride, norm ? r.dweight.data() : nullptr,
                          in_place ? dx.data() : dy.data(), c.stride, x.data(), c.stride,
                          r.rstd.data(), c.shape(norm));
  r.y = test::widened(y);
  r.dx = test::widened(dx);
  return r;
}

TEST(HeadNormRope, OfBfloat16IsTheRoundedResultOfFloat32) {
  ThreadPool pool(2);
  for (const std::int64_t dim : {6, 24, 128}) {
    Case c(301, 3, dim);
    const Case halves = c;
    c.x = test::rounded(c.x);
    c.dy = test::rounded(c.dy);
    for (const bool norm : {false, true}) {
      const Results want = run(best(), c, norm);
      for (const Isa isa : isas()) {
        for (ThreadPool* threads : {static_cast<ThreadPool*>(nullptr), &pool}) {
          const Results got = run_halves(Cpu{isa, threads}, halves, norm, false);
          EXPECT_EQ(differing(got.y, test::rounded(want.y)), 0) << name_of(isa);
          EXPECT_EQ(differing(got.rstd, want.rstd), 0) << name_of(isa);
          EXPECT_EQ(differing(got.dx, test::rounded(want.dx)), 0) << name_of(isa);
          EXPECT_EQ(differing(got.dweight, want.dweight), 0) << name_of(isa);
        }
      }
    }
  }
}

TEST(HeadNormRope, OfBfloat16WorksInPlace) {
  const Case c(9, 2, 24);
  const Results apart = run_halves(best(), c, true, false);
  const Results in_place = run_halves(best(), c, true, true);
  for (std::int64_t t = 0; t < c.rows; ++t) {
    const auto n = static_cast<std::size_t>(c.heads * c.dim);
    const std::int64_t at = t * c.stride;
    EXPECT_EQ(differing(in_place.y.data() + at, apart.y.data() + at, n), 0);
    EXPECT_EQ(differing(in_place.dx.data() + at, apart.dx.data() + at, n), 0);
  }
  EXPECT_EQ(differing(in_place.dweight, apart.dweight), 0);
}

}  // namespace
}  // namespace fst::kernels
