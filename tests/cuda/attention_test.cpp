#include "kernels/attention.h"

#include "attention_case.h"

namespace fst::kernels {
namespace {

using fst::test::Batch;
using fst::test::Case;
using fst::test::device;
using fst::test::DeviceArray;
using fst::test::expect_same;
using fst::test::Extent;
using fst::test::Floats;
using fst::test::HeadShape;
using fst::test::held;
using fst::test::Lengths;
using fst::test::name_of;
using fst::test::Noise;
using fst::test::OnDevice;
using fst::test::stored_as;
using fst::test::twin;
using fst::test::untouched;

template <class T>
void expect_forward(const Case<T>& c, const std::string& name, std::int64_t shift = 0) {
  const fst::test::Forward want = defined_forward(c);
  const fst::test::DeviceForward<T> got(c, shift);
  expect_same(want.out, got.out, (name + ", out").c_str());
  expect_same(want.lse, got.lse, (name + ", lse").c_str());
}
template <class T>
void expect_forward(const HeadShape& shape, const Extent& extent, std::int64_t gap) {
  expect_forward(Case<T>(shape, extent, gap), name_of(shape, extent));
}

void expect_backward(const Case<float>& c, const std::string& name) {
  Floats out(c.outputs(), untouched), lse(c.per_head());
  attention_forward(twin(), {out.data(), c.q_stride}, lse.data(), {c.q.data(), c.q_stride},
                    c.batch.cache.data(), c.batch.paged(), c.batch.scale());
  const Floats dout = Noise(8).normals(static_cast<std::int64_t>(c.outputs()));
  Floats dq(c.outputs(), untouched), dk(c.k.size(), untouched), dv(c.k.size(), untouched);
  attention_backward(twin(),
                     {{dq.data(), c.q_stride},
                      {dk.data(), c.kv_stride},
                      {dv.data(), c.kv_stride},
                      {dout.data(), c.q_stride},
                      {out.data(), c.q_stride},
                      lse.data()},
                     {c.q.data(), c.q_stride}, c.batch.cache.data(), c.batch.paged(),
                     c.batch.scale());
  const OnDevice<float> there(c.batch);
  const DeviceArray<float> q(c.q), device_out(out), device_dout(dout);
  const DeviceArray<float> device_dq(Floats(dq.size(), untouched));
  const DeviceArray<float> device_dk(Floats(dk.size(), untouched));
  const DeviceArray<float> device_dv(Floats(dv.size(), untouched));
  const DeviceArray<float> device_lse(lse);
  attention_backward(device(),
                     {{device_dq.data(), c.q_stride},
                      {device_dk.data(), c.kv_stride},
                      {device_dv.data(), c.kv_stride},
                      {device_dout.data(), c.q_stride},
                      {device_out.data(), c.q_stride},
                      device_lse.data()},
                     {q.data(), c.q_stride}, there.cache(), there.paged, c.batch.scale());
  expect_same(dq, device_dq, (name + ", dq").c_str());
  expect_same(dk, device_dk, (name + ", dk").c_str());
  expect_same(dv, device_dv, (name + ", dv").c_str());
}
void expect_backward(const HeadShape& shape, const Lengths& lengths, std::int64_t gap) {
  const Extent all{lengths, lengths};
  expect_backward(Case<float>(shape, all, gap), name_of(shape, all));
}

// The head sizes of real models and odd ones; groups that divide 64 pairs and others.
const HeadShape shapes[] = {{4, 2, 128}, {5, 1, 16},  {3, 3, 24},
                            {6, 2, 5},   {10, 2, 72}, {2, 1, 64}};

template <class T>
struct CudaAttention : testing::Test {};
TYPED_TEST_SUITE(CudaAttention, fst::test::Elements, fst::test::ElementName);

TYPED_TEST(CudaAttention, KeysAndValuesAreWrittenWhereTheCpuWritesThem) {
  using T = TypeParam;
  for (const HeadShape& shape : shapes) {
    for (const std::int64_t gap : {0, 3}) {
      const Case<T> c(shape, {{35, 17, 3, 64}, {4, 1, 0, 64}}, gap);
      Batch expected = c.batch;
      const OnDevice<T> there(c.batch);
      const Floats k = held<T>(Noise(9).normals(c.batch.rows() * c.kv_stride));
      const Floats v = held<T>(Noise(10).normals(c.batch.rows() * c.kv_stride));
      const DeviceArray<T> device_k(stored_as<T>(k)), device_v(stored_as<T>(v));
      kv_write(twin(), expected.cache.data(), {k.data(), c.kv_stride}, {v.data(), c.kv_stride},
               expected.paged());
      kv_write(device(), there.cache(), {device_k.data(), c.kv_stride},
               {device_v.data(), c.kv_stride}, there.paged);
      expect_same(expected.cache, there.memory, "cache");
    }
  }
}

// The cache is NaN wherever no key lies, so these also show that nothing else is touched.
TYPED_TEST(CudaAttention, ForwardHasItsBits) {
  using T = TypeParam;
  for (const HeadShape& shape : shapes) {
    for (const std::int64_t gap : {0, 3}) {
      expect_forward<T>(shape, {{1, 37, 150, 16}, {1, 37, 9, 0}},
                        gap);  // training, a chunk, nothing
    }
    expect_forward<T>(shape, {{129, 128, 1, 300}, {1, 1, 1, 1}}, 0);  // decoding
  }
  expect_forward<T>({4, 2, 128}, {{270}, {270}}, 0);
  if (!fst::test::large()) return;
  const HeadShape real{16, 8, 128};  // Qwen3-0.6B
  expect_forward<T>(real, {{2049, 700, 1500}, {2049, 1, 333}}, 0);
  expect_forward<T>(real, {Lengths(64, 3000), Lengths(64, 1)}, 0);
}

TYPED_TEST(CudaAttention, SplitsOfLongSequencesAreJoinedInOrder) {
  using T = TypeParam;
  for (const HeadShape& shape : {HeadShape{3, 1, 24}, HeadShape{2, 1, 128}}) {
    expect_forward<T>(shape, {{1024, 1025, 2500, 40}, {1, 1, 1, 1}}, 0);
    expect_forward<T>(shape, {{1060, 2070, 30}, {41, 3, 30}}, 1);  // rows on both sides of a split
  }
}

TYPED_TEST(CudaAttention, ACacheMayBeginAnywhere) {
  using T = TypeParam;
  const Extent extent{{40, 37, 5}, {1, 37, 2}};
  for (const HeadShape& shape : {HeadShape{4, 2, 20}, HeadShape{2, 1, 5}}) {
    for (const std::int64_t shift : {1, 2}) {
      expect_forward(Case<T>(shape, extent, 0), name_of(shape, extent), shift);
    }
  }
}

TYPED_TEST(CudaAttention, RowsOfManyHeadsOfOneGroupAreAttended) {
  using T = TypeParam;
  expect_forward<T>({70, 1, 16}, {{1100, 20, 130}, {1, 1, 3}}, 0);  // more than a block takes
}

/// Some queries infinite, which makes NaNs of all that they meet: where they are shows what met.
template <class T>
Case<T> infinite_queries(const HeadShape& shape, const Extent& extent) {
  Case<T> c(shape, extent, 0);
  for (std::int64_t row = 21; row < c.batch.rows(); row += 37) {
    c.q[static_cast<std::size_t>(row * c.q_stride + row % c.q_stride)] =
        std::numeric_limits<float>::infinity();
  }
  return c;
}
/// The same of keys.
template <class T>
Case<T> infinite_keys(const HeadShape& shape, const Extent& extent) {
  Case<T> c(shape, extent, 0);
  for (std::int64_t row = 21; row < c.batch.rows(); row += 37) {
    c.k[static_cast<std::size_t>(row * c.kv_stride)] = std::numeric_limits<float>::infinity();
  }
  kv_write(twin(), c.batch.cache.data(), {c.k.data(), c.kv_stride}, {c.v.data(), c.kv_stride},
           c.batch.paged());
  return c;
}

/// Sums with infinities are not part of the tensor core's published bits, but where they lead is.
template <class T>
void expect_reach(const Case<T>& c, const char* name) {
  const fst::test::Forward want = twin_forward(c);
  const fst::test::DeviceForward<T> got(c);
  const auto finite = [](const Floats& xs) {
    Floats flags;
    for (const float x : xs) flags.push_back(std::isfinite(x) ? 1.0f : 0.0f);
    return flags;
  };
  EXPECT_EQ(finite(want.out), finite(fst::test::widened(got.out.host()))) << name;
  EXPECT_EQ(finite(want.lse), finite(got.lse.host())) << name;
}

TYPED_TEST(CudaAttention, InfinitiesReachWhatTheyReachOnTheCpu) {
  using T = TypeParam;
  const HeadShape shape{4, 2, 24};
  const Extent all{{150, 30}, {150, 30}};
  expect_reach(infinite_queries<T>(shape, all), "queries");
  expect_reach(infinite_keys<T>(shape, all), "keys");
  if constexpr (std::is_same_v<T, float>) {
    expect_backward(infinite_queries<T>(shape, all), "queries");
    expect_backward(infinite_keys<T>(shape, all), "keys");
  }
}

// Over bfloat16: attention_bf16_backward_test.cpp.
TEST(CudaAttentionBackward, HasTheBitsOfTheCpu) {
  for (const HeadShape& shape : shapes) {
    for (const std::int64_t gap : {0, 3}) expect_backward(shape, {1, 37, 0, 70}, gap);
  }
  expect_backward({4, 2, 128}, {150, 33}, 0);
  expect_backward({3, 1, 16}, {290}, 1);
  if (fst::test::large()) expect_backward({16, 8, 128}, {2049, 700, 31}, 0);  // Qwen3-0.6B
}

}  // namespace
}  // namespace fst::kernels
