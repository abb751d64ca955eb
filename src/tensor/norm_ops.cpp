#include "fst/tensor/host_view.h"
#include "fst/tensor/ops.h"

#include "check.h"
#include "head_rows.h"
#include "kernels/embedding.h"
#include "kernels/rms_norm.h"
#include "kernels/rope.h"
#include "kernels/swiglu.h"

namespace fst::ops {

void embedding_part_forward(Tensor& y, const Tensor& tokens, const Tensor& table,
                            std::int64_t first) {
  expect_matrix("embedding_forward: table", table);
  expect_contiguous("embedding_forward: table", table);
  const std::int64_t rows = tokens.size(), dim = table.dim(1);
  expect_matrix("embedding_forward: y", y, rows, dim);
  expect_contiguous("embedding_forward: y", y);
  expect_elements("embedding_forward: tokens", tokens, rows);
  run_typed("embedding_forward: y", y, [&](const auto& exec, auto type) {
    using T = decltype(type);
    return kernels::embedding_forward(exec, y.data<T>(), tokens.data<std::int32_t>(),
                                      table.data<T>(), rows, dim, {first, table.dim(0)});
  });
}

void embedding_forward(Tensor& y, const Tensor& tokens, const Tensor& table) {
  expect_matrix("embedding_forward: table", table);
  expect_indices("embedding_forward: tokens", tokens, tokens.size(), table.dim(0));
  embedding_part_forward(y, tokens, table, 0);
}

void embedding_part_backward(Tensor& dtable, const Tensor& dy, const Tensor& tokens,
                             std::int64_t first) {
  expect_matrix("embedding_backward: dtable", dtable);
  expect_contiguous("embedding_backward: dtable", dtable);
  const std::int64_t rows = tokens.size(), dim = dtable.dim(1);
  expect_matrix("embedding_backward: dy", dy, rows, dim);
  expect_contiguous("embedding_backward: dy", dy);
  expect_elements("embedding_backward: tokens", tokens, rows);
  run_typed("embedding_backward: dy", dy, [&](const auto& exec, auto type) {
    using T = decltype(type);
    return kernels::embedding_backward(exec, dtable.data<float>(), dy.data<T>(),
                                       tokens.data<std::int32_t>(), rows, dim,
                                       {first, dtable.dim(0)});
  });
}

void embedding_backward(Tensor& dtable, const Tensor& dy, const Tensor& tokens) {
  expect_matrix("embedding_backward: dtable", dtable);
  expect_indices("embedding_backward: tokens", tokens, tokens.size(), dtable.dim(0));
  embedding_part_backward(dtable, dy, tokens, 0);
}

void rms_norm_forward(Tensor& y, Tensor& rstd, const Tensor& x, const Tensor& weight, float eps) {
  expect_matrix("rms_norm_forward: x", x);
  expect_contiguous("rms_norm_forward: x", x);
  const std::int64_t rows = x.dim(0), dim = x.dim(1);
  expect_matrix("rms_norm_forward: y", y, rows, dim);
  expect_contiguous("rms_norm_forward: y", y);
  expect_elements("rms_norm_forward: rstd", rstd, rows);
  expect_elements("rms_norm_forward: weight", weight, dim);
  if (x.empty()) return;
  run_typed("rms_norm_forward: y", y, [&](const auto& exec, auto type) {
    using T = decltype(type);
    return kernels::rms_norm_forward(exec, y.data<T>(), rstd.data<float>(), x.data<T>(),
                                     weight.data<float>(), rows, dim, eps);
  });
}

void rms_norm_backward(Tensor& dx, Tensor& dweight, const Tensor& dy, const Tensor& x,
                       const Tensor& rstd, const Tensor& weight, Write write) {
  expect_matrix("rms_norm_backward: x", x);
  expect_contiguous("rms_norm_backward: x", x);
  const std::int64_t rows = x.dim(0), dim = x.dim(1);
  expect_matrix("rms_norm_backward: dx", dx, rows, dim);
  expect_contiguous("rms_norm_backward: dx", dx);
  expect_matrix("rms_norm_backward: dy", dy, rows, dim);
  expect_contiguous("rms_norm_backward: dy", dy);
  expect_elements("rms_norm_backward: rstd", rstd, rows);
  expect_elements("rms_norm_backward: weight", weight, dim);
  expect_elements("rms_norm_backward: dweight", dweight, dim);
  if (x.empty()) return;
  run_typed("rms_norm_backward: dx", dx, [&](const auto& exec, auto type) {
    using T = decltype(type);
    return kernels::rms_norm_backward(exec, dx.data<T>(), dweight.data<float>(), dy.data<T>(),
                                      x.data<T>(), rstd.data<float>(), weight.data<float>(), rows,
                                      dim, write == Write::add);
  });
}

void rope_table(Tensor& cosine, Tensor& sine, double theta) {
  expect_matrix("rope_table: cosine", cosine);
  expect_contiguous("rope_table: cosine", cosine);
  expect_matrix("rope_table: sine", sine, cosine.dim(0), cosine.dim(1));
  expect_contiguous("rope_table: sine", sine);
  if (!(theta > 0.0)) throw Error("rope_table: theta is " + std::to_string(theta));
  HostView<float> cosines(cosine, Contents::undefined), sines(sine, Contents::undefined);
  kernels::rope_table(cosine.device().exec(), cosines.data(), sines.data(), theta, cosine.dim(0),
                      cosine.dim(1));
  cosines.store();
  sines.store();
}

void head_norm_rope_forward(Tensor& y, Tensor& rstd, const Tensor& x, const Tensor* weight,
                            const Tensor& positions, const Tensor& cosine, const Tensor& sine,
                            float eps) {
  const char* const what = "head_norm_rope_forward";
  const kernels::HeadRows shape = head_rows(what, x, weight, positions, cosine, sine);
  expect_matrix("head_norm_rope_forward: y", y, x.dim(0), x.dim(1));
  if (weight != nullptr) {
    expect_elements("head_norm_rope_forward: rstd", rstd, shape.rows * shape.heads);
  }
  if (x.empty()) return;
  run_typed("head_norm_rope_forward: y", y, [&](const auto& exec, auto type) {
    using T = decltype(type);
    return kernels::head_norm_rope_forward(exec, y.data<T>(), y.row_stride(),
                                           weight == nullptr ? nullptr : rstd.data<float>(),
                                           x.data<T>(), x.row_stride(), eps, shape);
  });
}

void head_norm_rope_backward(Tensor& dx, Tensor* dweight, const Tensor& dy, const Tensor& x,
                             const Tensor& rstd, const Tensor* weight, const Tensor& positions,
                             const Tensor& cosine, const Tensor& sine) {
  const char* const what = "head_norm_rope_backward";
  const kernels::HeadRows shape = head_rows(what, x, weight, positions, cosine, sine);
  expect_matrix("head_norm_rope_backward: dx", dx, x.dim(0), x.dim(1));
  expect_matrix("head_norm_rope_backward: dy", dy, x.dim(0), x.dim(1));
  if ((weight == nullptr) != (dweight == nullptr)) {
    throw Error("head_norm_rope_backward: weight and dweight go together");
  }
  if (weight != nullptr) {
    expect_elements("head_norm_rope_backward: dweight", *dweight, shape.heads * shape.dim);
    expect_elements("head_norm_rope_backward: rstd", rstd, shape.rows * shape.heads);
  }
  if (x.empty()) return;
  run_typed("head_norm_rope_backward: dx", dx, [&](const auto& exec, auto type) {
    using T = decltype(type);
    return kernels::head_norm_rope_backward(
        exec, dx.data<T>(), dx.row_stride(), weight == nullptr ? nullptr : dweight->data<float>(),
        dy.data<T>(), dy.row_stride(), x.data<T>(), x.row_stride(),
        weight == nullptr ? nullptr : rstd.data<float>(), shape);
  });
}

void swiglu_forward(Tensor& h, const Tensor& gate_up) {
  expect_matrix("swiglu_forward: h", h);
  expect_contiguous("swiglu_forward: h", h);
  expect_matrix("swiglu_forward: gate_up", gate_up, h.dim(0), 2 * h.dim(1));
  expect_contiguous("swiglu_forward: gate_up", gate_up);
  if (h.empty()) return;
  run_typed("swiglu_forward: h", h, [&](const auto& exec, auto type) {
    using T = decltype(type);
    return kernels::swiglu_forward(exec, h.data<T>(), gate_up.data<T>(), h.dim(0), h.dim(1));
  });
}

void swiglu_backward(Tensor& dgate_up, const Tensor& dh, const Tensor& gate_up) {
  expect_matrix("swiglu_backward: dh", dh);
  expect_contiguous("swiglu_backward: dh", dh);
  expect_matrix("swiglu_backward: gate_up", gate_up, dh.dim(0), 2 * dh.dim(1));
  expect_contiguous("swiglu_backward: gate_up", gate_up);
  expect_matrix("swiglu_backward: dgate_up", dgate_up, dh.dim(0), 2 * dh.dim(1));
  expect_contiguous("swiglu_backward: dgate_up", dgate_up);
  if (dh.empty()) return;
  run_typed("swiglu_backward: dh", dgate_up, [&](const auto& exec, auto type) {
    using T = decltype(type);
    return kernels::swiglu_backward(exec, dgate_up.data<T>(), dh.data<T>(), gate_up.data<T>(),
                                    dh.dim(0), dh.dim(1));
  });
}

}  // namespace fst::ops
