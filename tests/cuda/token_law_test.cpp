#include "kernels/token_law.h"

#include <limits>

#include "device.h"
#include "noise.h"

namespace fst::kernels {
namespace {

using test::device;
using test::DeviceArray;
using test::expect_same;
using test::Noise;
using test::stored_as;
using test::twin;

constexpr float infinite = std::numeric_limits<float>::infinity();
constexpr float beta = 0.8f;

struct Case {
  std::int64_t rows, columns, gap, vocab;
  std::int64_t stride() const { return columns + gap; }
};

// Laws that end within a leaf, at its border, before it; leaves of no element, of one, of many.
std::vector<Case> cases() {
  std::vector<Case> all{
      {1, 8, 0, 1},        {3, 16, 3, 9},    {2, 5, 0, 5},       {5, 304, 1, 291},
      {3, 304, 0, 38},     {130, 24, 0, 23}, {2, 2056, 5, 2049}, {2, 1099, 0, 1099},
      {1, 29001, 3, 28777}};  // four rounds of terms in a leaf
  if (test::large()) all.insert(all.end(), {{67, 151936, 0, 151669}, {4099, 1000, 24, 999}});
  return all;
}

std::vector<float> zeros(std::int64_t n) {
  return std::vector<float>(static_cast<std::size_t>(n));
}

/// Logits of both signs with equal ones, zeros of both signs among the greatest.
std::vector<float> logits_of(const Case& c, Noise& noise) {
  std::vector<float> zs = noise.normals(c.rows * c.stride(), 4.0);
  for (std::int64_t t = 0; t < c.rows; t += 3) {
    for (std::int64_t v = 0; v < c.columns; ++v) {
      float& z = zs[static_cast<std::size_t>(t * c.stride() + v)];
      z = noise.below(4) == 0 ? -z * z : noise.below(2) == 0 ? 0.0f : -0.0f;
    }
  }
  return zs;
}

/// The pairs of the leaves and the sums of a case, on both sides.
struct Law {
  Case c;
  LawPart part;
  std::vector<float> zs, references, lses, reference_lses;
  DeviceArray<float> z, reference, lse, reference_lse;

  Law(const Case& of, Noise& noise)
      : c(of),
        part{c.columns, c.vocab, beta},
        zs(logits_of(c, noise)),
        references(noise.normals(c.rows * c.stride(), 3.0)),
        lses(zeros(2 * c.rows)),
        reference_lses(zeros(2 * c.rows)),
        z(zs),
        reference(references),
        lse(sum(lses, zs)),
        reference_lse(sum(reference_lses, references)) {}

 private:
  const std::vector<float>& sum(std::vector<float>& to, const std::vector<float>& from) const {
    token_lse(twin(), to.data(), from.data(), c.rows, c.stride(), part);
    return to;
  }
};

TEST(CudaTokenLaw, SumsTheLawLikeTheCpu) {
  Noise noise(1);
  for (const Case& c : cases()) {
    const Law law(c, noise);
    const DeviceArray<float> lse(zeros(2 * c.rows));
    EXPECT_EQ(token_lse(device(), lse.data(), law.z.data(), c.rows, c.stride(), law.part), -1);
    expect_same(law.lses, lse, "lse");
  }
}

TEST(CudaTokenLaw, SumsLeavesOfAPart) {
  Noise noise(2);
  for (const std::int64_t leaves : {1, 2, 4, 8}) {
    const Case c{3, 40 * leaves, 3, 0};
    const std::vector<float> zs = noise.normals(c.rows * c.stride(), 4.0);
    for (const std::int64_t inside : {0, 17, 400}) {
      LawPart part{c.columns, 100 + inside, beta};
      part.first = 100;
      part.leaves = leaves;
      std::vector<float> pairs_host = zeros(c.rows * leaves * 2);
      const DeviceArray<float> z(zs), pairs(pairs_host);
      token_lse_leaves(twin(), pairs_host.data(), zs.data(), c.rows, c.stride(), part);
      token_lse_leaves(device(), pairs.data(), z.data(), c.rows, c.stride(), part);
      expect_same(pairs_host, pairs, "pairs");
      std::vector<float> lses = noise.normals(c.rows * 2), sums_host = zeros(c.rows * leaves);
      const DeviceArray<float> lse(lses), sums(sums_host);
      token_entropy_leaves(twin(), sums_host.data(), zs.data(), lses.data(), c.rows, c.stride(),
                           part);
      token_entropy_leaves(device(), sums.data(), z.data(), lse.data(), c.rows, c.stride(), part);
      expect_same(sums_host, sums, "entropy");
      token_kl_leaves(twin(), sums_host.data(), zs.data(), lses.data(), zs.data() + 1, lses.data(),
                      c.rows, c.stride(), c.stride() - 1, part);
      token_kl_leaves(device(), sums.data(), z.data(), lse.data(), z.data() + 1, lse.data(), c.rows,
                      c.stride(), c.stride() - 1, part);
      expect_same(sums_host, sums, "kl");
    }
  }
}

TEST(CudaTokenLaw, JoinsTheLeavesOfAllParts) {
  Noise noise(3);
  const std::int64_t rows = 131;
  for (const std::int64_t leaves : {1, 2, 4, 8}) {
    std::vector<float> pairs_host = noise.normals(rows * 16, 3.0);
    for (std::size_t i = 1; i < pairs_host.size(); i += 2) {
      pairs_host[i] = noise.below(3) == 0 ? 0.0f : 1.0f + pairs_host[i] * pairs_host[i];
    }
    const DeviceArray<float> pairs(pairs_host), lse(zeros(2 * rows)), total(zeros(rows));
    std::vector<float> lse_host = zeros(2 * rows), total_host = zeros(rows);
    EXPECT_EQ(join_lse(twin(), lse_host.data(), pairs_host.data(), rows, leaves, beta), -1);
    EXPECT_EQ(join_lse(device(), lse.data(), pairs.data(), rows, leaves, beta), -1);
    expect_same(lse_host, lse, "lse");
    join_leaves(twin(), total_host.data(), pairs_host.data(), rows, leaves, -1.0f);
    join_leaves(device(), total.data(), pairs.data(), rows, leaves, -1.0f);
    expect_same(total_host, total, "total");
  }
}

TEST(CudaTokenLaw, NamesTheFirstRowThatIsNotFinite) {
  Noise noise(4);
  const Case c{70, 40, 2, 37};
  for (const float bad : {infinite, -infinite, std::numeric_limits<float>::quiet_NaN()}) {
    std::vector<float> zs = noise.normals(c.rows * c.stride());
    zs[static_cast<std::size_t>(69 * c.stride() + 36)] = bad;
    zs[static_cast<std::size_t>(67 * c.stride() + 5)] = bad;
    zs[static_cast<std::size_t>(66 * c.stride() + 37)] = bad;  // beyond the law
    const LawPart part{c.columns, c.vocab, beta};
    std::vector<float> lse_host = zeros(2 * c.rows), pairs_host = zeros(16 * c.rows);
    const DeviceArray<float> z(zs), lse(lse_host), pairs(pairs_host);
    EXPECT_EQ(token_lse(twin(), lse_host.data(), zs.data(), c.rows, c.stride(), part), 67);
    EXPECT_EQ(token_lse(device(), lse.data(), z.data(), c.rows, c.stride(), part), 67);
    expect_same(lse_host, lse, "lse");
    token_lse_leaves(twin(), pairs_host.data(), zs.data(), c.rows, c.stride(), part);
    token_lse_leaves(device(), pairs.data(), z.data(), c.rows, c.stride(), part);
    expect_same(pairs_host, pairs, "pairs");
    EXPECT_EQ(join_lse(device(), lse.data(), pairs.data(), c.rows, 8, beta), 67);
    expect_same(lse_host, lse, "joined lse");
  }
}

TEST(CudaTokenLaw, ValuesHaveTheBitsOfTheCpu) {
  Noise noise(5);
  for (const Case& c : cases()) {
    const Law law(c, noise);
    std::vector<std::int32_t> ids(static_cast<std::size_t>(c.rows));
    for (auto& id : ids) id = static_cast<std::int32_t>(noise.below(c.columns + 2)) - 1;
    const DeviceArray<std::int32_t> targets(ids);
    std::vector<float> expected = zeros(c.rows);
    const DeviceArray<float> value(expected);
    token_logprob(twin(), expected.data(), law.zs.data(), law.lses.data(), ids.data(), c.rows,
                  c.stride(), law.part);
    token_logprob(device(), value.data(), law.z.data(), law.lse.data(), targets.data(), c.rows,
                  c.stride(), law.part);
    expect_same(expected, value, "logprob");
    token_entropy(twin(), expected.data(), law.zs.data(), law.lses.data(), c.rows, c.stride(),
                  law.part);
    token_entropy(device(), value.data(), law.z.data(), law.lse.data(), c.rows, c.stride(),
                  law.part);
    expect_same(expected, value, "entropy");
    token_kl(twin(), expected.data(), law.zs.data(), law.lses.data(), law.references.data(),
             law.reference_lses.data(), c.rows, c.stride(), c.stride(), law.part);
    token_kl(device(), value.data(), law.z.data(), law.lse.data(), law.reference.data(),
             law.reference_lse.data(), c.rows, c.stride(), c.stride(), law.part);
    expect_same(expected, value, "kl");
  }
}

/// Upstream gradients of a case.
struct Upstream {
  std::vector<float> g, de, e, dk, k;
  DeviceArray<float> dlogprob, dentropy, entropy, dkl, kl;
  Upstream(std::int64_t rows, Noise& noise)
      : g(noise.normals(rows)),
        de(noise.normals(rows)),
        e(noise.normals(rows)),
        dk(noise.normals(rows)),
        k(noise.normals(rows)),
        dlogprob(g),
        dentropy(de),
        entropy(e),
        dkl(dk),
        kl(k) {}
};

TEST(CudaTokenLaw, GradientsHaveTheBitsOfTheCpu) {
  Noise noise(6);
  for (const Case& c : cases()) {
    const Law law(c, noise);
    const Upstream up(c.rows, noise);
    std::vector<std::int32_t> ids(static_cast<std::size_t>(c.rows));
    for (auto& id : ids) id = static_cast<std::int32_t>(noise.below(c.columns + 2)) - 1;
    const DeviceArray<std::int32_t> targets(ids);
    for (const int which : {1, 2, 4, 7}) {
      TokenTerms host, terms;
      if ((which & 1) != 0) host.dlogprob = up.g.data(), terms.dlogprob = up.dlogprob.data();
      if ((which & 2) != 0) {
        host.dentropy = up.de.data(), host.entropy = up.e.data();
        terms.dentropy = up.dentropy.data(), terms.entropy = up.entropy.data();
      }
      if ((which & 4) != 0) {
        host.dkl = up.dk.data(), host.kl = up.k.data();
        host.reference_logits = law.references.data();
        host.reference_lse = law.reference_lses.data();
        terms.dkl = up.dkl.data(), terms.kl = up.kl.data();
        terms.reference_logits = law.reference.data();
        terms.reference_lse = law.reference_lse.data();
        host.reference_stride = terms.reference_stride = c.stride();
      }
      std::vector<float> expected = law.zs;
      const DeviceArray<float> dlogits(law.zs), in_place(law.zs);
      const DeviceArray<Bf16> halves(stored_as<Bf16>(law.zs));
      token_backward(twin(), expected.data(), law.zs.data(), law.lses.data(), ids.data(), host,
                     c.rows, c.stride(), c.stride(), law.part);
      token_backward(device(), dlogits.data(), law.z.data(), law.lse.data(), targets.data(), terms,
                     c.rows, c.stride(), c.stride(), law.part);
      token_backward(device(), in_place.data(), in_place.data(), law.lse.data(), targets.data(),
                     terms, c.rows, c.stride(), c.stride(), law.part);
      token_backward(device(), halves.data(), law.z.data(), law.lse.data(), targets.data(), terms,
                     c.rows, c.stride(), c.stride(), law.part);
      expect_same(expected, dlogits, "dlogits");
      expect_same(expected, halves, "dlogits of Bf16");
      expect_same(expected, in_place, "dlogits in place of logits");
    }
  }
}

TEST(CudaTokenLaw, GradientsOfAPartKnowTargetsElsewhere) {
  Noise noise(7);
  const std::int64_t rows = 6, columns = 38;
  const std::vector<float> zs = noise.normals(rows * columns), lses = noise.normals(rows * 2);
  const Upstream up(rows, noise);
  const std::vector<std::int32_t> ids{3, 40, 77, 78, 99, 100};  // of 100; this part holds 40 .. 77
  LawPart part{columns, 100, beta};
  part.first = 40;
  part.leaves = 4;
  TokenTerms host, terms;
  host.dlogprob = up.g.data(), terms.dlogprob = up.dlogprob.data();
  std::vector<float> expected = zeros(rows * (columns + 3));
  const DeviceArray<float> z(zs), lse(lses), dlogits(expected);
  const DeviceArray<std::int32_t> targets(ids);
  token_backward(twin(), expected.data(), zs.data(), lses.data(), ids.data(), host, rows,
                 columns + 3, columns, part);
  token_backward(device(), dlogits.data(), z.data(), lse.data(), targets.data(), terms, rows,
                 columns + 3, columns, part);
  expect_same(expected, dlogits, "dlogits");
}

}  // namespace
}  // namespace fst::kernels
