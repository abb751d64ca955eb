#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <vector>

#include <gtest/gtest.h>

#include "fst/tensor/library_attention.h"
#include "fst/tensor/ops.h"

#include "kernels/bf16.h"
#include "noise.h"

/// Attention of one batch by our kernels and by cuDNN.
namespace fst::cudnn_test {

using kernels::Bf16;
using Floats = std::vector<float>;

inline Floats host(const Tensor& x) {
  Buffer all(x.device(), x.dtype(), {x.dim(0), x.dim(1)});
  ops::copy_rows(all.tensor(), x);
  const auto count = static_cast<std::size_t>(x.size());
  Floats values(count);
  if (x.dtype() == DType::f32) {
    x.device().copy_out(values.data(), all.tensor().raw(), x.size() * 4);
    return values;
  }
  std::vector<Bf16> stored(count);
  x.device().copy_out(stored.data(), all.tensor().raw(), x.size() * 2);
  for (std::size_t i = 0; i < count; ++i) values[i] = kernels::widened(stored[i]);
  return values;
}

inline double distance(const Floats& found, const Floats& expected) {
  double difference = 0.0, size = 0.0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    difference += std::pow(static_cast<double>(found[i]) - expected[i], 2);
    size += std::pow(static_cast<double>(expected[i]), 2);
  }
  return std::sqrt(difference / size);
}

struct Sizes {
  std::vector<std::int32_t> lengths;
  std::int64_t heads, kv_heads, dim;
};

/// A batch as the model has it: k of its own, v and dv columns of wider matrices.
struct Batch {
  Sizes sizes;
  Device device = Device::cuda(0);
  std::vector<std::int32_t> first_rows{0};
  std::int64_t rows = 0, q_size, kv_size;
  Buffer q, k, qkv, dout, dqkv, cu_seqlens, context, table, cache;

  explicit Batch(const Sizes& of)
      : sizes(of), q_size(of.heads * of.dim), kv_size(of.kv_heads * of.dim) {
    std::int64_t blocks = 0, longest = 0;
    for (const std::int32_t length : sizes.lengths) {
      first_rows.push_back(first_rows.back() + length);
      const std::int64_t needed = (length + 15) / 16;
      blocks += needed;
      longest = std::max(longest, needed);
    }
    rows = first_rows.back();
    test::Noise noise(3);
    q = noisy(noise, q_size);
    k = noisy(noise, kv_size);
    qkv = noisy(noise, q_size + 2 * kv_size);
    dout = noisy(noise, q_size);
    dqkv = Buffer(device, DType::bf16, {rows, q_size + 2 * kv_size});
    const auto count = static_cast<std::int64_t>(sizes.lengths.size());
    cu_seqlens = Buffer(device, DType::i32, {count + 1});
    context = Buffer(device, DType::i32, {count});
    table = Buffer(device, DType::i32, {count, longest});
    cache = Buffer(device, DType::bf16, {blocks, sizes.kv_heads, 2, 16 * sizes.dim});
    std::vector<std::int32_t> blocks_of(static_cast<std::size_t>(count * longest));
    std::int32_t block = 0;
    for (std::int64_t s = 0; s < count; ++s) {
      const std::int64_t needed = (sizes.lengths[static_cast<std::size_t>(s)] + 15) / 16;
      for (std::int64_t b = 0; b < needed; ++b) {
        blocks_of[static_cast<std::size_t>(s * longest + b)] = block++;
      }
    }
    device.copy_in(cu_seqlens.tensor().raw(), first_rows.data(), 4 * (count + 1));
    device.copy_in(table.tensor().raw(), blocks_of.data(), 4 * count * longest);
    Tensor written = cache.tensor();
    ops::kv_write(written, k.tensor(), v(), batch());
  }
  Tensor v() const { return qkv.tensor().columns(q_size + kv_size, q_size + 2 * kv_size); }
  Tensor dv() const { return dqkv.tensor().columns(q_size + kv_size, q_size + 2 * kv_size); }
  ops::AttentionBatch batch() const {
    return {cu_seqlens.tensor(), context.tensor(), table.tensor()};
  }
  float scale() const { return 1.0f / std::sqrt(static_cast<float>(sizes.dim)); }
  PackedHeads heads() const { return {q.tensor(), k.tensor(), v(), first_rows, scale()}; }

 private:
  Buffer noisy(test::Noise& noise, std::int64_t columns) const {
    const auto values = noise.normals(rows * columns);
    std::vector<Bf16> stored;
    for (const float value : values) stored.push_back(kernels::narrowed(value));
    Buffer buffer(device, DType::bf16, {rows, columns});
    device.copy_in(buffer.tensor().raw(), stored.data(), 2 * rows * columns);
    return buffer;
  }
};

/// True on a GPU: sizes that the emulator could not run in its time.
inline bool large() {
  return std::getenv("FST_CUDA_LARGE") != nullptr;
}

/// What both passes give.
struct Results {
  Floats out, lse, dq, dk, dv;
};

template <class Forward, class Backward>
Results results(Batch& batch, const Forward& forward, const Backward& backward) {
  Buffer out(batch.device, DType::bf16, {batch.rows, batch.q_size});
  Buffer lse(batch.device, DType::f32, {batch.rows, batch.sizes.heads});
  Buffer dq(batch.device, DType::bf16, {batch.rows, batch.q_size});
  Buffer dk(batch.device, DType::bf16, {batch.rows, batch.kv_size});
  Tensor dv = batch.dv();
  forward(out.tensor(), lse.tensor());
  backward(dq.tensor(), dk.tensor(), dv, out.tensor(), lse.tensor());
  return {host(out.tensor()), host(lse.tensor()), host(dq.tensor()), host(dk.tensor()), host(dv)};
}

inline Results by_own(Batch& batch) {
  const auto forward = [&](Tensor& out, Tensor& lse) {
    ops::attention_forward(out, lse, batch.q.tensor(), batch.cache.tensor(), batch.batch(),
                           batch.scale());
  };
  const auto backward = [&](Tensor& dq, Tensor& dk, Tensor& dv, const Tensor& out,
                            const Tensor& lse) {
    ops::attention_backward(dq, dk, dv, batch.dout.tensor(), out, lse, batch.q.tensor(),
                            batch.cache.tensor(), batch.batch(), batch.scale());
  };
  return results(batch, forward, backward);
}

inline Results by_library(Batch& batch, LibraryAttention& library) {
  const auto forward = [&](Tensor& out, Tensor& lse) { library.forward(out, lse, batch.heads()); };
  const auto backward = [&](Tensor& dq, Tensor& dk, Tensor& dv, const Tensor& out,
                            const Tensor& lse) {
    library.backward(dq, dk, dv, batch.dout.tensor(), out, lse, batch.heads());
  };
  return results(batch, forward, backward);
}

inline void expect_same_bits(const Results& found, const Results& expected) {
  EXPECT_EQ(found.out, expected.out);
  EXPECT_EQ(found.lse, expected.lse);
  EXPECT_EQ(found.dq, expected.dq);
  EXPECT_EQ(found.dk, expected.dk);
  EXPECT_EQ(found.dv, expected.dv);
}

}  // namespace fst::cudnn_test
