#include "fst/base/random.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <vector>

#include <gtest/gtest.h>

namespace fst {
namespace {

using Words = std::array<std::uint32_t, 4>;

// Known answers of Random123 1.14.0 (Salmon et al. 2011), file tests/kat_vectors, philox4x32 10
// rounds.
TEST(Philox, GivesThePublishedAnswers) {
  EXPECT_EQ(kernels::philox({0, 0, 0, 0}, {0, 0}),
            (Words{0x6627e8d5u, 0xe169c58du, 0xbc57ac4cu, 0x9b00dbd8u}));
  const std::uint32_t ones = 0xffffffffu;
  EXPECT_EQ(kernels::philox({ones, ones, ones, ones}, {ones, ones}),
            (Words{0x408f276du, 0x41c83b0eu, 0xa20bc7c6u, 0x6d5451fdu}));
  EXPECT_EQ(kernels::philox({0x243f6a88u, 0x85a308d3u, 0x13198a2eu, 0x03707344u},
                            {0xa4093822u, 0x299f31d0u}),
            (Words{0xd16cfe09u, 0x94fdccebu, 0x5001e420u, 0x24126ea1u}));
}

TEST(StreamKey, DiffersWithSeedPurposeEveryWordTheirOrderAndTheirNumber) {
  std::vector<std::uint64_t> keys;
  for (std::uint64_t seed = 0; seed < 3; ++seed) {
    for (const Purpose purpose : {Purpose::training_draw, Purpose::anchor_draw,
                                  Purpose::minibatch_draw, Purpose::generate_draw}) {
      keys.push_back(stream_key(seed, purpose, {}));
      for (std::uint64_t a = 0; a < 37; ++a) {
        keys.push_back(stream_key(seed, purpose, {a}));
        for (std::uint64_t b = 0; b < 41; ++b) {
          keys.push_back(stream_key(seed, purpose, {a, b}));
          keys.push_back(stream_key(seed, purpose, {a, b, 0}));
        }
      }
    }
  }
  const std::size_t count = keys.size();
  std::sort(keys.begin(), keys.end());
  EXPECT_EQ(static_cast<std::size_t>(std::unique(keys.begin(), keys.end()) - keys.begin()), count);
}

// The keys decide every draw of a run: a change of this function breaks all recorded trajectories.
TEST(StreamKey, IsAFunctionOfItsArgumentsAlone) {
  const std::uint64_t key = stream_key(7, Purpose::training_draw, {3, 1, 4});
  EXPECT_EQ(key, stream_key(7, Purpose::training_draw, {3, 1, 4}));
  EXPECT_NE(key, stream_key(7, Purpose::training_draw, {3, 4, 1}));
  EXPECT_NE(key, stream_key(7, Purpose::training_draw, {3, 1, 4, 0}));
}

TEST(HashText, SeparatesTextsThatDifferInOneByteOrInLength) {
  EXPECT_NE(hash_text("candidate 1"), hash_text("candidate 2"));
  EXPECT_NE(hash_text(""), hash_text(std::string_view("\0", 1)));
  EXPECT_NE(hash_text("a"), hash_text(std::string_view("a\0", 2)));
  EXPECT_EQ(hash_text("policy"), hash_text(std::string_view("policy of", 6)));
}

TEST(Rng, ContinuesFromAPosition) {
  Rng from_start(99);
  for (int i = 0; i < 5; ++i) from_start.next_u64();
  Rng from_five(99, 5);
  for (int i = 0; i < 7; ++i) EXPECT_EQ(from_start.next_u64(), from_five.next_u64());
}

TEST(Rng, DrawsBelowABoundReachEveryValueAndNeverTheBound) {
  for (const std::uint64_t n : {1ULL, 2ULL, 3ULL, 7ULL, 10ULL}) {
    Rng rng(n, Purpose::parent_choice, {});
    std::vector<int> seen(n, 0);
    for (int i = 0; i < 400; ++i) {
      const std::uint64_t x = rng.below(n);
      ASSERT_LT(x, n);
      ++seen[x];
    }
    EXPECT_TRUE(std::all_of(seen.begin(), seen.end(), [](int count) { return count > 0; }));
  }
  Rng rng(5);
  const std::uint64_t huge = (1ULL << 63) + 1;  // nearly every second word must be redrawn
  for (int i = 0; i < 100; ++i) EXPECT_LT(rng.below(huge), huge);
}

TEST(Rng, UniformLiesInTheHalfOpenUnitInterval) {
  Rng rng(11);
  double sum = 0.0;
  const int count = 20001;
  for (int i = 0; i < count; ++i) {
    const double u = rng.uniform();
    ASSERT_GE(u, 0.0);
    ASSERT_LT(u, 1.0);
    sum += u;
  }
  const double five_sigma = 5.0 / std::sqrt(12.0 * count);
  EXPECT_NEAR(sum / count, 0.5, five_sigma);
}

TEST(Rng, NormalHasTheMomentsOfTheNormalLaw) {
  Rng rng(13);
  const int count = 20001;
  double first = 0.0, second = 0.0, fourth = 0.0;
  for (int i = 0; i < count; ++i) {
    const double x = rng.normal();
    first += x;
    second += x * x;
    fourth += x * x * x * x;
  }
  // Five standard errors: the variances of x, x^2 and x^4 are 1, 2 and 96.
  EXPECT_NEAR(first / count, 0.0, 5.0 * std::sqrt(1.0 / count));
  EXPECT_NEAR(second / count, 1.0, 5.0 * std::sqrt(2.0 / count));
  EXPECT_NEAR(fourth / count, 3.0, 5.0 * std::sqrt(96.0 / count));
}

}  // namespace
}  // namespace fst
