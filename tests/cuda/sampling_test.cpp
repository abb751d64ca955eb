#include "kernels/sampling.h"

#include <algorithm>
#include <limits>

#include "device.h"
#include "noise.h"

namespace fst::kernels {
namespace {

using test::device;
using test::DeviceArray;
using test::expect_same;
using test::Noise;
using test::twin;

struct Case {
  std::int64_t rows, columns, gap, vocab;
  double spread;  // of the logits: a small one leaves more than a chunk of ranks within 8 nats
  std::int64_t tail = std::numeric_limits<std::int64_t>::max();  // ids far below all before
  std::int64_t stride() const { return columns + gap; }
};

std::vector<Case> cases() {
  std::vector<Case> all{{1, 1, 0, 1, 1.0},
                        {3, 20, 2, 17, 2.0},
                        {2, 64, 0, 64, 3.0},
                        {2, 1000, 0, 997, 4.0},
                        {2, 4608, 8, 4503, 0.25},
                        {1, 33100, 0, 33100, 0.25, 1030}};  // more in one block than it may list
  if (test::large()) {
    all.insert(all.end(), {{9, 151936, 0, 151669, 0.1}, {133, 151936, 0, 151669, 3.0}});
  }
  return all;
}

std::vector<SamplingRule> rules() {
  std::vector<SamplingRule> all{
      {1.0f, 0, 1.0f, 0.0f},      {0.0f, 5, 0.5f, 0.1f},  {0.7f, 0, 1.0f, 0.0f},
      {1.0f, 1, 1.0f, 0.0f},      {0.7f, 20, 1.0f, 0.0f}, {1.0f, 0, 0.95f, 0.0f},
      {1.3f, 50, 0.8f, 0.0f},     {1.0f, 0, 1.0f, 0.05f}, {1.0f, 0, 1.0f, 1e-4f},
      {0.9f, 2500, 0.99f, 0.02f}, {1.0f, 0, 1e-6f, 0.0f}, {1.0f, 0, 0.9999f, 0.0f}};
  return all;
}

/// Some rows have few different logits, so that ranks are decided by ids; among them zeros of both
/// signs.
std::vector<float> logits_of(const Case& c, Noise& noise) {
  std::vector<float> zs = noise.normals(c.rows * c.stride(), c.spread);
  for (std::size_t i = 0; i < zs.size(); ++i) {
    if (static_cast<std::int64_t>(i) % c.stride() >= c.tail) zs[i] -= 30.0f;
  }
  for (std::int64_t t = 1; t < c.rows; t += 2) {
    for (std::int64_t v = 0; v < c.columns; ++v) {
      float& z = zs[static_cast<std::size_t>(t * c.stride() + v)];
      z = static_cast<float>(static_cast<int>(z * 2.0f)) * 0.5f;
      if (z == 0.0f && noise.below(2) == 0) z = -0.0f;
    }
  }
  return zs;
}

TEST(CudaSampling, DrawsTheTokensOfTheCpu) {
  Noise noise(1);
  for (const Case& c : cases()) {
    const std::vector<float> zs = logits_of(c, noise);
    std::vector<std::uint64_t> keys_host(static_cast<std::size_t>(c.rows));
    std::vector<std::int32_t> places(keys_host.size());
    for (auto& key : keys_host) key = noise.bits();
    for (auto& place : places) place = static_cast<std::int32_t>(noise.below(100000));
    const DeviceArray<float> z(zs), logprob(keys_host.size());
    const DeviceArray<std::uint64_t> keys(keys_host);
    const DeviceArray<std::int32_t> positions(places), tokens(keys_host.size());
    for (const SamplingRule& rule : rules()) {
      std::vector<std::int32_t> tokens_host(keys_host.size());
      std::vector<float> logprob_host(keys_host.size());
      sample_tokens(twin(), tokens_host.data(), logprob_host.data(), zs.data(), keys_host.data(),
                    places.data(), c.rows, c.stride(), c.columns, c.vocab, rule);
      sample_tokens(device(), tokens.data(), logprob.data(), z.data(), keys.data(),
                    positions.data(), c.rows, c.stride(), c.columns, c.vocab, rule);
      expect_same(tokens_host, tokens, "tokens");
      expect_same(logprob_host, logprob, "logprob");
    }
  }
}

TEST(CudaSampling, KeepsTheIdsOfTheCpu) {
  Noise noise(2);
  for (const Case& c : {Case{3, 20, 2, 17, 2.0}, Case{2, 1000, 0, 997, 4.0}}) {
    const std::vector<float> zs = logits_of(c, noise);
    const DeviceArray<float> z(zs);
    const auto vocab = static_cast<std::size_t>(c.vocab);
    for (const SamplingRule& rule : rules()) {
      const std::int64_t row = c.rows > 1 ? 1 : 0;
      std::vector<std::int32_t> ids_host(vocab);
      std::vector<float> p_host(vocab);
      const DeviceArray<std::int32_t> ids(vocab);
      const DeviceArray<float> p(vocab);
      const std::int64_t count =
          kept_tokens(twin(), ids_host.data(), p_host.data(), zs.data() + row * c.stride(),
                      c.columns, c.vocab, rule);
      EXPECT_EQ(kept_tokens(device(), ids.data(), p.data(), z.data() + row * c.stride(), c.columns,
                            c.vocab, rule),
                count);
      const std::vector<std::int32_t> found = ids.host();
      const std::vector<float> found_p = p.host();
      const auto kept = static_cast<std::size_t>(count);
      EXPECT_EQ(test::differing(ids_host.data(), found.data(), kept), 0);
      EXPECT_EQ(test::differing(p_host.data(), found_p.data(), kept), 0);
    }
  }
}

TEST(CudaSampling, DrawsNothingFromRowsThatAreNotFinite) {
  Noise noise(3);
  const Case c{133, 40, 0, 37, 2.0};
  std::vector<float> zs = noise.normals(c.rows * c.stride());
  zs[static_cast<std::size_t>(131 * c.stride() + 7)] = std::numeric_limits<float>::infinity();
  zs[static_cast<std::size_t>(5 * c.stride() + 36)] = std::numeric_limits<float>::quiet_NaN();
  zs[static_cast<std::size_t>(4 * c.stride() + 37)] = std::numeric_limits<float>::quiet_NaN();
  const std::vector<std::uint64_t> keys_host(static_cast<std::size_t>(c.rows), 99);
  const std::vector<std::int32_t> places(keys_host.size(), 3);
  const DeviceArray<float> z(zs);
  const DeviceArray<std::uint64_t> keys(keys_host);
  const DeviceArray<std::int32_t> positions(places);
  for (const SamplingRule& rule : {SamplingRule{}, SamplingRule{1.0f, 10, 0.9f, 0.1f}}) {
    std::vector<std::int32_t> tokens_host(keys_host.size(), -7);
    std::vector<float> logprob_host(keys_host.size(), 8.0f);
    const DeviceArray<std::int32_t> tokens(tokens_host);
    const DeviceArray<float> logprob(logprob_host);
    sample_tokens(twin(), tokens_host.data(), logprob_host.data(), zs.data(), keys_host.data(),
                  places.data(), c.rows, c.stride(), c.columns, c.vocab, rule);
    sample_tokens(device(), tokens.data(), logprob.data(), z.data(), keys.data(), positions.data(),
                  c.rows, c.stride(), c.columns, c.vocab, rule);
    EXPECT_EQ(std::count(tokens_host.begin(), tokens_host.end(), -1), 2);
    expect_same(tokens_host, tokens, "tokens");
    expect_same(logprob_host, logprob, "logprob");
    const DeviceArray<std::int32_t> ids(static_cast<std::size_t>(c.vocab));
    const DeviceArray<float> p(static_cast<std::size_t>(c.vocab));
    EXPECT_EQ(kept_tokens(device(), ids.data(), p.data(), z.data() + 5 * c.stride(), c.columns,
                          c.vocab, rule),
              -1);
  }
}

}  // namespace
}  // namespace fst::kernels
