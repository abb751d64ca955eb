// The same operations with plain sums where that is asked for, for exactness.py alone: linked into
// model_bench_plain in front of the library, whose own files with these functions are then left
// out. Parts that can be plain:
//   forward  o and down: one chain over the inner dimension instead of eight leaves
//   input    dX of q, k, v and of gate, up: one product with one chain over all their columns
//            instead of one of eight leaves for each matrix; the head: one chain
//   norm     the gradient's squares: float sums instead of an exact one

#include "bench/plain_sums.h"

#include <cmath>
#include <cstring>
#include <vector>

#include "fst/tensor/ops.h"

#include "kernels/adamw.h"
#include "kernels/matmul.h"
#include "kernels/thread_pool.h"

namespace fst {

namespace {
bool plain_forward = false, plain_input = false, plain_norm = false;
}  // namespace

void bench::set_plain(std::string_view parts) {
  const auto has = [&](const char* part) { return parts.find(part) != std::string_view::npos; };
  plain_forward = has("forward");
  plain_input = has("input");
  plain_norm = has("norm");
}

}  // namespace fst

namespace fst::ops {

namespace {

kernels::SumOrder order_of(Sum sum, bool always_chain) {
  return always_chain || sum == Sum::chain ? kernels::SumOrder::chain : kernels::SumOrder::leaves;
}
kernels::Update update_of(Write write) {
  return write == Write::overwrite ? kernels::Update::overwrite : kernels::Update::add;
}

constexpr std::int64_t lanes = 64;

/// Of n floats, n a multiple of `lanes`.
double float_squares(const float* x, std::int64_t n) {
  typedef float V __attribute__((vector_size(64), aligned(4)));
  V sums[4] = {};
  for (std::int64_t i = 0; i < n; i += lanes) {
    for (int v = 0; v < 4; ++v) {
      V values;
      std::memcpy(&values, x + i + v * 16, sizeof values);
      sums[v] += values * values;
    }
  }
  double total = 0.0;
  for (const V& sum : sums) {
    for (int j = 0; j < 16; ++j) total += static_cast<double>(sum[j]);
  }
  return total;
}

}  // namespace

// Float32 alone: that is what the cost of exactness is measured in.
std::int64_t packed_size(DType, std::int64_t n, std::int64_t k, Sum) {
  return kernels::packed_weight_size(n, k);
}

bool packs(const Device&, DType) {
  return true;
}

void pack_weight(Tensor& packed, const Tensor& weight, Sum) {
  const auto storage =
      weight.dtype() == DType::f32 ? kernels::Storage::f32 : kernels::Storage::bf16;
  kernels::pack_weight(packed.device().exec(), packed.data<float>(), weight.raw(), storage,
                       weight.dim(0), weight.dim(1));
}

void linear_forward(Tensor& y, const Tensor& x, const Tensor& packed, const Tensor* bias, Sum sum,
                    Write write) {
  kernels::linear_forward(y.device().exec(), y.data<float>(), y.row_stride(), x.data<float>(),
                          x.row_stride(), packed.data<float>(),
                          bias == nullptr ? nullptr : bias->data<float>(), y.dim(0), y.dim(1),
                          x.dim(1), order_of(sum, plain_forward), update_of(write));
}

void linear_backward_input(Tensor& dx, const Tensor& dy, const Tensor& weight, Sum sum,
                           Write write) {
  kernels::linear_backward_input(dx.device().exec(), dx.data<float>(), dx.row_stride(),
                                 dy.data<float>(), dy.row_stride(), weight.data<float>(),
                                 weight.row_stride(), dx.dim(0), weight.dim(0), weight.dim(1),
                                 order_of(sum, plain_input), update_of(write));
}

void linear_backward_inputs(Tensor& dx, const Tensor& dy, const Tensor& weight,
                            std::span<const std::int64_t> sizes, Sum sum) {
  if (plain_input) return linear_backward_input(dx, dy, weight, sum, Write::overwrite);
  kernels::linear_backward_input(dx.device().exec(), dx.data<float>(), dx.row_stride(),
                                 dy.data<float>(), dy.row_stride(), weight.data<float>(),
                                 weight.row_stride(), dx.dim(0), sizes.data(),
                                 static_cast<std::int64_t>(sizes.size()), weight.dim(1),
                                 order_of(sum, false), kernels::Update::overwrite);
}

void linear_backward_weight(Tensor& dweight, const Tensor& dy, const Tensor& x, Chain chain,
                            std::span<const std::int32_t>) {
  kernels::linear_backward_weight(
      dweight.device().exec(), dweight.data<float>(), dweight.row_stride(), dy.data<float>(),
      dy.row_stride(), x.data<float>(), x.row_stride(), dy.dim(0), dweight.dim(0), dweight.dim(1),
      chain == Chain::begin ? kernels::Chain::begin : kernels::Chain::resume);
}

void bias_backward(Tensor& dbias, const Tensor& dy) {
  kernels::bias_backward(dbias.device().exec(), dbias.data<float>(), dy.data<float>(),
                         dy.row_stride(), dy.dim(0), dy.dim(1));
}

void adamw(Tensor& parameter, Tensor& m, Tensor& v, const Tensor& gradient, const AdamWStep& step) {
  kernels::AdamWScalars scalars{};
  scalars.clip = step.clip;
  scalars.decay = static_cast<float>(1.0 - step.lr * step.weight_decay);
  scalars.keep_m = static_cast<float>(step.beta1);
  scalars.take_m = static_cast<float>(1.0 - step.beta1);
  scalars.keep_v = static_cast<float>(step.beta2);
  scalars.take_v = static_cast<float>(1.0 - step.beta2);
  scalars.rate = static_cast<float>(step.lr / step.bias1);
  scalars.root = static_cast<float>(1.0 / std::sqrt(step.bias2));
  scalars.eps = static_cast<float>(step.eps);
  kernels::adamw(parameter.device().exec(), parameter.data<float>(), m.data<float>(),
                 v.data<float>(), gradient.data<float>(), parameter.size(), scalars);
}

void sum_of_squares(kernels::ExactSum& sum, const Tensor& x) {
  if (x.empty()) return;
  if (!plain_norm) {
    kernels::sum_of_squares(x.device().exec(), sum, x.data<float>(), x.size());
    return;
  }
  const std::int64_t blocks = x.size() / lanes;
  const float* values = x.data<float>();
  const auto threads = static_cast<std::int64_t>(x.device().threads());
  std::vector<double> partial(static_cast<std::size_t>(threads), 0.0);
  kernels::parallel_for(x.device().exec(), threads, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t t = begin; t < end; ++t) {
      const std::int64_t first = blocks * t / threads, last = blocks * (t + 1) / threads;
      partial[static_cast<std::size_t>(t)] =
          float_squares(values + first * lanes, (last - first) * lanes);
    }
  });
  double total = 0.0;
  for (const double one : partial) total += one;
  for (std::int64_t i = blocks * lanes; i < x.size(); ++i) {
    total += static_cast<double>(values[i] * values[i]);
  }
  sum.add(total);
}

}  // namespace fst::ops
