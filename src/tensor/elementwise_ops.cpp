#include <string>
#include <type_traits>
#include <vector>

#include "fst/base/error.h"
#include "fst/tensor/ops.h"

#include "check.h"
#include "kernels/elementwise.h"

namespace fst::ops {

namespace {

/// A tensor as a matrix: a matrix itself, or anything contiguous as one row.
struct Matrix {
  std::int64_t rows, columns, stride;
};
Matrix matrix_of(const char* what, const Tensor& x) {
  if (x.rank() == 2) return {x.dim(0), x.dim(1), x.row_stride()};
  expect_contiguous(what, x);
  return {1, x.size(), x.size()};
}

void expect_same_shape(const char* what, const Tensor& x, const Tensor& other) {
  bool same = x.rank() == other.rank();
  for (int d = 0; same && d < x.rank(); ++d) same = x.dim(d) == other.dim(d);
  if (!same) wrong_shape(what, other.shape(), x);
}

}  // namespace

void add(Tensor& y, const Tensor& x) {
  expect_same_shape("add: x", x, y);
  const Matrix to = matrix_of("add: y", y), from = matrix_of("add: x", x);
  run_typed("add: y", y, [&](const auto& exec, auto type) {
    using Y = decltype(type);
    const auto with = [&](const auto* data) {
      kernels::add(exec, y.data<Y>(), to.stride, data, from.stride, to.rows, to.columns);
    };
    if (x.dtype() == DType::f32) return with(x.data<float>());
    if constexpr (!std::is_same_v<Y, float>) return with(x.data<Y>());
    wrong_shape("add: x", "f32", x);
  });
}

void join(Tensor& y, std::span<const Tensor> parts, std::span<const std::int32_t> joins) {
  expect_contiguous("join: y", y);
  if (parts.empty() || joins.size() != parts.size()) throw Error("join: one count for each part");
  std::vector<const float*> data;
  std::int64_t depth = 0;
  for (std::size_t p = 0; p < parts.size(); ++p) {
    expect_elements("join: part", parts[p], y.size());
    data.push_back(parts[p].data<float>());
    if (++depth > kernels::join_depth) throw Error("join: too many parts wait for their pair");
    depth -= joins[p];
    if (joins[p] < 0 || depth < 1) throw Error("join: a join without a pair");
  }
  if (depth != 1) throw Error("join: " + std::to_string(depth) + " sums are left");
  y.device().run([&](const auto& exec) {
    return kernels::join(exec, y.data<float>(), data.data(), joins.data(),
                         static_cast<std::int64_t>(parts.size()), y.size());
  });
}

void fill(Tensor& y, float value) {
  const Matrix to = matrix_of("fill: y", y);
  run_typed("fill: y", y, [&](const auto& exec, auto type) {
    using T = decltype(type);
    return kernels::fill(exec, y.data<T>(), to.stride, value, to.rows, to.columns);
  });
}

void convert(Tensor& y, const Tensor& x) {
  expect_same_shape("convert: x", x, y);
  expect_contiguous("convert: x", x);
  expect_contiguous("convert: y", y);
  const kernels::Storage from = storage_of("convert: x", x), to = storage_of("convert: y", y);
  if (x.dtype() == y.dtype()) {
    run_typed("convert: y", y, [&](const auto& exec, auto type) {
      using T = decltype(type);
      kernels::copy_rows(exec, y.data<T>(), y.size(), x.data<T>(), x.size(), 1, y.size());
    });
  } else if (to == kernels::Storage::f32) {
    y.device().run([&](const auto& exec) {
      return kernels::widen(exec, y.data<float>(), x.raw(), from, y.size());
    });
  } else if (from == kernels::Storage::f32) {
    y.device().run([&](const auto& exec) {
      return kernels::narrow(exec, y.raw(), to, x.data<float>(), y.size());
    });
  } else {
    wrong_shape("convert: x", "f32, since y is not", x);
  }
}

void copy(Tensor& y, const Tensor& x) {
  expect_contiguous("copy: y", y);
  expect_elements("copy: x", x, y.size());
  if (x.dtype() != y.dtype()) wrong_shape("copy: x", name_of(y.dtype()), x);
  y.device().copy(y.raw(), x.raw(), y.size() * size_of(y.dtype()));
}

void copy_rows(Tensor& y, const Tensor& x) {
  expect_matrix("copy_rows: y", y);
  expect_matrix("copy_rows: x", x, y.dim(0), y.dim(1));
  run_typed("copy_rows: y", y, [&](const auto& exec, auto type) {
    using T = decltype(type);
    return kernels::copy_rows(exec, y.data<T>(), y.row_stride(), x.data<T>(), x.row_stride(),
                              y.dim(0), y.dim(1));
  });
}

void gather_rows(Tensor& y, const Tensor& x, const Tensor& index) {
  expect_matrix("gather_rows: x", x);
  expect_matrix("gather_rows: y", y);
  expect_matrix("gather_rows: y", y, y.dim(0), x.dim(1));
  expect_indices("gather_rows: index", index, y.dim(0), x.dim(0));
  run_typed("gather_rows: y", y, [&](const auto& exec, auto type) {
    using T = decltype(type);
    return kernels::gather_rows(exec, y.data<T>(), y.row_stride(), x.data<T>(), x.row_stride(),
                                index.data<std::int32_t>(), y.dim(0), y.dim(1));
  });
}

void scatter_add_rows(Tensor& dx, const Tensor& dy, const Tensor& index) {
  expect_matrix("scatter_add_rows: dx", dx);
  expect_matrix("scatter_add_rows: dy", dy);
  expect_matrix("scatter_add_rows: dy", dy, dy.dim(0), dx.dim(1));
  expect_indices("scatter_add_rows: index", index, dy.dim(0), dx.dim(0));
  run_typed("scatter_add_rows: dx", dx, [&](const auto& exec, auto type) {
    using T = decltype(type);
    return kernels::scatter_add_rows(exec, dx.data<T>(), dx.row_stride(), dy.data<T>(),
                                     dy.row_stride(), index.data<std::int32_t>(), dy.dim(0),
                                     dy.dim(1));
  });
}

}  // namespace fst::ops
