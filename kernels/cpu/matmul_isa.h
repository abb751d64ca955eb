#pragma once

#include <cstdint>

#include "kernels/cpu/dispatch.h"
#include "kernels/matmul.h"

namespace fst::kernels {

/// Columns of a panel of packed weights.
inline constexpr std::int64_t panel_columns = 32;

/// c[i, j] = sum_k a(i, k) b(k, j), one call per thread on its part of the output.
struct Product {
  float* c;
  std::int64_t ldc;
  const float* a;               // a(i, k) = a[i * a_row + k * a_inner]
  std::int64_t a_row, a_inner;  // one of them is 1
  const float* b;               // packed panels, or b(k, j) = b[k * ldb + j]
  std::int64_t ldb;             // 0: packed
  const float* bias;            // [n] or nullptr
  std::int64_t rows, columns, inner;
  SumOrder order;
  Update update;
  bool resume;  // the chain starts at the old c instead of +0
  // Several matrices side by side in the inner dimension, of these sizes, each summed in `order`;
  // their results are added in turn. nullptr: it is one.
  const std::int64_t* sizes = nullptr;
  std::int64_t matrices = 1;
};

template <Isa isa>
struct Matmul {
  /// Floats of working memory that product() wants, 64-byte aligned.
  static std::int64_t scratch_size(const Product& p);
  static void product(const Product& p, float* scratch);
  static void pack_panel(float* packed, const void* weight, Storage storage, std::int64_t columns,
                         std::int64_t k);
  static void add_rows(float* sum, const float* x, std::int64_t ldx, std::int64_t rows,
                       std::int64_t columns);
};

}  // namespace fst::kernels
