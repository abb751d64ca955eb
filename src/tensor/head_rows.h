#pragma once

#include "fst/tensor/ops.h"

#include "check.h"
#include "kernels/rope.h"

namespace fst::ops {

/// What the head kernels need beside the rows themselves; `x` says how many heads there are.
inline kernels::HeadRows head_rows(const char* what, const Tensor& x, const Tensor* weight,
                                   const Tensor& positions, const Tensor& cosine,
                                   const Tensor& sine) {
  expect_matrix(what, x);
  expect_matrix(what, cosine);
  expect_contiguous(what, cosine);
  expect_matrix(what, sine, cosine.dim(0), cosine.dim(1));
  expect_contiguous(what, sine);
  kernels::HeadRows shape;
  shape.rows = x.dim(0);
  shape.dim = 2 * cosine.dim(1);
  if (shape.dim == 0 || x.dim(1) % shape.dim != 0) {
    wrong_shape(what, "columns that are a multiple of " + std::to_string(shape.dim), x);
  }
  shape.heads = x.dim(1) / shape.dim;
  expect_indices(what, positions, shape.rows, cosine.dim(0));
  shape.positions = positions.data<std::int32_t>();
  shape.cosine = cosine.data<float>();
  shape.sine = sine.data<float>();
  if (weight != nullptr) {
    expect_elements(what, *weight, shape.dim);
    shape.weight = weight->data<float>();
  }
  return shape;
}

}  // namespace fst::ops
