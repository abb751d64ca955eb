#include "kernels/token_law.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include <gtest/gtest.h>

#include "kernels/thread_pool.h"
#include "support/halves.h"
#include "support/isa.h"
#include "support/noise.h"

namespace fst::kernels {
namespace {

// Float32 sums of at most 16 lanes x 1300 terms, own exp and log below 1.5 ulp.
constexpr double tolerance = 4e-6;

/// Rows of logits with their law, reference and targets; a few columns beyond the law.
struct Rows {
  std::int64_t rows, vocab, stride;
  float temperature, beta;
  std::vector<float> logits, reference;
  std::vector<std::int32_t> targets;

  Rows(std::int64_t r, std::int64_t v, float t, std::uint32_t seed, double scale = 3.0)
      : rows(r), vocab(v), stride(v + 5), temperature(t), beta(1.0f / t) {
    test::Noise noise(seed);
    logits = noise.normals(rows * stride, scale);
    reference = noise.normals(rows * stride, scale);
    for (std::int64_t i = 0; i < rows; ++i) {
      targets.push_back(static_cast<std::int32_t>(noise.below(vocab)));
    }
  }
  LawPart law() const { return {stride, vocab, beta}; }
  /// log p in double.
  std::vector<double> log_law(const std::vector<float>& z, std::int64_t row) const {
    std::vector<double> lp(static_cast<std::size_t>(vocab));
    double top = -1e300, total = 0.0;
    for (std::size_t v = 0; v < lp.size(); ++v) {
      lp[v] = static_cast<double>(z[static_cast<std::size_t>(row * stride) + v]) *
              static_cast<double>(beta);
      top = std::max(top, lp[v]);
    }
    for (const double s : lp) total += std::exp(s - top);
    for (double& s : lp) s -= top + std::log(total);
    return lp;
  }
};

struct Values {
  std::vector<float> lse, reference_lse, logprob, entropy, kl, dlogits;
};

Values all_values(const Cpu& cpu, const Rows& r) {
  const auto n = static_cast<std::size_t>(r.rows);
  Values x;
  for (auto* v : {&x.logprob, &x.entropy, &x.kl}) v->resize(n);
  x.lse.resize(2 * n);
  x.reference_lse.resize(2 * n);
  x.dlogits.resize(r.logits.size());
  EXPECT_EQ(token_lse(cpu, x.lse.data(), r.logits.data(), r.rows, r.stride, r.law()), -1);
  token_lse(cpu, x.reference_lse.data(), r.reference.data(), r.rows, r.stride, r.law());
  token_logprob(cpu, x.logprob.data(), r.logits.data(), x.lse.data(), r.targets.data(), r.rows,
                r.stride, r.law());
  token_entropy(cpu, x.entropy.data(), r.logits.data(), x.lse.data(), r.rows, r.stride, r.law());
  token_kl(cpu, x.kl.data(), r.logits.data(), x.lse.data(), r.reference.data(),
           x.reference_lse.data(), r.rows, r.stride, r.stride, r.law());
  std::vector<float> dlogprob(n, 0.7f), dentropy(n, -0.3f), dkl(n, 1.9f);
  TokenTerms terms;
  terms.dlogprob = dlogprob.data();
  terms.dentropy = dentropy.data();
  terms.entropy = x.entropy.data();
  terms.dkl = dkl.data();
  terms.kl = x.kl.data();
  terms.reference_logits = r.reference.data();
  terms.reference_lse = x.reference_lse.data();
  terms.reference_stride = r.stride;
  token_backward(cpu, x.dlogits.data(), r.logits.data(), x.lse.data(), r.targets.data(), terms,
                 r.rows, r.stride, r.stride, r.law());
  return x;
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return test::differing(a, b) == 0;
}

void expect_same_bits(const Values& a, const Values& b) {
  EXPECT_TRUE(same_bits(a.lse, b.lse));
  EXPECT_TRUE(same_bits(a.logprob, b.logprob));
  EXPECT_TRUE(same_bits(a.entropy, b.entropy));
  EXPECT_TRUE(same_bits(a.kl, b.kl));
  EXPECT_TRUE(same_bits(a.dlogits, b.dlogits));
}

TEST(TokenLaw, AgreesWithPlainDoublesForAnyVocabulary) {
  for (const std::int64_t vocab : {1, 2, 7, 8, 17, 127, 448, 20011}) {
    for (const float temperature : {1.0f, 0.6f, 1.7f}) {
      const Rows r(2, vocab, temperature, static_cast<std::uint32_t>(vocab));
      const Values x = all_values(Cpu{best_isa(), nullptr}, r);
      for (std::int64_t t = 0; t < r.rows; ++t) {
        const auto at = static_cast<std::size_t>(t);
        const auto lp = r.log_law(r.logits, t), lq = r.log_law(r.reference, t);
        double entropy = 0.0, kl = 0.0;
        for (std::size_t v = 0; v < lp.size(); ++v) {
          entropy -= std::exp(lp[v]) * lp[v];
          kl += std::exp(lp[v]) * (lp[v] - lq[v]);
        }
        const auto y = static_cast<std::size_t>(r.targets[at]);
        EXPECT_NEAR(x.logprob[at], lp[y], tolerance * (1.0 + std::fabs(lp[y])));
        EXPECT_NEAR(x.entropy[at], entropy, tolerance * (1.0 + entropy));
        EXPECT_NEAR(x.kl[at], kl, 4 * tolerance * (1.0 + kl));
        for (std::size_t v = 0; v < lp.size(); ++v) {
          const double p = std::exp(lp[v]), one = v == y ? 1.0 : 0.0;
          const double expected =
              static_cast<double>(r.beta) *
              (0.7 * (one - p) + 0.3 * p * (lp[v] + entropy) + 1.9 * p * (lp[v] - lq[v] - kl));
          ASSERT_NEAR(x.dlogits[at * static_cast<std::size_t>(r.stride) + v], expected,
                      8 * tolerance);
        }
      }
    }
  }
}

TEST(TokenLaw, GivesTheSameBitsOnEveryInstructionSetAndNumberOfThreads) {
  for (const std::int64_t vocab : {1, 5, 31, 448, 3001}) {
    const Rows r(7, vocab, 0.8f, 5);
    const Values expected = all_values(Cpu{Isa::scalar, nullptr}, r);
    for (const Isa isa : test::isas()) {
      expect_same_bits(all_values(Cpu{isa, nullptr}, r), expected);
      for (const int threads : {2, 3}) {
        ThreadPool pool(threads);
        expect_same_bits(all_values(Cpu{isa, &pool}, r), expected);
      }
    }
  }
}

TEST(TokenLaw, RowDoesNotDependOnItsBatch) {
  const Rows r(6, 333, 1.0f, 9);
  const Cpu cpu{best_isa(), nullptr};
  const Values whole = all_values(cpu, r);
  for (std::int64_t t = 0; t < r.rows; ++t) {
    Rows one(1, 333, 1.0f, 9);
    one.logits.assign(r.logits.begin() + t * r.stride, r.logits.begin() + (t + 1) * r.stride);
    one.reference.assign(r.reference.begin() + t * r.stride,
                         r.reference.begin() + (t + 1) * r.stride);
    one.targets = {r.targets[static_cast<std::size_t>(t)]};
    const Values x = all_values(cpu, one);
    const auto at = static_cast<std::size_t>(t);
    EXPECT_EQ(x.logprob[0], whole.logprob[at]);
    EXPECT_EQ(x.entropy[0], whole.entropy[at]);
    EXPECT_EQ(x.kl[0], whole.kl[at]);
    const std::vector<float> row(whole.dlogits.begin() + t * r.stride,
                                 whole.dlogits.begin() + (t + 1) * r.stride);
    EXPECT_TRUE(same_bits(x.dlogits, row));
  }
}

TEST(TokenLaw, LeafGivesTheSameBitsInEveryPlaceWhenTheOthersCarryNoMass) {
  const std::int64_t vocab = 160, leaf = vocab / 8;
  test::Noise noise(21);
  const std::vector<float> inner = noise.normals(leaf);
  const Cpu cpu{best_isa(), nullptr};
  std::vector<std::vector<float>> results;
  for (int place = 0; place < 8; ++place) {
    std::vector<float> logits(static_cast<std::size_t>(vocab), -1e4f);
    std::copy(inner.begin(), inner.end(), logits.begin() + place * leaf);
    std::vector<float> lse(2);
    token_lse(cpu, lse.data(), logits.data(), 1, vocab, {vocab, vocab, 1.0f});
    results.push_back(lse);
  }
  for (const auto& lse : results) EXPECT_EQ(lse, results[0]);
}

/// Every value of `r` as ranks compute it that hold equal parts of its columns.
Values values_in_parts(const Cpu& cpu, const Rows& r, std::int64_t ranks) {
  const auto n = static_cast<std::size_t>(r.rows);
  const std::int64_t columns = r.stride / ranks, leaves = 8 / ranks;
  const auto part = [&](std::int64_t rank) {
    return LawPart{columns, r.vocab, r.beta, rank * columns, leaves};
  };
  Values x;
  for (auto* v : {&x.entropy, &x.kl}) v->resize(n);
  x.logprob.assign(n, -std::numeric_limits<float>::infinity());
  x.lse.resize(2 * n);
  x.reference_lse.resize(2 * n);
  x.dlogits.resize(r.logits.size());
  std::vector<float> pairs(16 * n), sums(8 * n), mine(n);
  const auto lse = [&](std::vector<float>& out, const std::vector<float>& logits) {
    for (std::int64_t i = 0; i < ranks; ++i) {
      token_lse_leaves(cpu, pairs.data() + i * 2 * leaves * r.rows, logits.data() + i * columns,
                       r.rows, r.stride, part(i));
    }
    EXPECT_EQ(join_lse(cpu, out.data(), pairs.data(), r.rows, leaves, r.beta), -1);
  };
  lse(x.lse, r.logits);
  lse(x.reference_lse, r.reference);
  for (std::int64_t i = 0; i < ranks; ++i) {
    token_logprob(cpu, mine.data(), r.logits.data() + i * columns, x.lse.data(), r.targets.data(),
                  r.rows, r.stride, part(i));
    for (std::size_t t = 0; t < n; ++t) x.logprob[t] = std::max(x.logprob[t], mine[t]);
    token_entropy_leaves(cpu, sums.data() + i * leaves * r.rows, r.logits.data() + i * columns,
                         x.lse.data(), r.rows, r.stride, part(i));
  }
  join_leaves(cpu, x.entropy.data(), sums.data(), r.rows, leaves, -1.0f);
  for (std::int64_t i = 0; i < ranks; ++i) {
    token_kl_leaves(cpu, sums.data() + i * leaves * r.rows, r.logits.data() + i * columns,
                    x.lse.data(), r.reference.data() + i * columns, x.reference_lse.data(), r.rows,
                    r.stride, r.stride, part(i));
  }
  join_leaves(cpu, x.kl.data(), sums.data(), r.rows, leaves, 1.0f);
  const std::vector<float> dlogprob(n, 0.7f), dentropy(n, -0.3f), dkl(n, 1.9f);
  for (std::int64_t i = 0; i < ranks; ++i) {
    const TokenTerms terms{dlogprob.data(),
                           dentropy.data(),
                           x.entropy.data(),
                           dkl.data(),
                           x.kl.data(),
                           r.reference.data() + i * columns,
                           x.reference_lse.data(),
                           r.stride};
    token_backward(cpu, x.dlogits.data() + i * columns, r.logits.data() + i * columns, x.lse.data(),
                   r.targets.data(), terms, r.rows, r.stride, r.stride, part(i));
  }
  return x;
}

// 323 + 5 and 1203 + 5 columns: the law ends inside the last leaf; 3 + 5: most leaves are empty.
TEST(TokenLaw, PartsOfTheVocabularyGiveTheBitsOfTheWhole) {
  for (const std::int64_t vocab : {323, 1203, 3}) {
    const Rows r(7, vocab, 0.8f, 9);
    for (const Isa isa : test::isas()) {
      const Cpu cpu{isa, nullptr};
      const Values whole = all_values(cpu, r);
      for (const std::int64_t ranks : {1, 2, 4, 8}) {
        expect_same_bits(values_in_parts(cpu, r, ranks), whole);
      }
    }
  }
}

TEST(TokenLaw, PartThatIsNotFiniteSpoilsTheWholeRow) {
  Rows r(3, 35, 1.0f, 3);
  r.logits[static_cast<std::size_t>(r.stride + 21)] = std::numeric_limits<float>::infinity();
  std::vector<float> pairs(16 * 3), lse(6);
  for (std::int64_t rank = 0; rank < 4; ++rank) {
    token_lse_leaves(Cpu{}, pairs.data() + rank * 2 * 2 * 3, r.logits.data() + rank * 10, 3,
                     r.stride, {10, r.vocab, r.beta, rank * 10, 2});
  }
  EXPECT_EQ(join_lse(Cpu{}, lse.data(), pairs.data(), 3, 2, r.beta), 1);
  EXPECT_TRUE(std::isnan(lse[2]) && std::isnan(lse[3]));
  EXPECT_TRUE(std::isfinite(lse[0]) && std::isfinite(lse[5]));
}

TEST(TokenLaw, TemperatureOneIsTheLogitItself) {
  const float z = 1.2345678f;
  float lse[2] = {};
  token_lse(Cpu{}, lse, &z, 1, 1, {1, 1, 1.0f});
  EXPECT_EQ(lse[0], z);
  EXPECT_EQ(lse[1], 0.0f);  // one token: log(1)
}

TEST(TokenLaw, ReportsTheFirstRowThatIsNotFinite) {
  for (const float bad :
       {std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity(),
        std::numeric_limits<float>::quiet_NaN()}) {
    for (const std::int64_t place : {0, 16, 100, 130}) {
      Rows r(5, 131, 1.0f, 3);
      r.logits[static_cast<std::size_t>(4 * r.stride + place)] = bad;
      r.logits[static_cast<std::size_t>(2 * r.stride + place)] = bad;
      r.logits[static_cast<std::size_t>(1 * r.stride + 132)] = bad;  // beyond the law: no matter
      std::vector<float> lse(10);
      for (const Isa isa : test::isas()) {
        EXPECT_EQ(
            token_lse(Cpu{isa, nullptr}, lse.data(), r.logits.data(), r.rows, r.stride, r.law()),
            2);
        EXPECT_TRUE(std::isnan(lse[4]) && std::isnan(lse[5]));
        EXPECT_TRUE(std::isfinite(lse[2]) && std::isfinite(lse[3]));
      }
    }
  }
}

TEST(TokenLaw, LargeLogitsCostTheLogProbabilitiesNothing) {
  const Cpu cpu{best_isa(), nullptr};
  for (const float shift : {-16384.0f, 0.0f, 16384.0f}) {
    const std::vector<float> logits = {shift + 1.0f, shift - 200.0f, shift, shift - 90.0f};
    const std::vector<double> expected = {-0.31326168751822286, -201.31326168751822,
                                          -1.3132616875182228, -91.31326168751822};
    for (std::int32_t target = 0; target < 4; ++target) {
      float lse[2] = {}, logprob = 0.0f;
      token_lse(cpu, lse, logits.data(), 1, 4, {4, 4, 1.0f});
      token_logprob(cpu, &logprob, logits.data(), lse, &target, 1, 4, {4, 4, 1.0f});
      const double wanted = expected[static_cast<std::size_t>(target)];
      EXPECT_NEAR(logprob, wanted, 2e-7 * (1.0 - wanted));
    }
  }
}

TEST(TokenLaw, TargetOutsideTheLawHasProbabilityZeroAndNoGradient) {
  const Rows r(2, 33, 1.0f, 4);
  const Cpu cpu{best_isa(), nullptr};
  const std::vector<std::int32_t> outside = {33, -1};
  std::vector<float> lse(4), logprob(2), dlogits(r.logits.size(), 9.0f);
  token_lse(cpu, lse.data(), r.logits.data(), 2, r.stride, r.law());
  token_logprob(cpu, logprob.data(), r.logits.data(), lse.data(), outside.data(), 2, r.stride,
                r.law());
  const std::vector<float> ones = {1.0f, 1.0f};
  TokenTerms terms;
  terms.dlogprob = ones.data();
  token_backward(cpu, dlogits.data(), r.logits.data(), lse.data(), outside.data(), terms, 2,
                 r.stride, r.stride, r.law());
  for (const float l : logprob) EXPECT_EQ(l, -std::numeric_limits<float>::infinity());
  for (const float d : dlogits) EXPECT_EQ(d, 0.0f);
}

TEST(TokenLaw, BackwardMayOverwriteTheLogits) {
  for (const Isa isa : test::isas()) {
    const Cpu cpu{isa, nullptr};
    const Rows r(3, 101, 0.6f, 6);
    std::vector<float> lse(6), apart(r.logits.size()), inside = r.logits;
    const std::vector<float> g = {1.0f, -0.25f, 0.5f};
    token_lse(cpu, lse.data(), r.logits.data(), 3, r.stride, r.law());
    TokenTerms terms;
    terms.dlogprob = g.data();
    token_backward(cpu, apart.data(), r.logits.data(), lse.data(), r.targets.data(), terms, 3,
                   r.stride, r.stride, r.law());
    token_backward(cpu, inside.data(), inside.data(), lse.data(), r.targets.data(), terms, 3,
                   r.stride, r.stride, r.law());
    EXPECT_TRUE(same_bits(apart, inside));
    for (std::int64_t t = 0; t < 3; ++t) {
      for (std::int64_t v = r.vocab; v < r.stride; ++v) {
        EXPECT_EQ(apart[static_cast<std::size_t>(t * r.stride + v)], 0.0f);
      }
    }
  }
}

TEST(TokenLaw, GradientOfBfloat16IsTheRoundedGradientOfFloat32) {
  for (const std::int64_t vocab : {1, 5, 448, 3001}) {
    const Rows r(7, vocab, 0.8f, 5);
    const Values x = all_values(Cpu{best_isa(), nullptr}, r);
    const std::vector<float> dlogprob(7, 0.7f), dentropy(7, -0.3f), dkl(7, 1.9f);
    const TokenTerms all{dlogprob.data(), dentropy.data(),    x.entropy.data(),       dkl.data(),
                         x.kl.data(),     r.reference.data(), x.reference_lse.data(), r.stride};
    const TokenTerms first{dlogprob.data()};
    ThreadPool pool(2);
    for (const Isa isa : test::isas()) {
      for (ThreadPool* threads : {static_cast<ThreadPool*>(nullptr), &pool}) {
        for (const TokenTerms& terms : {all, first}) {
          const Cpu cpu{isa, threads};
          const std::int64_t wide = r.stride + 3;  // its own stride
          const auto size = static_cast<std::size_t>(r.rows * wide);
          std::vector<float> want(size, 9.0f);
          std::vector<Bf16> got(size, narrowed(9.0f));
          token_backward(cpu, want.data(), r.logits.data(), x.lse.data(), r.targets.data(), terms,
                         r.rows, wide, r.stride, r.law());
          token_backward(cpu, got.data(), r.logits.data(), x.lse.data(), r.targets.data(), terms,
                         r.rows, wide, r.stride, r.law());
          EXPECT_TRUE(same_bits(test::widened(got), test::rounded(want))) << name_of(isa);
        }
      }
    }
  }
}

TEST(TokenLaw, GradientsMatchFiniteDifferences) {
  const Rows r(1, 23, 1.3f, 8, 1.5);
  const Values x = all_values(Cpu{best_isa(), nullptr}, r);
  const auto loss = [&](const Rows& rows) {
    const auto lp = rows.log_law(rows.logits, 0), lq = rows.log_law(rows.reference, 0);
    double entropy = 0.0, kl = 0.0;
    for (std::size_t v = 0; v < lp.size(); ++v) {
      entropy -= std::exp(lp[v]) * lp[v];
      kl += std::exp(lp[v]) * (lp[v] - lq[v]);
    }
    return 0.7 * lp[static_cast<std::size_t>(rows.targets[0])] - 0.3 * entropy + 1.9 * kl;
  };
  const float h = 1.0f / 128;  // exact in the logits' floats up to rounding; error h^2
  for (std::size_t v = 0; v < 23; ++v) {
    Rows up = r, down = r;
    up.logits[v] += h;
    down.logits[v] -= h;
    const double step = static_cast<double>(up.logits[v]) - static_cast<double>(down.logits[v]);
    EXPECT_NEAR(x.dlogits[v], (loss(up) - loss(down)) / step, 2e-4);
  }
}

}  // namespace
}  // namespace fst::kernels
