#include <algorithm>
#include <chrono>
#include <cstdio>
#include <functional>
#include <vector>

#include "batch.h"

// On a GPU only: what training's attention takes by our kernels and by cuDNN.
namespace fst {
namespace {

using cudnn_test::Batch;

constexpr int repeats = 7;

/// Milliseconds of the fastest of some runs, after one that makes plans and memory.
double fastest(const Batch& batch, const std::function<void()>& work) {
  double best = 1e30;
  for (int i = 0; i <= repeats; ++i) {
    batch.device.synchronize();
    const auto begin = std::chrono::steady_clock::now();
    work();
    batch.device.synchronize();
    const std::chrono::duration<double, std::milli> passed =
        std::chrono::steady_clock::now() - begin;
    if (i > 0) best = std::min(best, passed.count());
  }
  return best;
}

void print(const char* pass, double ours, double theirs) {
  std::printf(
      "cuDNN %s, attention %s of 4 x 2048 rows, 32/8 heads of 128: own %.2f ms, cuDNN %.2f "
      "ms, own / cuDNN %.2f\n",
      cudnn_support().c_str(), pass, ours, theirs, ours / theirs);
}

TEST(CudnnTimes, BesideOurs) {
  if (!cudnn_usable()) GTEST_SKIP() << "cuDNN: " << cudnn_support();
  Batch batch({{2048, 2048, 2048, 2048}, 32, 8, 128});
  LibraryAttention library(batch.device);
  Buffer out(batch.device, DType::bf16, {batch.rows, batch.q_size});
  Buffer lse(batch.device, DType::f32, {batch.rows, batch.sizes.heads});
  Buffer dq(batch.device, DType::bf16, {batch.rows, batch.q_size});
  Buffer dk(batch.device, DType::bf16, {batch.rows, batch.kv_size});
  Tensor dv = batch.dv();
  const double forward = fastest(batch, [&] {
    ops::attention_forward(out.tensor(), lse.tensor(), batch.q.tensor(), batch.cache.tensor(),
                           batch.batch(), batch.scale());
  });
  const double backward = fastest(batch, [&] {
    ops::attention_backward(dq.tensor(), dk.tensor(), dv, batch.dout.tensor(), out.tensor(),
                            lse.tensor(), batch.q.tensor(), batch.cache.tensor(), batch.batch(),
                            batch.scale());
  });
  const double their_forward =
      fastest(batch, [&] { library.forward(out.tensor(), lse.tensor(), batch.heads()); });
  const double their_backward = fastest(batch, [&] {
    library.backward(dq.tensor(), dk.tensor(), dv, batch.dout.tensor(), out.tensor(), lse.tensor(),
                     batch.heads());
  });
  print("forward", forward, their_forward);
  print("backward", backward, their_backward);
  EXPECT_GT(std::min(their_forward, their_backward), 0.0);
}

}  // namespace
}  // namespace fst
