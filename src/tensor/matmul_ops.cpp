#include <numeric>

#include "fst/tensor/ops.h"

#include "check.h"
#include "kernels/matmul.h"

namespace fst::ops {

namespace {

kernels::SumOrder order_of(Sum sum) {
  return static_cast<kernels::SumOrder>(sum);
}
kernels::Update update_of(Write write) {
  return write == Write::overwrite ? kernels::Update::overwrite : kernels::Update::add;
}

kernels::Chain chain_of(Chain chain) {
  return chain == Chain::begin ? kernels::Chain::begin : kernels::Chain::resume;
}

}  // namespace

std::int64_t packed_size(std::int64_t n, std::int64_t k) {
  return kernels::packed_weight_size(n, k);
}

void pack_weight(Tensor& packed, const Tensor& weight) {
  expect_matrix("pack_weight: weight", weight);
  expect_contiguous("pack_weight: weight", weight);
  const std::int64_t n = weight.dim(0), k = weight.dim(1);
  expect_elements("pack_weight: packed", packed, packed_size(n, k));
  packed.device().run([&](const auto& exec) {
    return kernels::pack_weight(exec, packed.data<float>(), weight.raw(),
                                storage_of("pack_weight: weight", weight), n, k);
  });
}

void linear_forward(Tensor& y, const Tensor& x, const Tensor& packed, const Tensor* bias, Sum sum,
                    Write write) {
  expect_matrix("linear_forward: y", y);
  const std::int64_t rows = y.dim(0), n = y.dim(1);
  expect_row_count("linear_forward: x", x, rows);
  const std::int64_t k = x.dim(1);
  expect_elements("linear_forward: packed", packed, packed_size(n, k));
  if (bias != nullptr) expect_elements("linear_forward: bias", *bias, n);
  y.device().run([&](const auto& exec) {
    return kernels::linear_forward(exec, y.data<float>(), y.row_stride(), x.data<float>(),
                                   x.row_stride(), packed.data<float>(),
                                   bias == nullptr ? nullptr : bias->data<float>(), rows, n, k,
                                   order_of(sum), update_of(write));
  });
}

void linear_backward_input(Tensor& dx, const Tensor& dy, const Tensor& weight, Sum sum,
                           Write write) {
  expect_matrix("linear_backward_input: weight", weight);
  const std::int64_t n = weight.dim(0), k = weight.dim(1);
  expect_matrix("linear_backward_input: dx", dx);
  const std::int64_t rows = dx.dim(0);
  expect_matrix("linear_backward_input: dx", dx, rows, k);
  expect_matrix("linear_backward_input: dy", dy, rows, n);
  dx.device().run([&](const auto& exec) {
    return kernels::linear_backward_input(
        exec, dx.data<float>(), dx.row_stride(), dy.data<float>(), dy.row_stride(),
        weight.data<float>(), weight.row_stride(), rows, n, k, order_of(sum), update_of(write));
  });
}

void linear_backward_inputs(Tensor& dx, const Tensor& dy, const Tensor& weight,
                            std::span<const std::int64_t> sizes, Sum sum) {
  expect_matrix("linear_backward_inputs: weight", weight);
  const std::int64_t k = weight.dim(1);
  const std::int64_t n = std::accumulate(sizes.begin(), sizes.end(), std::int64_t{0});
  expect_matrix("linear_backward_inputs: weight", weight, n, k);
  expect_matrix("linear_backward_inputs: dx", dx);
  const std::int64_t rows = dx.dim(0);
  expect_matrix("linear_backward_inputs: dx", dx, rows, k);
  expect_matrix("linear_backward_inputs: dy", dy, rows, n);
  dx.device().run([&](const auto& exec) {
    return kernels::linear_backward_input(
        exec, dx.data<float>(), dx.row_stride(), dy.data<float>(), dy.row_stride(),
        weight.data<float>(), weight.row_stride(), rows, sizes.data(),
        static_cast<std::int64_t>(sizes.size()), k, order_of(sum), kernels::Update::overwrite);
  });
}

void linear_backward_weight(Tensor& dweight, const Tensor& dy, const Tensor& x, Chain chain) {
  expect_matrix("linear_backward_weight: dweight", dweight);
  const std::int64_t n = dweight.dim(0), k = dweight.dim(1);
  expect_matrix("linear_backward_weight: dy", dy);
  const std::int64_t rows = dy.dim(0);
  expect_matrix("linear_backward_weight: dy", dy, rows, n);
  expect_matrix("linear_backward_weight: x", x, rows, k);
  dweight.device().run([&](const auto& exec) {
    return kernels::linear_backward_weight(exec, dweight.data<float>(), dweight.row_stride(),
                                           dy.data<float>(), dy.row_stride(), x.data<float>(),
                                           x.row_stride(), rows, n, k, chain_of(chain));
  });
}

void bias_backward(Tensor& dbias, const Tensor& dy) {
  expect_matrix("bias_backward: dy", dy);
  expect_elements("bias_backward: dbias", dbias, dy.dim(1));
  dbias.device().run([&](const auto& exec) {
    return kernels::bias_backward(exec, dbias.data<float>(), dy.data<float>(), dy.row_stride(),
                                  dy.dim(0), dy.dim(1));
  });
}

}  // namespace fst::ops
