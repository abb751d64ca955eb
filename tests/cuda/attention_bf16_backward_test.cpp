#include <cmath>

#include "attention_case.h"

/// The backward pass of attention over bfloat16, by tensor cores: the bits of its definition, and
/// how far these are from the CPU's.
namespace fst::kernels {
namespace {

using fst::test::AttentionGradientsOf;
using fst::test::Batch;
using fst::test::device;
using fst::test::DeviceArray;
using fst::test::differing;
using fst::test::Floats;
using fst::test::from;
using fst::test::HeadShape;
using fst::test::into;
using fst::test::Lengths;
using fst::test::Noise;
using fst::test::Result;
using fst::test::stored_as;
using fst::test::tensor_chain_of;
using fst::test::twin;
using fst::test::widened;

constexpr Floats AttentionGradientsOf::*parts[] = {
    &AttentionGradientsOf::dq, &AttentionGradientsOf::dk, &AttentionGradientsOf::dv};

/// A batch with its forward pass on the CPU. The cache is NaN where no key or value is. Values are
/// those that bfloat16 holds.
struct Problem {
  Batch batch;
  Floats q, dout;
  Result forward;

  Problem(HeadShape shape, const Lengths& lengths) : batch(shape, lengths, lengths) {
    Noise noise(31);
    q = fst::test::rounded(noise.normals(batch.rows() * batch.width(), 1.5));
    dout = fst::test::rounded(noise.normals(batch.rows() * batch.width()));
    const Floats k = fst::test::rounded(noise.normals(batch.rows() * batch.kv_width()));
    const Floats v = fst::test::rounded(noise.normals(batch.rows() * batch.kv_width()));
    fst::test::write_keys(twin(), batch, k, v);
    attend();
  }
  void attend() {
    const auto rows = stored_as<Bf16>(q), cache = stored_as<Bf16>(batch.cache);
    std::vector<Bf16> out(rows.size());
    forward.lse.resize(static_cast<std::size_t>(batch.rows() * batch.shape.heads));
    attention_forward(twin(), into(out, batch.width()), forward.lse.data(),
                      from(rows, batch.width()), cache.data(), batch.paged(), batch.scale());
    forward.out = widened(out);
  }
};

std::string name_of(const Problem& p) {
  std::string name = std::to_string(p.batch.shape.heads) + "/" +
                     std::to_string(p.batch.shape.kv_heads) + " heads of " +
                     std::to_string(p.batch.shape.dim) + ", rows";
  for (std::size_t s = 1; s < std::min<std::size_t>(10, p.batch.cu_seqlens.size()); ++s) {
    name += " " + std::to_string(p.batch.cu_seqlens[s]);
  }
  return name;
}

/// Rows with `gap` elements behind each, which are `filler`.
std::vector<Bf16> spread(const Floats& x, std::int64_t width, std::int64_t gap, float filler) {
  Floats rows;
  for (std::size_t i = 0; i < x.size(); ++i) {
    rows.push_back(x[i]);
    if (static_cast<std::int64_t>(i + 1) % width == 0) {
      rows.insert(rows.end(), static_cast<std::size_t>(gap), filler);
    }
  }
  return stored_as<Bf16>(rows);
}
/// The rows again; the gaps are as they were.
Floats gathered(const std::vector<Bf16>& x, std::int64_t width, std::int64_t gap, float filler) {
  Floats rows;
  for (std::size_t i = 0; i < x.size(); ++i) {
    if (static_cast<std::int64_t>(i) % (width + gap) < width) {
      rows.push_back(kernels::widened(x[i]));
    } else {
      EXPECT_EQ(kernels::widened(x[i]), filler) << "a gap was written";
    }
  }
  return rows;
}

/// The gradients on the device, all rows strided; the cache begins `shift` elements behind what is
/// aligned.
AttentionGradientsOf on_device(const Problem& p, std::int64_t gap, std::int64_t shift = 0) {
  const Batch& batch = p.batch;
  const std::int64_t wide = batch.width(), narrow = batch.kv_width();
  const fst::test::OnDevice<Bf16> there(batch, shift);
  const float filler = 7.0f;
  const DeviceArray<Bf16> q(spread(p.q, wide, gap, NAN)), dout(spread(p.dout, wide, gap, NAN)),
      out(spread(p.forward.out, wide, gap, NAN));
  const DeviceArray<float> lse(p.forward.lse);
  const auto nothing = [&](std::int64_t width) {
    return spread(Floats(static_cast<std::size_t>(batch.rows() * width), NAN), width, gap, filler);
  };
  const DeviceArray<Bf16> dq(nothing(wide)), dk(nothing(narrow)), dv(nothing(narrow));
  attention_backward(device(),
                     {{dq.data(), wide + gap},
                      {dk.data(), narrow + gap},
                      {dv.data(), narrow + gap},
                      {dout.data(), wide + gap},
                      {out.data(), wide + gap},
                      lse.data()},
                     {q.data(), wide + gap}, there.cache(), there.paged, batch.scale());
  return {gathered(dq.host(), wide, gap, filler), gathered(dk.host(), narrow, gap, filler),
          gathered(dv.host(), narrow, gap, filler)};
}

AttentionGradientsOf on_cpu(const Problem& p) {
  const Batch& batch = p.batch;
  const std::int64_t wide = batch.width(), narrow = batch.kv_width();
  const auto q = stored_as<Bf16>(p.q), dout = stored_as<Bf16>(p.dout);
  const auto out = stored_as<Bf16>(p.forward.out), cache = stored_as<Bf16>(batch.cache);
  std::vector<Bf16> dq(q.size()), dk(static_cast<std::size_t>(batch.rows() * narrow)), dv = dk;
  attention_backward(twin(),
                     {into(dq, wide), into(dk, narrow), into(dv, narrow), from(dout, wide),
                      from(out, wide), p.forward.lse.data()},
                     from(q, wide), cache.data(), batch.paged(), batch.scale());
  return {widened(dq), widened(dk), widened(dv)};
}

void expect_definition(const Problem& p, const Lengths& gaps, std::int64_t shift = 0) {
  const auto want = fst::test::attention_backward_definition<Bf16>(p.batch, p.q, p.dout, p.forward,
                                                                   tensor_chain_of);
  for (const std::int64_t gap : gaps) {
    const AttentionGradientsOf got = on_device(p, gap, shift);
    EXPECT_EQ(differing(got.dq, want.dq), 0) << name_of(p) << ", gap " << gap << ", dq";
    EXPECT_EQ(differing(got.dk, want.dk), 0) << name_of(p) << ", gap " << gap << ", dk";
    EXPECT_EQ(differing(got.dv, want.dv), 0) << name_of(p) << ", gap " << gap << ", dv";
  }
}

TEST(CudaAttentionBf16Backward, HasTheBitsOfItsDefinition) {
  // Gaps of 8 keep pieces of 16 bytes together, those of 3 do not.
  expect_definition({{2, 2, 16}, {1, 15, 16, 17}}, {0, 3, 8});
  expect_definition({{2, 1, 64}, {63, 0, 65, 64}}, {0, 8});
  expect_definition({{3, 1, 24}, {127, 128, 129}}, {0});
  expect_definition({{5, 1, 80}, {37, 1}}, {0, 3});
  expect_definition({{8, 1, 16}, {130}}, {0});
  expect_definition({{2, 1, 128}, {66, 31}}, {0, 8});
  expect_definition({{6, 2, 5}, {40}}, {0});
  if (!fst::test::large()) return;
  expect_definition({{4, 2, 128}, {257, 385}}, {0, 3, 8});
}

// So many sequences that a block takes all tiles of one, of which almost all are empty.
TEST(CudaAttentionBf16Backward, ABlockMayTakeSeveralTiles) {
  Lengths lengths(16 * 132, 0);
  lengths[7] = 300;
  expect_definition({{2, 1, 16}, lengths}, {0});
}

TEST(CudaAttentionBf16Backward, TheCacheMayBeginAnywhere) {
  const Problem p({2, 1, 24}, {37, 20});
  for (const std::int64_t shift : {1, 2}) expect_definition(p, {0}, shift);
}

TEST(CudaAttentionBf16Backward, ASequenceDoesNotDependOnTheOthers) {
  const Problem one({4, 2, 24}, {70});
  Problem two({4, 2, 24}, {70, 33});
  const auto first_of_two = [](const Floats& all, const Floats& rows) {
    return Floats(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(rows.size()));
  };
  // The same rows, and the same keys in other blocks.
  std::copy(one.q.begin(), one.q.end(), two.q.begin());
  std::copy(one.dout.begin(), one.dout.end(), two.dout.begin());
  const std::size_t size = static_cast<std::size_t>(2 * 2 * 16 * 24);
  for (std::size_t b = 0; b < 5; ++b) {
    std::copy_n(one.batch.cache.begin() + static_cast<std::ptrdiff_t>(
                                              static_cast<std::size_t>(one.batch.table[b]) * size),
                size,
                two.batch.cache.begin() + static_cast<std::ptrdiff_t>(
                                              static_cast<std::size_t>(two.batch.table[b]) * size));
  }
  two.attend();
  const AttentionGradientsOf alone = on_device(one, 0), packed = on_device(two, 8);
  for (const auto part : parts) {
    EXPECT_EQ(differing(first_of_two(packed.*part, alone.*part), alone.*part), 0);
  }
}

// Half a unit in the last place of bfloat16. The factors p and ds of a product are rounded so much
// differently at most where the CPU's and the tensor core's scores differ, and so are gradients:
// twice this of a gradient's mean size.
constexpr double half_ulp = 0x1p-9;

double rms(const Floats& x) {
  double sum = 0.0;
  for (const float value : x) sum += double{value} * double{value};
  return std::sqrt(sum / static_cast<double>(x.size()));
}

TEST(CudaAttentionBf16Backward, IsThatOfTheCpuButForRoundings) {
  for (const HeadShape& shape : {HeadShape{3, 1, 80}, HeadShape{2, 2, 128}}) {
    const Problem p(shape, {90, 17});
    const AttentionGradientsOf got = on_device(p, 0), want = on_cpu(p);
    for (const auto part : parts) {
      Floats difference = got.*part;
      for (std::size_t i = 0; i < difference.size(); ++i) difference[i] -= (want.*part)[i];
      EXPECT_LE(rms(difference), 2 * half_ulp * rms(want.*part)) << name_of(p);
    }
  }
}

// Infinities make NaNs of all that they meet: where they are shows what met.
TEST(CudaAttentionBf16Backward, InfinitiesReachWhatTheyReachOnTheCpu) {
  for (const bool in_keys : {false, true}) {
    Problem p({4, 2, 24}, {150, 30});
    const float infinity = std::numeric_limits<float>::infinity();
    for (std::size_t b = 0; b < p.batch.table.size(); b += 4) {
      const auto block = static_cast<std::size_t>(p.batch.table[b]);
      const std::size_t row = 16 * b + 5;
      if (in_keys && p.batch.table[b] >= 0) p.batch.cache[block * 2 * 2 * 16 * 24 + 5] = infinity;
      if (!in_keys && 96 * row < p.q.size()) p.q[96 * row + row % 96] = infinity;
    }
    p.attend();
    const AttentionGradientsOf got = on_device(p, 0), want = on_cpu(p);
    for (const auto part : parts) {
      std::int64_t nans = 0, others = 0;
      for (std::size_t i = 0; i < (want.*part).size(); ++i) {
        nans += std::isnan((want.*part)[i]) ? 1 : 0;
        others += std::isnan((got.*part)[i]) != std::isnan((want.*part)[i]) ? 1 : 0;
      }
      EXPECT_GT(nans, 0);
      EXPECT_EQ(others, 0) << (in_keys ? "keys" : "queries");
    }
  }
}

}  // namespace
}  // namespace fst::kernels
