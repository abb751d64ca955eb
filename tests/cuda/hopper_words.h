#pragma once

#include "kernels/cuda/cuda.h"

namespace fst::kernels::test {

/// c[rows, columns] = a[rows, depth] b[columns, depth]^T of bf16, on sm_90a; depth must be a
/// multiple of 8. Each element is the chain of its products of depth 16.
void multiply_on_hopper(const Cuda& cuda, const std::uint16_t* a, const std::uint16_t* b, float* c,
                        int rows, int columns, int depth);

/// box: the 8 rows of 64 elements that tensor_load leaves in shared memory, as they lie there, of
/// matrix [rows, columns] from (row, column) on.
void load_box(const Cuda& cuda, const std::uint16_t* matrix, int rows, int columns, int row,
              int column, std::uint16_t* box);

}  // namespace fst::kernels::test
