#include <functional>
#include <numeric>

#include "device.h"
#include "kernels/adamw.h"
#include "kernels/attention.h"
#include "kernels/embedding.h"
#include "kernels/matmul.h"
#include "kernels/rms_norm.h"
#include "kernels/rope.h"
#include "kernels/sampling.h"
#include "kernels/swiglu.h"
#include "kernels/token_law.h"
#include "noise.h"

// The same call on the same input gives the same bits every time, whatever else the device does,
// whatever the outputs and the working memory held before.
namespace fst::kernels {
namespace {

using test::device;
using test::DeviceArray;
using test::large;
using test::Noise;

using Floats = DeviceArray<float>;
using Numbers = DeviceArray<std::int32_t>;

int repetitions() {
  return large() ? 100 : 2;
}
/// A size for a GPU, so that many blocks run at a time, and one for the emulator.
std::int64_t size(std::int64_t on_gpu, std::int64_t emulated) {
  return large() ? on_gpu : emulated;
}
std::size_t count(std::int64_t n) {
  return static_cast<std::size_t>(n);
}

/// Noise that was drawn once and is repeated: a GPU's inputs are too large to draw them all.
Floats normals(std::int64_t n) {
  static const std::vector<float> drawn = Noise(11).normals(40009);
  std::vector<float> values(count(n));
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = drawn[i % drawn.size()];
  return Floats(values);
}
Numbers numbers(std::int64_t n, std::int64_t below) {
  Noise noise(12);
  std::vector<std::int32_t> values(count(n));
  for (auto& value : values) value = static_cast<std::int32_t>(noise.below(below));
  return Numbers(values);
}

/// Other work that runs beside the kernel under test: copies on a second stream.
class Disturbance {
 public:
  Disturbance() : other_(open_cuda(0)), from_(normals(floats())), to_(from_.size()) {}
  Disturbance(const Disturbance&) = delete;
  Disturbance& operator=(const Disturbance&) = delete;
  ~Disturbance() { close_cuda(other_); }

  void begin(int repetition) const {
    for (int i = 0; i < repetition % 5; ++i) {
      copy_on_device(other_, to_.data(), from_.data(), 4 * from_.size());
    }
    const std::size_t working = count(size(1 << 22, 1 << 12));
    fill(device(), static_cast<float*>(scratch(device(), 4 * working)), 0,
         static_cast<float>(repetition), 1, static_cast<std::int64_t>(working));
  }

 private:
  static std::int64_t floats() { return size(1 << 24, 1 << 10); }
  Cuda other_;
  Floats from_, to_;
};

class Determinism : public testing::Test {
 protected:
  /// `call` writes all of `outputs`.
  void expect_same_bits(const std::vector<const Floats*>& outputs,
                        const std::function<void()>& call) const {
    std::vector<std::vector<float>> first;
    for (int i = 0; i < repetitions(); ++i) {
      for (const Floats* out : outputs) {
        fill(device(), out->data(), 0, static_cast<float>(i), 1,
             static_cast<std::int64_t>(out->size()));
      }
      disturbance_.begin(i);
      call();
      for (std::size_t k = 0; k < outputs.size(); ++k) {
        if (i == 0) {
          first.push_back(outputs[k]->host());
        } else {
          ASSERT_EQ(test::differing(first[k], outputs[k]->host()), 0)
              << "output " << k << ", repetition " << i;
        }
      }
    }
  }

  Disturbance disturbance_;
};

TEST_F(Determinism, OfProducts) {
  const std::int64_t n = size(1536, 40), k = size(1024, 56);
  const Floats weight = normals(n * k);
  const Floats packed(count(packed_weight_size(n, k)));
  pack_weight(device(), packed.data(), weight.data(), Storage::f32, n, k);
  for (const std::int64_t rows : {std::int64_t{1}, std::int64_t{9}, size(515, 35)}) {
    SCOPED_TRACE(rows);
    const Floats x = normals(rows * k), dy = normals(rows * n);
    const Floats chain(count(rows * n)), leaves(count(rows * n)), dx(count(rows * k)),
        dweight(count(n * k));
    expect_same_bits({&chain, &leaves, &dx, &dweight}, [&] {
      const Cuda& cuda = device();
      linear_forward(cuda, chain.data(), n, x.data(), k, packed.data(), nullptr, rows, n, k,
                     SumOrder::chain, Update::overwrite);
      linear_forward(cuda, leaves.data(), n, x.data(), k, packed.data(), nullptr, rows, n, k,
                     SumOrder::leaves, Update::overwrite);
      linear_backward_input(cuda, dx.data(), k, dy.data(), n, weight.data(), k, rows, n, k,
                            SumOrder::leaves, Update::overwrite);
      linear_backward_weight(cuda, dweight.data(), k, dy.data(), n, x.data(), k, rows, n, k,
                             Chain::begin);
    });
  }
}

TEST_F(Determinism, OfAttention) {
  const std::int64_t rows = size(1300, 37), heads = size(16, 2), kv_heads = heads / 2,
                     dim = size(128, 16), blocks = (rows + attention_block - 1) / attention_block,
                     stride = heads * dim, kv_stride = kv_heads * dim;
  const Floats q = normals(rows * stride), k = normals(rows * kv_stride),
               v = normals(rows * kv_stride), dout = normals(rows * stride);
  std::vector<std::int32_t> order(count(blocks));
  std::iota(order.rbegin(), order.rend(), 0);
  const Numbers starts(std::vector<std::int32_t>{0, static_cast<std::int32_t>(rows)}),
      context(std::vector<std::int32_t>{0}), table(order);
  const PagedBatch batch{starts.data(), context.data(), table.data(), 1,
                         blocks,        heads,          kv_heads,     dim};
  const Floats cache(count(blocks * 2 * attention_block * kv_stride));
  const Floats out(count(rows * stride)), lse(count(rows * heads)), dq(count(rows * stride)),
      dk(count(rows * kv_stride)), dv(count(rows * kv_stride));
  expect_same_bits({&out, &lse, &dq, &dk, &dv}, [&] {
    const Cuda& cuda = device();
    zero(cuda, cache.data(), sizeof(float) * cache.size());  // slots behind the last row
    kv_write(cuda, cache.data(), {k.data(), kv_stride}, {v.data(), kv_stride}, batch);
    attention_forward(cuda, {out.data(), stride}, lse.data(), {q.data(), stride}, cache.data(),
                      batch, 0.25f);
    const AttentionGradients<float> gradients{{dq.data(), stride},    {dk.data(), kv_stride},
                                              {dv.data(), kv_stride}, {dout.data(), stride},
                                              {out.data(), stride},   lse.data()};
    attention_backward(cuda, gradients, {q.data(), stride}, cache.data(), batch, 0.25f);
  });
}

TEST_F(Determinism, OfNormsRotationAndSwiglu) {
  const std::int64_t rows = size(2051, 19), heads = size(8, 2), dim = size(128, 20),
                     columns = heads * dim, half = columns / 2;
  const Floats x = normals(rows * columns), dy = normals(rows * columns), weight = normals(columns),
               angle = normals(rows * dim / 2);
  const Numbers positions = numbers(rows, rows);
  const HeadRows shape{rows,         heads,        dim,          positions.data(),
                       angle.data(), angle.data(), weight.data()};
  const Floats y(count(rows * columns)), rstd(count(rows)), dx(count(rows * columns)),
      dweight(count(columns)), turned(count(rows * columns)), head_rstd(count(rows * heads)),
      dturned(count(rows * columns)), dhead_weight(count(columns)), h(count(rows * half)),
      dgate_up(count(rows * columns));
  const std::vector<const Floats*> all{&y,         &rstd,    &dx,           &dweight, &turned,
                                       &head_rstd, &dturned, &dhead_weight, &h,       &dgate_up};
  expect_same_bits(all, [&] {
    const Cuda& cuda = device();
    for (const Floats* sum : {&dweight, &dhead_weight}) zero(cuda, sum->data(), 4 * sum->size());
    rms_norm_forward(cuda, y.data(), rstd.data(), x.data(), weight.data(), rows, columns, 1e-6f);
    rms_norm_backward(cuda, dx.data(), dweight.data(), dy.data(), x.data(), rstd.data(),
                      weight.data(), rows, columns, false);
    head_norm_rope_forward(cuda, turned.data(), columns, head_rstd.data(), x.data(), columns, 1e-6f,
                           shape);
    head_norm_rope_backward(cuda, dturned.data(), columns, dhead_weight.data(), dy.data(), columns,
                            x.data(), columns, head_rstd.data(), shape);
    swiglu_forward(cuda, h.data(), x.data(), rows, half);
    swiglu_backward(cuda, dgate_up.data(), h.data(), x.data(), rows, half);
  });
}

TEST_F(Determinism, OfTheLawOfATokenAndOfSampling) {
  const std::int64_t rows = size(67, 3), vocab = size(151936, 333);
  const LawPart law{vocab, vocab, 1.0f};
  const Floats z = normals(rows * vocab), g = normals(rows);
  const Numbers targets = numbers(rows, vocab), positions = numbers(rows, 1000),
                tokens(count(rows));
  const DeviceArray<std::uint64_t> keys(std::vector<std::uint64_t>(count(rows), 5));
  const Floats lse(count(2 * rows)), logprob(count(rows)), entropy(count(rows)), drawn(count(rows)),
      dz(count(rows * vocab));
  std::vector<std::int32_t> first;
  expect_same_bits({&lse, &logprob, &entropy, &dz, &drawn}, [&] {
    const Cuda& cuda = device();
    EXPECT_EQ(token_lse(cuda, lse.data(), z.data(), rows, vocab, law), -1);
    token_logprob(cuda, logprob.data(), z.data(), lse.data(), targets.data(), rows, vocab, law);
    token_entropy(cuda, entropy.data(), z.data(), lse.data(), rows, vocab, law);
    token_backward(cuda, dz.data(), z.data(), lse.data(), targets.data(), {.dlogprob = g.data()},
                   rows, vocab, vocab, law);
    sample_tokens(cuda, tokens.data(), drawn.data(), z.data(), keys.data(), positions.data(), rows,
                  vocab, vocab, vocab, {0.8f, 50, 0.9f, 0.0f});
    if (first.empty()) first = tokens.host();
    EXPECT_EQ(tokens.host(), first);
  });
}

TEST_F(Determinism, OfTheEmbeddingsGradientTheNormAndAdamW) {
  const std::int64_t rows = size(4099, 60), dim = size(1024, 36), vocab = 50, n = rows * dim;
  const Numbers tokens = numbers(rows, vocab);
  const Floats dy = normals(n), begin = normals(n);
  const Floats table(count(vocab * dim)), parameter(count(n)), m(count(n)), v(count(n));
  const AdamWScalars scalars{0.7f, 0.99f, 0.9f, 0.1f, 0.999f, 0.001f, 0.01f, 1.0f, 1e-8f};
  ExactSum first;
  sum_of_squares(device(), first, dy.data(), n);
  expect_same_bits({&table, &parameter, &m, &v}, [&] {
    const Cuda& cuda = device();
    for (const Floats* old : {&table, &m, &v}) zero(cuda, old->data(), 4 * old->size());
    copy_on_device(cuda, parameter.data(), begin.data(), 4 * begin.size());
    embedding_backward(cuda, table.data(), dy.data(), tokens.data(), rows, dim, {0, vocab});
    adamw(cuda, parameter.data(), m.data(), v.data(), dy.data(), n, scalars);
    ExactSum sum;
    sum_of_squares(cuda, sum, dy.data(), n);
    EXPECT_EQ(sum.state(), first.state());
  });
}

}  // namespace
}  // namespace fst::kernels
