#pragma once

#include <cstdint>
#include <string>

#include "fst/tensor/tensor.h"

#include "kernels/bf16.h"
#include "kernels/elementwise.h"

/// Shape checks of tensor/ops. `what` names the operation and the argument, for example
/// "linear_forward: x". They throw Error.
namespace fst::ops {

[[noreturn]] inline void wrong_shape(const char* what, const std::string& expected,
                                     const Tensor& found) {
  throw Error(std::string(what) + ": expected " + expected + ", found " + found.shape());
}

/// A matrix; rows may be strided.
inline void expect_matrix(const char* what, const Tensor& x) {
  if (x.rank() != 2) wrong_shape(what, "a matrix", x);
}
inline void expect_matrix(const char* what, const Tensor& x, std::int64_t rows,
                          std::int64_t columns) {
  if (x.rank() != 2 || x.dim(0) != rows || x.dim(1) != columns) {
    wrong_shape(what, std::to_string(rows) + " rows, " + std::to_string(columns) + " columns", x);
  }
}
/// A matrix of so many rows and any number of columns.
inline void expect_row_count(const char* what, const Tensor& x, std::int64_t rows) {
  if (x.rank() != 2 || x.dim(0) != rows) {
    wrong_shape(what, std::to_string(rows) + " rows", x);
  }
}
inline void expect_contiguous(const char* what, const Tensor& x) {
  if (!x.contiguous()) wrong_shape(what, "contiguous rows", x);
}
/// `count` contiguous elements in any shape.
inline void expect_elements(const char* what, const Tensor& x, std::int64_t count) {
  if (x.size() != count) wrong_shape(what, std::to_string(count) + " elements", x);
  expect_contiguous(what, x);
}

/// `count` row numbers, each in [0, rows). Values in a GPU's memory are not looked at: the same
/// code above has shown on the CPU that they are right.
inline void expect_indices(const char* what, const Tensor& index, std::int64_t count,
                           std::int64_t rows) {
  expect_elements(what, index, count);
  if (!index.device().on_host()) return;
  const auto* values = index.data<std::int32_t>();
  for (std::int64_t i = 0; i < count; ++i) {
    if (values[i] < 0 || values[i] >= rows) {
      throw Error(std::string(what) + ": element " + std::to_string(i) + " is " +
                  std::to_string(values[i]) + ", expected 0 to " + std::to_string(rows - 1));
    }
  }
}

/// How a tensor of weights is stored; f32, bf16 or f16.
inline kernels::Storage storage_of(const char* what, const Tensor& x) {
  switch (x.dtype()) {
    case DType::f32:
      return kernels::Storage::f32;
    case DType::bf16:
      return kernels::Storage::bf16;
    case DType::f16:
      return kernels::Storage::f16;
    default:
      wrong_shape(what, "f32, bf16 or f16", x);
  }
}

/// Calls f(execution tag, T{}) on the device of x with T the type of its elements, float or Bf16.
template <class F>
void run_typed(const char* what, const Tensor& x, F&& f) {
  const auto with = [&](auto type) { x.device().run([&](const auto& exec) { f(exec, type); }); };
  if (x.dtype() == DType::f32) return with(float{});
  if (x.dtype() == DType::bf16) return with(kernels::Bf16{});
  wrong_shape(what, "f32 or bf16", x);
}

}  // namespace fst::ops
