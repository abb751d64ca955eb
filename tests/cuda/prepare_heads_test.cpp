#include "kernels/prepare_heads.h"

#include "device.h"
#include "noise.h"

namespace fst::kernels {
namespace {

using test::device;
using test::DeviceArray;
using test::expect_same;
using test::held;
using test::Noise;
using test::stored_as;
using test::twin;

constexpr float eps = 1e-6f;
constexpr std::int64_t positions = 70, table_blocks = 5;

struct Case {
  std::int64_t rows, heads, kv_heads, dim, gap;  // gap: elements between rows of q, k, v
  bool norm;
  std::int64_t all() const { return heads + 2 * kv_heads; }
};

// Heads that do not fill blocks; halves that are no multiple of 16.
std::vector<Case> cases() {
  std::vector<Case> all{{1, 2, 1, 2, 0, true},   {3, 4, 2, 10, 3, true},  {5, 3, 3, 40, 0, true},
                        {2, 5, 1, 64, 1, false}, {7, 2, 2, 128, 8, true}, {0, 2, 1, 16, 0, true}};
  if (test::large()) all.push_back({509, 16, 8, 128, 0, true});
  return all;
}

template <class T>
struct CudaPrepareHeads : testing::Test {};
TYPED_TEST_SUITE(CudaPrepareHeads, test::Elements, test::ElementName);

/// The float kernel of the CPU on what T holds, rounded once, is what T's means; the values in the
/// cache are what they were.
TYPED_TEST(CudaPrepareHeads, HaveTheBitsOfTheThreePassesOfTheCpu) {
  using T = TypeParam;
  Noise noise(4);
  for (const Case& c : cases()) {
    const std::int64_t q = c.rows * c.heads * c.dim, k = c.rows * c.kv_heads * c.dim;
    const std::int64_t stride = c.all() * c.dim + c.gap, half = c.dim / 2;
    std::vector<float> cosines(static_cast<std::size_t>(positions * half)), sines(cosines.size());
    rope_table(twin(), cosines.data(), sines.data(), 1e6, positions, half);
    const auto q_weights = noise.normals(c.dim), k_weights = noise.normals(c.dim);
    const auto qkvs = held<T>(noise.normals(c.rows * stride, 2.0));
    std::vector<std::int32_t> begins, places, tables;  // each row has blocks of its own
    for (std::int32_t r = 0; r < c.rows; ++r) {
      begins.push_back(r);
      places.push_back(static_cast<std::int32_t>(noise.below(positions)));
      for (std::int32_t b = 0; b < table_blocks; ++b) {
        tables.push_back((b + 1) * static_cast<std::int32_t>(c.rows) - 1 - r);
      }
    }
    begins.push_back(static_cast<std::int32_t>(c.rows));
    const auto elements =
        static_cast<std::size_t>(c.rows * table_blocks * c.kv_heads * 2 * attention_block * c.dim);
    std::vector<float> qs(static_cast<std::size_t>(q)), ks(static_cast<std::size_t>(k));
    std::vector<float> q_rstds(static_cast<std::size_t>(c.rows * c.heads), -1.0f);
    std::vector<float> k_rstds(static_cast<std::size_t>(c.rows * c.kv_heads), -1.0f);
    std::vector<float> caches(elements, 3.0f);
    const DeviceArray<float> cosine(cosines), sine(sines), q_weight(q_weights), k_weight(k_weights),
        q_rstd(q_rstds), k_rstd(k_rstds);
    const DeviceArray<std::int32_t> begin(begins), place(places), table(tables);
    const DeviceArray<T> qkv(stored_as<T>(qkvs)), cache(stored_as<T>(caches)), q_there(qs.size()),
        k_there(ks.size());
    const PagedBatch batch{begins.data(), places.data(), tables.data(), c.rows, table_blocks,
                           c.heads,       c.kv_heads,    c.dim,         true,   false};
    PagedBatch batch_there = batch;
    batch_there.cu_seqlens = begin.data();
    batch_there.context = place.data();
    batch_there.block_table = table.data();
    const auto rows_of = [&](std::int64_t heads, const float* weight) {
      return HeadRows{c.rows,
                      heads,
                      c.dim,
                      places.data(),
                      cosines.data(),
                      sines.data(),
                      c.norm ? weight : nullptr};
    };
    const auto rows_there = [&](std::int64_t heads, const float* weight) {
      return HeadRows{c.rows,
                      heads,
                      c.dim,
                      place.data(),
                      cosine.data(),
                      sine.data(),
                      c.norm ? weight : nullptr};
    };
    prepare_heads(
        twin(),
        PreparedHeads<float>{qs.data(), ks.data(), q_rstds.data(), k_rstds.data(), caches.data()},
        ConstRows<float>{qkvs.data(), stride}, eps, rows_of(c.heads, q_weights.data()),
        rows_of(c.kv_heads, k_weights.data()), batch);
    prepare_heads(device(),
                  PreparedHeads<T>{q_there.data(), k_there.data(), q_rstd.data(), k_rstd.data(),
                                   cache.data()},
                  ConstRows<T>{qkv.data(), stride}, eps, rows_there(c.heads, q_weight.data()),
                  rows_there(c.kv_heads, k_weight.data()), batch_there);
    expect_same(qs, q_there, "q");
    expect_same(ks, k_there, "k");
    expect_same(q_rstds, q_rstd, "rstd of q");
    expect_same(k_rstds, k_rstd, "rstd of k");
    expect_same(caches, cache, "cache");
  }
}

}  // namespace
}  // namespace fst::kernels
