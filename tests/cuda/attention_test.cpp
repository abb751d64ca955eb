#include "kernels/attention.h"

#include <string>

#include "../kernels/attention_support.h"
#include "device.h"

namespace fst::kernels {
namespace {

using test::Batch;
using test::device;
using test::DeviceArray;
using test::expect_same;
using test::HeadShape;
using test::Noise;
using test::twin;

using Floats = std::vector<float>;
using Lengths = std::vector<std::int64_t>;

/// Keys of each sequence at the end, and how many of them, the last, are rows of the batch.
struct Extent {
  Lengths lengths, rows;
};

std::string name_of(const HeadShape& s, const Extent& e) {
  std::string name = std::to_string(s.heads) + "/" + std::to_string(s.kv_heads) + " heads of " +
                     std::to_string(s.dim) + ", rows/keys";
  for (std::size_t i = 0; i < e.rows.size(); ++i) {
    name += " " + std::to_string(e.rows[i]) + "/" + std::to_string(e.lengths[i]);
  }
  return name;
}

/// A batch whose keys are all in the cache and whose last rows are attended; everything strided.
struct Case {
  HeadShape shape;
  Batch batch;
  std::int64_t gap, q_stride, kv_stride;
  Floats q, k, v;

  Case(const HeadShape& heads, const Extent& extent, std::int64_t between)
      : shape(heads), batch(heads, extent.lengths, extent.lengths), gap(between) {
    q_stride = heads.heads * heads.dim + gap;
    kv_stride = heads.kv_heads * heads.dim + gap;
    Noise noise(7);
    k = noise.normals(batch.rows() * kv_stride);
    v = noise.normals(batch.rows() * kv_stride);
    kv_write(twin(), batch.cache.data(), {k.data(), kv_stride}, {v.data(), kv_stride},
             batch.paged());
    for (std::size_t s = 0; s < extent.rows.size(); ++s) {
      const std::int64_t rows = extent.rows[s];
      batch.cu_seqlens[s + 1] = batch.cu_seqlens[s] + static_cast<std::int32_t>(rows);
      batch.context[s] = static_cast<std::int32_t>(extent.lengths[s] - rows);
    }
    q = noise.normals(batch.rows() * q_stride, 1.5);
  }
  std::size_t outputs() const { return static_cast<std::size_t>(batch.rows() * q_stride); }
  std::size_t per_head() const { return static_cast<std::size_t>(batch.rows() * shape.heads); }
};

/// What a kernel reads of a batch, on the device.
struct OnDevice {
  DeviceArray<std::int32_t> cu_seqlens, context, table;
  DeviceArray<float> cache;
  PagedBatch paged;

  explicit OnDevice(const Batch& batch)
      : cu_seqlens(batch.cu_seqlens),
        context(batch.context),
        table(batch.table),
        cache(batch.cache),
        paged(batch.paged()) {
    paged.cu_seqlens = cu_seqlens.data();
    paged.context = context.data();
    paged.block_table = table.data();
  }
};

constexpr float untouched = std::numeric_limits<float>::quiet_NaN();

void expect_forward(const Case& c, const std::string& name) {
  Floats out(c.outputs(), untouched), lse(c.per_head());
  attention_forward(twin(), {out.data(), c.q_stride}, lse.data(), {c.q.data(), c.q_stride},
                    c.batch.cache.data(), c.batch.paged(), c.batch.scale());
  const OnDevice there(c.batch);
  const DeviceArray<float> q(c.q), device_lse(c.per_head());
  const DeviceArray<float> device_out(Floats(c.outputs(), untouched));
  attention_forward(device(), {device_out.data(), c.q_stride}, device_lse.data(),
                    {q.data(), c.q_stride}, there.cache.data(), there.paged, c.batch.scale());
  expect_same(out, device_out, (name + ", out").c_str());
  expect_same(lse, device_lse, (name + ", lse").c_str());
}
void expect_forward(const HeadShape& shape, const Extent& extent, std::int64_t gap) {
  expect_forward(Case(shape, extent, gap), name_of(shape, extent));
}

void expect_backward(const Case& c, const std::string& name) {
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
  const OnDevice there(c.batch);
  const DeviceArray<float> q(c.q), device_out(out), device_lse(lse), device_dout(dout);
  const DeviceArray<float> device_dq(Floats(dq.size(), untouched));
  const DeviceArray<float> device_dk(Floats(dk.size(), untouched));
  const DeviceArray<float> device_dv(Floats(dv.size(), untouched));
  attention_backward(device(),
                     {{device_dq.data(), c.q_stride},
                      {device_dk.data(), c.kv_stride},
                      {device_dv.data(), c.kv_stride},
                      {device_dout.data(), c.q_stride},
                      {device_out.data(), c.q_stride},
                      device_lse.data()},
                     {q.data(), c.q_stride}, there.cache.data(), there.paged, c.batch.scale());
  expect_same(dq, device_dq, (name + ", dq").c_str());
  expect_same(dk, device_dk, (name + ", dk").c_str());
  expect_same(dv, device_dv, (name + ", dv").c_str());
}
void expect_backward(const HeadShape& shape, const Lengths& lengths, std::int64_t gap) {
  const Extent all{lengths, lengths};
  expect_backward(Case(shape, all, gap), name_of(shape, all));
}

// The head sizes of real models and odd ones; groups that divide 64 pairs and others.
const HeadShape shapes[] = {{4, 2, 128}, {5, 1, 16},  {3, 3, 24},
                            {6, 2, 5},   {10, 2, 72}, {2, 1, 64}};

TEST(CudaAttention, KeysAndValuesAreWrittenWhereTheCpuWritesThem) {
  for (const HeadShape& shape : shapes) {
    for (const std::int64_t gap : {0, 3}) {
      const Case c(shape, {{35, 17, 3, 64}, {4, 1, 0, 64}}, gap);
      Batch expected = c.batch;
      const OnDevice there(c.batch);
      const Floats k = Noise(9).normals(c.batch.rows() * c.kv_stride);
      const Floats v = Noise(10).normals(c.batch.rows() * c.kv_stride);
      const DeviceArray<float> device_k(k), device_v(v);
      kv_write(twin(), expected.cache.data(), {k.data(), c.kv_stride}, {v.data(), c.kv_stride},
               expected.paged());
      kv_write(device(), there.cache.data(), {device_k.data(), c.kv_stride},
               {device_v.data(), c.kv_stride}, there.paged);
      expect_same(expected.cache, there.cache, "cache");
    }
  }
}

// The cache is NaN wherever no key lies, so these also show that nothing else is touched.
TEST(CudaAttention, ForwardHasTheBitsOfTheCpu) {
  for (const HeadShape& shape : shapes) {
    for (const std::int64_t gap : {0, 3}) {
      expect_forward(shape, {{1, 37, 150, 16}, {1, 37, 9, 0}}, gap);  // training, a chunk, nothing
    }
    expect_forward(shape, {{129, 128, 1, 300}, {1, 1, 1, 1}}, 0);  // decoding
  }
  expect_forward({4, 2, 128}, {{270}, {270}}, 0);
}

TEST(CudaAttention, SplitsOfLongSequencesAreJoinedAsOnTheCpu) {
  for (const HeadShape& shape : {HeadShape{3, 1, 24}, HeadShape{2, 1, 128}}) {
    expect_forward(shape, {{1024, 1025, 2500, 40}, {1, 1, 1, 1}}, 0);
    expect_forward(shape, {{1060, 2070, 30}, {41, 3, 30}}, 1);  // rows on both sides of a split
  }
}

TEST(CudaAttention, RowsOfManyHeadsOfOneGroupAreAttended) {
  expect_forward({70, 1, 16}, {{1100, 20, 130}, {1, 1, 3}}, 0);  // more than a block takes
}

/// Some queries infinite, which makes NaNs of all that they meet: where they are shows what met.
Case infinite_queries(const HeadShape& shape, const Extent& extent) {
  Case c(shape, extent, 0);
  for (std::int64_t row = 21; row < c.batch.rows(); row += 37) {
    c.q[static_cast<std::size_t>(row * c.q_stride + row % c.q_stride)] =
        std::numeric_limits<float>::infinity();
  }
  return c;
}
/// The same of keys.
Case infinite_keys(const HeadShape& shape, const Extent& extent) {
  Case c(shape, extent, 0);
  for (std::int64_t row = 21; row < c.batch.rows(); row += 37) {
    c.k[static_cast<std::size_t>(row * c.kv_stride)] = std::numeric_limits<float>::infinity();
  }
  kv_write(twin(), c.batch.cache.data(), {c.k.data(), c.kv_stride}, {c.v.data(), c.kv_stride},
           c.batch.paged());
  return c;
}

TEST(CudaAttention, InfinitiesReachWhatTheyReachOnTheCpu) {
  const HeadShape shape{4, 2, 24};
  const Extent all{{150, 30}, {150, 30}};
  expect_forward(infinite_queries(shape, all), "queries");
  expect_forward(infinite_keys(shape, all), "keys");
  expect_backward(infinite_queries(shape, all), "queries");
  expect_backward(infinite_keys(shape, all), "keys");
}

TEST(CudaAttention, BackwardHasTheBitsOfTheCpu) {
  for (const HeadShape& shape : shapes) {
    for (const std::int64_t gap : {0, 3}) expect_backward(shape, {1, 37, 0, 70}, gap);
  }
  expect_backward({4, 2, 128}, {150, 33}, 0);
  expect_backward({3, 1, 16}, {290}, 1);
  if (!test::large()) return;
  const HeadShape real{16, 8, 128};  // Qwen3-0.6B
  expect_forward(real, {{2049, 700, 1500}, {2049, 1, 333}}, 0);
  expect_forward(real, {Lengths(64, 3000), Lengths(64, 1)}, 0);
  expect_backward(real, {2049, 700, 31}, 0);
}

}  // namespace
}  // namespace fst::kernels
