#include "kernels/sampling.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numeric>
#include <vector>

#include <gtest/gtest.h>

#include "kernels/philox.h"
#include "kernels/thread_pool.h"
#include "kernels/token_law.h"
#include "support/isa.h"
#include "support/noise.h"

namespace fst::kernels {
namespace {

struct Draws {
  std::vector<std::int32_t> tokens;
  std::vector<float> logprob;
};

struct Problem {
  std::int64_t rows, vocab, stride;
  std::vector<float> logits;
  std::vector<std::uint64_t> keys;
  std::vector<std::int32_t> positions;

  Problem(std::int64_t r, std::int64_t v, std::uint32_t seed, double scale = 2.0)
      : rows(r), vocab(v), stride(v + 3) {
    test::Noise noise(seed);
    logits = noise.normals(rows * stride, scale);
    for (std::int64_t t = 0; t < rows; ++t) {
      keys.push_back(noise.bits());
      positions.push_back(static_cast<std::int32_t>(noise.below(5000)));
    }
  }
};

Draws draws_of(const Cpu& cpu, const Problem& p, const SamplingRule& rule) {
  const auto n = static_cast<std::size_t>(p.rows);
  Draws d{std::vector<std::int32_t>(n), std::vector<float>(n)};
  sample_tokens(cpu, d.tokens.data(), d.logprob.data(), p.logits.data(), p.keys.data(),
                p.positions.data(), p.rows, p.stride, p.stride, p.vocab, rule);
  return d;
}

/// The noise of the header's definition, in double from plain Philox.
double gumbel(std::uint64_t key, std::int32_t position, std::int64_t v) {
  const auto words =
      philox({static_cast<std::uint32_t>(16 * (v / 64) + v % 16),
              static_cast<std::uint32_t>(position), 1, 0},
             {static_cast<std::uint32_t>(key), static_cast<std::uint32_t>(key >> 32)});
  const std::uint32_t x = words[static_cast<std::size_t>(v % 64 / 16)];
  return -std::log(-std::log1p(-(static_cast<double>(x >> 1) + 0.5) * 0x1p-31));
}

const std::vector<SamplingRule> rules = {{1.0f, 0, 1.0f, 0.0f},   {0.6f, 0, 1.0f, 0.0f},
                                         {0.0f, 0, 1.0f, 0.0f},   {1.0f, 7, 1.0f, 0.0f},
                                         {0.6f, 20, 0.95f, 0.0f}, {1.0f, 0, 0.9f, 0.0f},
                                         {1.3f, 0, 1.0f, 0.05f},  {0.7f, 50, 0.99f, 0.01f}};

TEST(Sampling, DrawsTheGreatestNoisyLogitOfThePlainDefinition) {
  for (const std::int64_t vocab : {1, 3, 16, 63, 64, 65, 448, 5003}) {
    const Problem p(9, vocab, static_cast<std::uint32_t>(vocab + 1));
    for (const float temperature : {1.0f, 0.6f}) {
      const Draws d = draws_of(Cpu{best_isa(), nullptr}, p, {temperature, 0, 1.0f, 0.0f});
      const double beta = static_cast<double>(1.0f / temperature);
      for (std::int64_t t = 0; t < p.rows; ++t) {
        const auto at = static_cast<std::size_t>(t);
        const auto score = [&](std::int64_t v) {
          return static_cast<double>(p.logits[static_cast<std::size_t>(t * p.stride + v)]) * beta +
                 gumbel(p.keys[at], p.positions[at], v);
        };
        double best = -1e300;
        for (std::int64_t v = 0; v < vocab; ++v) best = std::max(best, score(v));
        // Float32 scores of magnitude up to 30: a near tie may fall either way.
        EXPECT_NEAR(score(d.tokens[at]), best, 2e-5) << "vocab " << vocab << " row " << t;
      }
    }
  }
}

TEST(Sampling, FrequenciesFollowTheLaw) {
  const std::int64_t vocab = 5, draws = 20000;
  Problem p(1, vocab, 77, 1.0);
  std::vector<double> law(5), count(5, 0.0);
  double total = 0.0;
  for (std::size_t v = 0; v < 5; ++v) total += law[v] = std::exp(static_cast<double>(p.logits[v]));
  for (std::int32_t i = 0; i < draws; ++i) {
    p.positions[0] = i;
    ++count[static_cast<std::size_t>(draws_of(Cpu{best_isa(), nullptr}, p, {}).tokens[0])];
  }
  double chi_square = 0.0;
  for (std::size_t v = 0; v < 5; ++v) {
    const double expected = static_cast<double>(draws) * law[v] / total;
    chi_square += (count[v] - expected) * (count[v] - expected) / expected;
  }
  EXPECT_LT(chi_square, 23.5);  // 4 degrees of freedom: exceeded once in 10^4
}

TEST(Sampling, GivesTheSameBitsOnEveryInstructionSetAndNumberOfThreads) {
  for (const std::int64_t vocab : {1, 37, 448, 2500}) {
    const Problem p(11, vocab, 3);
    for (const SamplingRule& rule : rules) {
      const Draws expected = draws_of(Cpu{Isa::scalar, nullptr}, p, rule);
      ThreadPool pool(3);
      for (const Isa isa : test::isas()) {
        for (ThreadPool* threads : {static_cast<ThreadPool*>(nullptr), &pool}) {
          const Draws d = draws_of(Cpu{isa, threads}, p, rule);
          EXPECT_EQ(d.tokens, expected.tokens);
          EXPECT_EQ(test::differing(d.logprob, expected.logprob), 0);
        }
      }
    }
  }
}

TEST(Sampling, DrawDependsOnItsOwnRowKeyAndPositionAlone) {
  const Problem p(6, 448, 4);
  for (const SamplingRule& rule : rules) {
    const Draws whole = draws_of(Cpu{best_isa(), nullptr}, p, rule);
    for (std::int64_t t = 0; t < p.rows; ++t) {
      const auto at = static_cast<std::size_t>(t);
      Problem one(1, 448, 4);
      one.logits.assign(p.logits.begin() + t * p.stride, p.logits.begin() + (t + 1) * p.stride);
      one.keys = {p.keys[at]};
      one.positions = {p.positions[at]};
      const Draws d = draws_of(Cpu{best_isa(), nullptr}, one, rule);
      EXPECT_EQ(d.tokens[0], whole.tokens[at]);
      EXPECT_EQ(d.logprob[0], whole.logprob[at]);
    }
  }
}

TEST(Sampling, KeyAndPositionBothChangeTheDraw) {
  Problem p(64, 448, 5, 0.0);  // all logits equal
  p.keys.assign(64, 12345);
  std::iota(p.positions.begin(), p.positions.end(), 0);
  const Draws by_position = draws_of(Cpu{best_isa(), nullptr}, p, {});
  p.positions.assign(64, 0);
  std::iota(p.keys.begin(), p.keys.end(), 0u);
  const Draws by_key = draws_of(Cpu{best_isa(), nullptr}, p, {});
  const auto distinct = [](std::vector<std::int32_t> tokens) {
    std::sort(tokens.begin(), tokens.end());
    return std::unique(tokens.begin(), tokens.end()) - tokens.begin();
  };
  EXPECT_GT(distinct(by_position.tokens), 40);  // 59.8 expected of 64 draws from 448
  EXPECT_GT(distinct(by_key.tokens), 40);
}

TEST(Sampling, LogprobIsThatOfTokenLogprobBitForBitWhereNothingIsTruncated) {
  for (const std::int64_t vocab : {1, 100, 448, 3001}) {
    const Problem p(5, vocab, 6);
    const Cpu cpu{best_isa(), nullptr};
    // Rules that are off, and rules that are on and cut nothing.
    for (const SamplingRule& rule :
         {SamplingRule{0.7f, 0, 1.0f, 0.0f},
          SamplingRule{0.7f, static_cast<std::int32_t>(vocab), 1.0f, 0.0f},
          SamplingRule{0.7f, 0, 1.0f, 1e-30f}}) {
      const Draws d = draws_of(cpu, p, rule);
      std::vector<float> lse(10), logprob(5);
      const float beta = 1.0f / 0.7f;
      token_lse(cpu, lse.data(), p.logits.data(), 5, p.stride, {p.stride, vocab, beta});
      token_logprob(cpu, logprob.data(), p.logits.data(), lse.data(), d.tokens.data(), 5, p.stride,
                    {p.stride, vocab, beta});
      EXPECT_EQ(test::differing(d.logprob, logprob), 0);
    }
  }
}

TEST(Sampling, TemperatureZeroTakesTheGreatestLogitWithTheLowestIdAndScoresItAtOne) {
  std::vector<float> logits = {0.5f, 3.0f, -1.0f, 3.0f, 2.9f};
  const std::uint64_t key = 1;
  const std::int32_t position = 0;
  std::int32_t token = -1;
  float logprob = 0.0f;
  sample_tokens(Cpu{}, &token, &logprob, logits.data(), &key, &position, 1, 5, 5, 5,
                {0.0f, 2, 0.5f, 0.0f});
  EXPECT_EQ(token, 1);
  double total = 0.0;
  for (const float z : logits) total += std::exp(static_cast<double>(z));
  EXPECT_NEAR(logprob, 3.0 - std::log(total), 1e-6);
}

TEST(Sampling, DrawsOnlyKeptTokensWithTheirRenormalisedProbability) {
  const Problem p(40, 300, 8);
  const Cpu cpu{best_isa(), nullptr};
  for (const SamplingRule& rule : rules) {
    const Draws d = draws_of(cpu, p, rule);
    for (std::int64_t t = 0; t < p.rows; ++t) {
      std::vector<std::int32_t> ids(300);
      std::vector<float> probability(300);
      const std::int64_t kept =
          kept_tokens(cpu, ids.data(), probability.data(), p.logits.data() + t * p.stride, p.stride,
                      p.vocab, rule);
      ASSERT_GT(kept, 0);
      ids.resize(static_cast<std::size_t>(kept));
      probability.resize(static_cast<std::size_t>(kept));
      EXPECT_TRUE(std::is_sorted(ids.begin(), ids.end()));
      EXPECT_NEAR(std::accumulate(probability.begin(), probability.end(), 0.0), 1.0, 1e-5);
      const auto at = static_cast<std::size_t>(t);
      const auto found = std::find(ids.begin(), ids.end(), d.tokens[at]);
      ASSERT_NE(found, ids.end());
      if (rule.temperature > 0.0f) {
        EXPECT_NEAR(std::exp(static_cast<double>(d.logprob[at])),
                    probability[static_cast<std::size_t>(found - ids.begin())], 1e-6);
      }
    }
  }
}

// The search for what to keep looks at the top first; a law so flat that everything is needed, and
// one so steep that only the last window holds the rest, must not show that.
TEST(Sampling, TruncationAgreesWithAFullSortForFlatAndSteepLaws) {
  for (const double scale : {0.001, 1.0, 5.0, 40.0}) {
    const Problem p(1, 700, 10, scale);
    const Cpu cpu{best_isa(), nullptr};
    std::vector<std::int32_t> order(700);
    std::iota(order.begin(), order.end(), 0);
    const auto z = [&](std::int32_t v) { return p.logits[static_cast<std::size_t>(v)]; };
    std::stable_sort(order.begin(), order.end(),
                     [&](std::int32_t a, std::int32_t b) { return z(a) > z(b); });
    for (const std::int32_t k : {1, 2, 13, 350, 699}) {
      std::vector<std::int32_t> ids(700), expected(order.begin(), order.begin() + k);
      std::vector<float> probability(700);
      std::sort(expected.begin(), expected.end());
      ids.resize(static_cast<std::size_t>(kept_tokens(
          cpu, ids.data(), probability.data(), p.logits.data(), 703, 700, {1.0f, k, 1.0f, 0.0f})));
      EXPECT_EQ(ids, expected);
    }
    for (const double top_p : {0.1, 0.5, 0.99}) {
      double total = 0.0;
      const auto weight = [&](std::int32_t v) {
        return std::exp(static_cast<double>(z(v)) - static_cast<double>(z(order[0])));
      };
      for (const std::int32_t v : order) total += weight(v);
      std::vector<std::int32_t> expected;
      double before = 0.0;
      for (const std::int32_t v : order) {
        if (!expected.empty() && before >= top_p * total) break;
        expected.push_back(v);
        before += weight(v);
      }
      std::sort(expected.begin(), expected.end());
      std::vector<std::int32_t> ids(700);
      std::vector<float> probability(700);
      ids.resize(static_cast<std::size_t>(kept_tokens(cpu, ids.data(), probability.data(),
                                                      p.logits.data(), 703, 700,
                                                      {1.0f, 0, static_cast<float>(top_p), 0.0f})));
      // Float32 weights: one token may fall either way at the edge of a flat law.
      EXPECT_NEAR(static_cast<double>(ids.size()), static_cast<double>(expected.size()), 1.0);
      if (ids.size() == expected.size()) {
        EXPECT_EQ(ids, expected);
      }
    }
  }
}

TEST(Sampling, DrawsNothingFromRowsThatAreNotFinite) {
  Problem p(4, 50, 12);
  p.logits[static_cast<std::size_t>(2 * p.stride + 49)] = std::numeric_limits<float>::infinity();
  p.logits[static_cast<std::size_t>(3 * p.stride)] = std::numeric_limits<float>::quiet_NaN();
  std::vector<std::int32_t> tokens(4);
  std::vector<float> logprob(4);
  sample_tokens(Cpu{}, tokens.data(), logprob.data(), p.logits.data(), p.keys.data(),
                p.positions.data(), 4, p.stride, p.stride, 50, {});
  for (std::size_t t = 0; t < 4; ++t) {
    EXPECT_EQ(tokens[t] >= 0, t < 2) << t;
    EXPECT_EQ(std::isnan(logprob[t]), t >= 2) << t;
  }
}

}  // namespace
}  // namespace fst::kernels
