#pragma once

#include <cstdint>

#include "kernels/cuda/cuda.h"

/// Kernels that use the words for asynchronous copies and tensor cores. All memory is the device's.
namespace fst::kernels::test {

/// What each of 32 lanes brings to a multiplication and gets from it.
struct Fragments {
  std::uint32_t a[4], b[2];
  float sum[4];
};

/// lanes[32 i + lane].sum += the product of the 32 lanes' a and b.
void multiply_fragments(const Cuda& cuda, Fragments* lanes, std::int64_t warps);

/// matrices: four of 8 rows of 8 elements, one behind the other; loaded[4 lane + m] and,
/// transposed, loaded[128 + 4 lane + m]: what the lane gets of matrix m.
void load_matrices(const Cuda& cuda, const std::uint16_t* matrices, std::uint32_t* loaded);

/// c = a b through a ring of three stages: a[rows, depth] and b[depth, columns] in bf16. Rows must
/// be a multiple of 32, columns of 16, depth of 8 (the last step is filled up with zeros).
void multiply_staged(const Cuda& cuda, const std::uint16_t* a, const std::uint16_t* b, float* c,
                     std::int64_t rows, std::int64_t columns, std::int64_t depth);

}  // namespace fst::kernels::test
