#pragma once

#include <cstdint>

#include "kernels/cuda/cuda.h"
#include "kernels/cuda/lies.h"
#include "kernels/matmul_bf16.h"

namespace fst::kernels {

/// Inner indices of one multiplication of the tensor cores.
inline constexpr int tensor_block = 16;
/// Matrices that linear_backward_input() takes at most.
inline constexpr int most_matrices = 8;

/// Some inner indices in a row.
struct Range {
  int begin, end;
};

/// c[i, j] = sum_k a(i, k) b(k, j): forward and input gradient of kernels/matmul_bf16.h in one
/// form. The inner indices are those of `matrices` matrices, one behind the other, each cut in
/// `leaves` chains.
struct Bf16Product {
  void* c;  // float, or Bf16 if `narrow`
  std::int64_t ldc;
  bool narrow;
  bool add;       // to the old c, after everything else
  const Bf16* a;  // a(i, k) = a[i * lda + k]
  std::int64_t lda;
  const Bf16* b;  // b(k, j) = b[j * ldb + k], or b[k * ldb + j] where it lies by outputs
  std::int64_t ldb;
  Lies b_lies;
  const float* bias;  // [columns] or nullptr
  int rows, columns;
  int starts[most_matrices + 1];  // first inner index of each matrix, and the end
  int matrices, leaves;
  bool wide;  // each eight elements that the kernels take are there together, 16-byte aligned
};

/// The sequences of a weight gradient: sequence s is the rows starts[s] <= t < starts[s + 1], and
/// its blocks are number blocks[s] to blocks[s + 1] of all.
struct Sequences {
  static constexpr int most = 256;
  int count;
  std::int32_t starts[most + 1], blocks[most + 1];
};

/// c[i, j] = the chain over all blocks of a[t, i] b[t, j], from +0 or from the old c.
struct Bf16Gradient {
  float* c;
  std::int64_t ldc;
  const Bf16* a;
  std::int64_t lda;
  const Bf16* b;
  std::int64_t ldb;
  int rows, columns;
  bool resume, wide;
};

/// The sums of a product of matmul_bf16.h; where they go and what becomes of them is the caller's
/// to say, and `wide`.
Bf16Product forward_sums(const Bf16* x, std::int64_t ldx, const Bf16* weight, std::int64_t rows,
                         std::int64_t n, std::int64_t k, SumOrder order);
Bf16Product input_gradient_sums(const Bf16* dy, std::int64_t lddy, const Bf16* weight,
                                std::int64_t ldw, std::int64_t rows, const std::int64_t* sizes,
                                std::int64_t matrices, std::int64_t k, SumOrder order);
bool is_wide(const Bf16Product& p);
bool is_wide(const Bf16Gradient& p);

/// Multiprocessors of an H100. Only speed depends on it.
inline constexpr int full_device = 132;

/// Which kernel does a product; no bit depends on it. The last two are for sm_90: tiles of 128 x
/// 128 and of 128 x 256 outputs by warp groups.
enum class Kernel : std::uint8_t {
  few_rows,
  small_tiles,
  large_tiles,
  group_tiles,
  wide_group_tiles
};
struct Plan {
  Kernel kernel;
  bool spread;               // the chains over blocks; their sums are joined by another kernel
  int blocks = full_device;  // that take the group tiles in turn, at most
};
Plan plan_of(const Cuda& cuda, const Bf16Product& p);
Plan plan_of(const Cuda& cuda, const Bf16Gradient& p, const Sequences& sequences);
/// What a plan needs: `few_rows` at most so many rows and b lying by inner indices; several chains
/// there are spread. Large tiles need `wide`, group tiles fits_groups() and architecture() 90, the
/// wide ones of a product a single chain.
inline constexpr int most_few_rows = 64;
bool fits_groups(const Bf16Product& p);
void run(const Cuda& cuda, const Bf16Product& p, Plan plan);
void run(const Cuda& cuda, const Bf16Gradient& p, const Sequences& sequences, Plan plan);

/// Sums of all chains of all elements, where blocks compute one chain each: [chains][rows][step].
struct Bf16Partials {
  float* data;  // nullptr: there is one chain, which is finished at once
  std::int64_t step;
};
/// c from the sums of all chains: the tree of leaves, the matrices in turn, bias, old contents.
void join_partials(const Cuda& cuda, const Bf16Product& p, const Bf16Partials& partials);
/// Of the products of gate and up, whose columns lie one half behind the other: h = silu(gate) up
/// as in kernels/swiglu.h, to p.c, with p.columns / 2 columns. One chain, no bias, `wide`.
void gated_product_of_few_rows(const Cuda& cuda, const Bf16Product& p);
void product_of_few_rows(const Cuda& cuda, const Bf16Product& p, const Bf16Partials& partials);
void product_of_small_tiles(const Cuda& cuda, const Bf16Product& p, const Bf16Partials& partials);
void product_of_large_tiles(const Cuda& cuda, const Bf16Product& p, const Bf16Partials& partials);
void product_of_group_tiles(const Cuda& cuda, const Bf16Product& p, const Bf16Partials& partials,
                            Plan plan);
void gradient_of_tiles(const Cuda& cuda, const Bf16Gradient& p, const Sequences& sequences,
                       bool large);
void gradient_of_group_tiles(const Cuda& cuda, const Bf16Gradient& p, const Sequences& sequences,
                             Plan plan);

}  // namespace fst::kernels
