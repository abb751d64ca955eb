#pragma once

#include <cstdint>

#include "kernels/cuda/cuda.h"
#include "kernels/cuda/quad.h"
#include "kernels/matmul.h"

namespace fst::kernels {

/// Columns of a panel of packed weights.
inline constexpr std::int64_t panel_columns = 32;

/// c[i, j] = sum_k a(i, k) b(k, j): the three products of kernels/matmul.h in one form.
struct Product {
  float* c;
  std::int64_t ldc;
  const float* a;               // a(i, k) = a[i * a_row + k * a_inner]
  std::int64_t a_row, a_inner;  // one of them is 1: a_row if transposed, else a_inner
  const float* b;               // b(k, j) = b[j / 32 * b_panel + j % 32 + k * b_inner]
  std::int64_t b_panel, b_inner;
  std::int64_t b_columns;  // columns that can be read: padding counts
  const float* bias;       // [columns] or nullptr
  std::int64_t rows, columns, inner;
  std::int64_t leaves;  // chains that the inner range is cut in: 1, 2, 4 or 8
  bool add;             // to the old c, after everything else
  bool transposed;      // a lies with its rows together: one leaf, no bias, no add
  bool resume;          // and the chains go on from the old c instead of +0
  bool wide;            // quads of a and b that start at multiples of 4 are 16-byte aligned
};

/// Multiprocessors of an H100. Only speed depends on it.
inline constexpr unsigned full_device = 132;

/// At most 32 rows, not transposed: b streams through the device once.
inline constexpr std::int64_t most_row_block = 32;
void product_of_rows(const Cuda& cuda, const Product& p);
/// Any size.
void product_of_tiles(const Cuda& cuda, const Product& p);

/// Chains of all leaves of all elements, where blocks compute one leaf each: [leaves][rows][step].
struct Partials {
  float* data;
  std::int64_t step;
};
Partials partials_for(const Cuda& cuda, const Product& p);
/// The sums of all chains to where `partials` says, or, where that is nowhere, of one chain to c.
void chains_of_rows(const Cuda& cuda, const Product& p, const Partials& partials);
/// c from its leaves: tree, bias, old contents.
void join_partials(const Cuda& cuda, const Product& p, const Partials& partials);

namespace gpu {

/// Address of b(k, j).
DEVICE const float* right_at(const Product& p, std::int64_t k, std::int64_t j) {
  return p.b + j / panel_columns * p.b_panel + j % panel_columns + k * p.b_inner;
}

/// Writes the sums of four columns of a row: bias, then old contents.
DEVICE void finish(const Product& p, std::int64_t row, std::int64_t column, float4 total) {
  const int count = static_cast<int>(p.columns - column);
  float* const to = p.c + row * p.ldc + column;
  if (p.bias != nullptr) total = gpu::add(total, read4_upto(p.bias + column, count));
  if (p.add) total = gpu::add(read4_upto(to, count), total);
  write4_upto(to, total, count);
}

}  // namespace gpu
}  // namespace fst::kernels
