#include <array>
#include <numeric>
#include <string>

#include "fst/tensor/ops.h"

#include "check.h"
#include "kernels/linear_norm.h"
#include "kernels/linear_swiglu.h"
#include "kernels/matmul.h"
#include "kernels/matmul_bf16.h"

namespace fst::ops {

namespace {

using kernels::Bf16;

kernels::SumOrder order_of(Sum sum) {
  return static_cast<kernels::SumOrder>(sum);
}
kernels::Update update_of(Write write) {
  return write == Write::overwrite ? kernels::Update::overwrite : kernels::Update::add;
}

kernels::Chain chain_of(Chain chain) {
  return chain == Chain::begin ? kernels::Chain::begin : kernels::Chain::resume;
}

/// Calls f(execution tag, X{}, Y{}) with the types of a product's input and output: both float, or
/// an input of Bf16 and an output of either.
template <class F>
void run_product(const char* what, const Tensor& x, const Tensor& y, F&& f) {
  if (x.dtype() == DType::f32) {
    return y.device().run([&](const auto& exec) { f(exec, float{}, float{}); });
  }
  run_typed(what, y, [&](const auto& exec, auto type) { f(exec, Bf16{}, type); });
}

void expect_sequences(std::span<const std::int32_t> first_rows, std::int64_t rows) {
  bool fine = first_rows.front() == 0 && first_rows.back() == rows;
  for (std::size_t s = 1; s < first_rows.size(); ++s) fine &= first_rows[s - 1] <= first_rows[s];
  if (!fine) {
    throw Error("linear_backward_weight: the sequences are not the " + std::to_string(rows) +
                " rows");
  }
}

}  // namespace

std::int64_t packed_size(DType dtype, std::int64_t n, std::int64_t k, Sum sum) {
  return dtype == DType::bf16 ? kernels::packed_weight_size(n, k, order_of(sum))
                              : kernels::packed_weight_size(n, k);
}

bool packs(const Device& device, DType dtype) {
  return device.on_host() || dtype == DType::f32;
}

void pack_weight(Tensor& packed, const Tensor& weight, Sum sum) {
  expect_matrix("pack_weight: weight", weight);
  expect_contiguous("pack_weight: weight", weight);
  const std::int64_t n = weight.dim(0), k = weight.dim(1);
  expect_elements("pack_weight: packed", packed, packed_size(packed.dtype(), n, k, sum));
  if (packed.dtype() == DType::bf16) {
    packed.device().run([&](const auto& exec) {
      kernels::pack_weight(exec, packed.data<Bf16>(), weight.data<Bf16>(), n, k, order_of(sum));
    });
    return;
  }
  packed.device().run([&](const auto& exec) {
    kernels::pack_weight(exec, packed.data<float>(), weight.raw(),
                         storage_of("pack_weight: weight", weight), n, k);
  });
}

void linear_forward(Tensor& y, const Tensor& x, const Tensor& packed, const Tensor* bias, Sum sum,
                    Write write) {
  expect_matrix("linear_forward: y", y);
  const std::int64_t rows = y.dim(0), n = y.dim(1);
  expect_row_count("linear_forward: x", x, rows);
  const std::int64_t k = x.dim(1);
  const bool in_panels = packs(x.device(), x.dtype());
  expect_elements("linear_forward: packed", packed,
                  in_panels ? packed_size(x.dtype(), n, k, sum) : n * k);
  if (bias != nullptr) expect_elements("linear_forward: bias", *bias, n);
  run_product("linear_forward", x, y, [&](const auto& exec, auto input, auto output) {
    using X = decltype(input);
    using Y = decltype(output);
    kernels::linear_forward(exec, y.data<Y>(), y.row_stride(), x.data<X>(), x.row_stride(),
                            packed.data<X>(), bias == nullptr ? nullptr : bias->data<float>(), rows,
                            n, k, order_of(sum), update_of(write));
  });
}

void linear_add_norm(Tensor& y, Tensor& normed, Tensor& rstd, const Tensor& x, const Tensor& packed,
                     Sum sum, const Tensor& norm_weight, float eps) {
  const auto most = y.dtype() == DType::bf16 ? kernels::most_add_norm_rows<Bf16>
                                             : kernels::most_add_norm_rows<float>;
  if (y.dim(0) > most || sum == Sum::chain || y.dtype() != x.dtype()) {
    linear_forward(y, x, packed, nullptr, sum, Write::add);
    return rms_norm_forward(normed, rstd, y, norm_weight, eps);
  }
  const char* const what = "linear_add_norm";
  expect_matrix(what, y);
  expect_matrix(what, x);
  const std::int64_t rows = y.dim(0), n = y.dim(1), k = x.dim(1);
  expect_row_count(what, x, rows);
  expect_matrix(what, normed, rows, n);
  expect_contiguous(what, y);
  expect_contiguous(what, normed);
  expect_elements(what, rstd, rows);
  expect_elements(what, norm_weight, n);
  const bool in_panels = packs(x.device(), x.dtype());
  expect_elements(what, packed, in_panels ? packed_size(x.dtype(), n, k, sum) : n * k);
  run_typed(what, y, [&](const auto& exec, auto type) {
    using T = decltype(type);
    kernels::linear_add_norm(exec, y.data<T>(), normed.data<T>(), rstd.data<float>(), x.data<T>(),
                             x.row_stride(), packed.data<T>(), norm_weight.data<float>(), rows, n,
                             k, order_of(sum), eps);
  });
}

void linear_swiglu(Tensor& h, Tensor& gate_up, const Tensor& x, const Tensor& packed) {
  if (h.dim(0) > kernels::most_swiglu_rows) {
    linear_forward(gate_up, x, packed, nullptr, Sum::chain, Write::overwrite);
    return swiglu_forward(h, gate_up);
  }
  const char* const what = "linear_swiglu";
  expect_matrix(what, h);
  expect_matrix(what, x);
  const std::int64_t rows = h.dim(0), dim = h.dim(1), k = x.dim(1);
  expect_row_count(what, x, rows);
  expect_matrix(what, gate_up, rows, 2 * dim);
  expect_contiguous(what, h);
  expect_contiguous(what, gate_up);
  const bool in_panels = packs(x.device(), x.dtype());
  expect_elements(what, packed,
                  in_panels ? packed_size(x.dtype(), 2 * dim, k, Sum::chain) : 2 * dim * k);
  run_typed(what, h, [&](const auto& exec, auto type) {
    using T = decltype(type);
    kernels::linear_swiglu(exec, h.data<T>(), gate_up.data<T>(), x.data<T>(), x.row_stride(),
                           packed.data<T>(), rows, dim, k);
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
  run_product("linear_backward_input", dy, dx, [&](const auto& exec, auto input, auto output) {
    using X = decltype(input);
    using Y = decltype(output);
    kernels::linear_backward_input(exec, dx.data<Y>(), dx.row_stride(), dy.data<X>(),
                                   dy.row_stride(), weight.data<X>(), weight.row_stride(), rows, n,
                                   k, order_of(sum), update_of(write));
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
  run_product("linear_backward_inputs", dy, dx, [&](const auto& exec, auto input, auto output) {
    using X = decltype(input);
    using Y = decltype(output);
    kernels::linear_backward_input(exec, dx.data<Y>(), dx.row_stride(), dy.data<X>(),
                                   dy.row_stride(), weight.data<X>(), weight.row_stride(), rows,
                                   sizes.data(), static_cast<std::int64_t>(sizes.size()), k,
                                   order_of(sum), kernels::Update::overwrite);
  });
}

void linear_backward_weight(Tensor& dweight, const Tensor& dy, const Tensor& x, Chain chain,
                            std::span<const std::int32_t> first_rows) {
  expect_matrix("linear_backward_weight: dweight", dweight);
  const std::int64_t n = dweight.dim(0), k = dweight.dim(1);
  expect_matrix("linear_backward_weight: dy", dy);
  const std::int64_t rows = dy.dim(0);
  expect_matrix("linear_backward_weight: dy", dy, rows, n);
  expect_matrix("linear_backward_weight: x", x, rows, k);
  if (dy.dtype() == DType::f32) {
    return dweight.device().run([&](const auto& exec) {
      kernels::linear_backward_weight(exec, dweight.data<float>(), dweight.row_stride(),
                                      dy.data<float>(), dy.row_stride(), x.data<float>(),
                                      x.row_stride(), rows, n, k, chain_of(chain));
    });
  }
  const std::array<std::int32_t, 2> one{0, static_cast<std::int32_t>(rows)};
  if (first_rows.empty()) first_rows = one;
  expect_sequences(first_rows, rows);
  dweight.device().run([&](const auto& exec) {
    kernels::linear_backward_weight(
        exec, dweight.data<float>(), dweight.row_stride(), dy.data<Bf16>(), dy.row_stride(),
        x.data<Bf16>(), x.row_stride(), first_rows.data(),
        static_cast<std::int64_t>(first_rows.size()) - 1, n, k, chain_of(chain));
  });
}

void bias_backward(Tensor& dbias, const Tensor& dy) {
  expect_matrix("bias_backward: dy", dy);
  expect_elements("bias_backward: dbias", dbias, dy.dim(1));
  run_typed("bias_backward: dy", dy, [&](const auto& exec, auto type) {
    kernels::bias_backward(exec, dbias.data<float>(), dy.data<decltype(type)>(), dy.row_stride(),
                           dy.dim(0), dy.dim(1));
  });
}

}  // namespace fst::ops
