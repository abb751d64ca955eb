#pragma once

#include <vector>

#include "kernels/cuda/cuda.h"
#include "kernels/cuda/lies.h"

namespace fst::kernels::test {

/// c[rows, columns] = a[rows, depth] b[columns, depth]^T of bf16, on sm_90a; depth must be a
/// multiple of 8. Each element is the chain of its products of depth 16.
void multiply_on_hopper(const Cuda& cuda, const std::uint16_t* a, const std::uint16_t* b, float* c,
                        int rows, int columns, int depth);

/// box: the 8 rows of 64 elements that tensor_load leaves in shared memory, as they lie there, of
/// matrix [rows, columns], `stride` from row to row, from (row, column) on.
void load_box(const Cuda& cuda, const std::uint16_t* matrix, int rows, int columns, int stride,
              int row, int column, std::uint16_t* box);

/// c[64, columns] = a b^T by one warp group, 64 inner indices in four blocks; 64, 128 or 256
/// columns. Operands [outputs, 64] or, lying by outputs, [64, outputs].
struct GroupProduct {
  int columns;
  Lies a, b;
  void (*run)(const Cuda& cuda, const std::uint16_t* a, const std::uint16_t* b, float* c);
};
const std::vector<GroupProduct>& group_products();

}  // namespace fst::kernels::test
