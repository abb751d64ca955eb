#include <array>
#include <numeric>

#include "attention_case.h"
#include "kernels/matmul_bf16.h"
#include "kernels/philox.h"
#include "tensor_core.h"
#include "tensor_words.h"

/// Bits that a tensor core must give, found by a second implementation (golden_bits.py) and kept in
/// golden_bits.inc: should this one's reading of the model of the tensor core, or of our orders, be
/// wrong as its kernels and their definitions are together, it shows here. The first GPU of a kind
/// must give them too.
namespace fst::kernels::test {
namespace {

using fst::test::Batch;
using fst::test::device;
using fst::test::DeviceArray;
using fst::test::OnDevice;
using fst::test::twin;
using Halves = std::vector<Bf16>;
using Hash = std::uint64_t;

enum class What { forward, backward_input, backward_weight };
template <class T>
struct OfCores {
  T ampere, hopper;
  const T& of(TensorCore core) const { return core == TensorCore::hopper ? hopper : ampere; }
};
struct GoldenBlocks {
  std::uint32_t seed, spread;
  OfCores<std::array<std::uint32_t, 8>> sums;
};
struct GoldenProduct {
  What what;
  std::int64_t rows, n, k;
  int chains;
  std::uint32_t spread;
  OfCores<Hash> result;
};
struct GoldenAttention {
  std::int64_t heads, kv_heads, dim, keys, rows;
  struct Hashes {
    Hash out = 0, lse = 0, dq = 0, dk = 0, dv = 0;  // gradients where every key is a row
  };
  OfCores<Hashes> of;
};

const GoldenBlocks golden_blocks[] = {
#define GOLDEN_BLOCKS
#include "golden_bits.inc"
#undef GOLDEN_BLOCKS
};
const GoldenProduct golden_products[] = {
#define GOLDEN_PRODUCTS
#include "golden_bits.inc"
#undef GOLDEN_PRODUCTS
};
const GoldenAttention golden_attention[] = {
#define GOLDEN_ATTENTION
#include "golden_bits.inc"
#undef GOLDEN_ATTENTION
};

/// A random sign, seven bits of fraction, one of spread + 1 exponents up to 2^top; one in 16 is
/// zero.
Halves random_halves(std::uint32_t seed, std::uint32_t spread, std::int64_t count,
                     std::uint32_t top) {
  Halves x;
  for (std::int64_t i = 0; i < count; ++i) {
    const std::uint32_t word = philox({static_cast<std::uint32_t>(i), 0, 0, 0}, {seed, 77})[0];
    const std::uint32_t exponent = 127 + top - spread + (word >> 8 & 0xffff) % (spread + 1);
    const std::uint32_t bits = (word & 1) << 15 | exponent << 7 | (word >> 1 & 127);
    x.push_back(Bf16{static_cast<std::uint16_t>(word >> 28 == 0 ? 0 : bits)});
  }
  return x;
}
/// Around 2^0.
Halves random_halves(std::uint32_t seed, std::uint32_t spread, std::int64_t count) {
  return random_halves(seed, spread, count, spread - spread / 2);
}

/// FNV-1a over words, of which a bfloat16 is one and a float one.
std::uint32_t word_of(Bf16 x) {
  return x.bits;
}
std::uint32_t word_of(float x) {
  return std::bit_cast<std::uint32_t>(x);
}
template <class T>
Hash hash_of(const DeviceArray<T>& array) {
  Hash h = 0xcbf29ce484222325u;
  for (const T x : array.host()) h = (h ^ word_of(x)) * 0x100000001b3u;
  return h;
}

TEST(GoldenBits, OfSingleBlocks) {
  for (const GoldenBlocks& golden : golden_blocks) {
    Halves a = random_halves(golden.seed, golden.spread, 128);
    Halves b = random_halves(golden.seed + 100, golden.spread, 128);
    const Halves c = random_halves(golden.seed + 200, golden.spread, 8);
    for (std::size_t row = 4; row < 8; ++row) {  // products that cancel
      for (std::size_t i = 0; i < 8; ++i) {
        b[16 * row + 8 + i].bits = b[16 * row + 7 - i].bits ^ 0x8000;
        a[16 * row + 8 + i] = a[16 * row + 7 - i];
      }
    }
    std::vector<std::array<Fragments, 32>> lanes(8);  // the block in every row and column
    for (std::size_t block = 0; block < 8; ++block) {
      const auto pair = [&](const Halves& x, std::size_t i) {
        return std::uint32_t{x[16 * block + i].bits} | std::uint32_t{x[16 * block + i + 1].bits}
                                                           << 16;
      };
      for (std::size_t lane = 0; lane < 32; ++lane) {
        const std::size_t k = lane % 4 * 2;
        lanes[block][lane] = {{pair(a, k), pair(a, k), pair(a, k + 8), pair(a, k + 8)},
                              {pair(b, k), pair(b, k + 8)},
                              {}};
        std::fill_n(lanes[block][lane].sum, 4, widened(c[block]));
      }
    }
    const DeviceArray<std::array<Fragments, 32>> there(lanes);
    multiply_fragments(device(), there.data()->data(), 8);
    const auto got = there.host();
    for (std::size_t block = 0; block < 8; ++block) {
      for (const Fragments& lane : got[block]) {
        for (const float sum : lane.sum) {
          ASSERT_EQ(word_of(sum), golden.sums.of(core_of_device())[block])
              << "seed " << golden.seed << ", block " << block;
        }
      }
    }
  }
}

DeviceArray<float> product_of(const GoldenProduct& p) {
  const auto [what, rows, n, k, chains, spread, result] = p;
  const auto order = static_cast<SumOrder>(chains);
  const bool forward = what == What::forward, input = what == What::backward_input;
  const DeviceArray<Bf16> left(random_halves(1, spread, rows * (forward ? k : n)));
  const DeviceArray<Bf16> right(
      random_halves(2, spread, what == What::backward_weight ? rows * k : n * k));
  DeviceArray<float> y(static_cast<std::size_t>(forward ? rows * n : input ? rows * k : n * k));
  if (forward) {
    linear_forward(device(), y.data(), n, left.data(), k, right.data(), nullptr, rows, n, k, order,
                   Update::overwrite);
  } else if (input) {
    linear_backward_input(device(), y.data(), k, left.data(), n, right.data(), k, rows, n, k, order,
                          Update::overwrite);
  } else {
    const std::int32_t sequences[] = {0, static_cast<std::int32_t>(rows / 3),
                                      static_cast<std::int32_t>(rows)};
    linear_backward_weight(device(), y.data(), k, left.data(), n, right.data(), k, sequences, 2, n,
                           k, Chain::begin);
  }
  return y;
}

TEST(GoldenBits, OfProducts) {
  for (const GoldenProduct& p : golden_products) {
    EXPECT_EQ(hash_of(product_of(p)), p.result.of(core_of_device()))
        << static_cast<int>(p.what) << ": " << p.rows << " x " << p.n << " x " << p.k << ", chains "
        << p.chains;
  }
}

/// The last `rows` of a sequence, on the device.
struct LastRows {
  std::int64_t stride, kv_stride;
  Batch batch;
  DeviceArray<Bf16> q, dout, out;
  DeviceArray<float> lse;

  explicit LastRows(const GoldenAttention& g)
      : stride(g.heads * g.dim),
        kv_stride(g.kv_heads * g.dim),
        batch({g.heads, g.kv_heads, g.dim}, {g.keys}, {g.keys}),
        q(last(3, g)),
        dout(last(6, g)),
        out(static_cast<std::size_t>(g.rows * stride)),
        lse(static_cast<std::size_t>(g.rows * g.heads)) {
    fst::test::write_keys(twin(), batch,
                          fst::test::widened(random_halves(4, 9, g.keys * kv_stride, 0)),
                          fst::test::widened(random_halves(5, 9, g.keys * kv_stride, 0)));
    batch.cu_seqlens = {0, static_cast<std::int32_t>(g.rows)};
    batch.context = {static_cast<std::int32_t>(g.keys - g.rows)};
  }
  static Halves last(std::uint32_t seed, const GoldenAttention& g) {
    const Halves all = random_halves(seed, 9, g.keys * g.heads * g.dim, 2);
    return {all.end() - g.rows * g.heads * g.dim, all.end()};
  }
};

TEST(GoldenBits, OfAttention) {
  for (const GoldenAttention& g : golden_attention) {
    const LastRows p(g);
    const OnDevice<Bf16> there(p.batch);
    const auto& golden = g.of.of(core_of_device());
    const std::string name = std::to_string(g.keys) + " keys, heads of " + std::to_string(g.dim);
    attention_forward(device(), Rows<Bf16>{p.out.data(), p.stride}, p.lse.data(),
                      {p.q.data(), p.stride}, there.cache(), there.paged, p.batch.scale());
    EXPECT_EQ(hash_of(p.out), golden.out) << name;
    EXPECT_EQ(hash_of(p.lse), golden.lse) << name;
    if (g.rows < g.keys) continue;
    const DeviceArray<Bf16> dq(p.q.size());
    const DeviceArray<Bf16> dk(static_cast<std::size_t>(g.rows * p.kv_stride)), dv(dk.size());
    attention_backward(device(),
                       AttentionGradients<Bf16>{{dq.data(), p.stride},
                                                {dk.data(), p.kv_stride},
                                                {dv.data(), p.kv_stride},
                                                {p.dout.data(), p.stride},
                                                {p.out.data(), p.stride},
                                                p.lse.data()},
                       {p.q.data(), p.stride}, there.cache(), there.paged, p.batch.scale());
    EXPECT_EQ(hash_of(dq), golden.dq) << name;
    EXPECT_EQ(hash_of(dk), golden.dk) << name;
    EXPECT_EQ(hash_of(dv), golden.dv) << name;
  }
}

}  // namespace
}  // namespace fst::kernels::test
