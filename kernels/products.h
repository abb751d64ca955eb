#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "kernels/exec.h"

/// Who multiplies matrices of bfloat16 on a GPU. cuda/lt_plans.h defines it; a program without CUDA
/// has no devices (src/tensor/no_cuda.cpp).
namespace fst::kernels {

/// `own`, our kernels alone; `certified`, cuBLASLt too, for products of plan_products() for which
/// it has an algorithm that was found to have our kernels' bits and to be faster; `any`, cuBLASLt
/// as it thinks best, whose sums are in no known order.
enum class Products : std::uint8_t { own, certified, any };
/// Who does it on this stream from now on; at first our kernels. Why cuBLASLt, where it is asked
/// for, cannot begin on this device, and our kernels stay; "": it is as was asked.
std::string use_products(const Cuda& cuda, Products products);
/// cuBLASLt on this machine: "13.1.0", or "none (" and why not. Opens it.
std::string cublaslt_support();
bool cublaslt_usable();

/// A product of matmul_bf16.h that is to come: of a weight [n, k] and `fewest` to `most` rows,
/// called tokens, of bfloat16.
struct PlannedProduct {
  enum class Kind : std::uint8_t { forward, input_gradient, weight_gradient };
  Kind kind = Kind::forward;
  std::vector<std::int64_t> n;  // several: of the matrices that share an input gradient
  std::int64_t k = 0;
  int leaves = 1;                                    // of a sum, SumOrder; not of a weight gradient
  bool narrow = false, add = false, biased = false;  // rounded to bfloat16; to the old contents
  std::int64_t fewest = 1, most = 0;
};

/// What came of planning. A shape stands for all products of one kind and size with up to twice as
/// many tokens.
struct ProductPlans {
  std::int64_t shapes = 0;
  std::int64_t certified = 0;  // with an algorithm that has our bits
  std::int64_t faster = 0;     // of these, with one that is faster: cuBLASLt does them
  std::int64_t no_room = 0;    // without memory to compare: our kernels do them
};
/// Where products are certified: finds algorithms for all of these, before the job begins; what is
/// not among them is done by our kernels. `working_bytes`: what the kernels will be lent
/// (lend_scratch()), 0: no bound; products that would need more have no plan. Takes memory while it
/// lasts, in turn for each shape, and gives all of it back; products of more than 32768 tokens have
/// no plan. Throws std::runtime_error naming the shape where the device fails. Nothing where
/// products are not certified.
ProductPlans plan_products(const Cuda& cuda, std::span<const PlannedProduct> products,
                           std::int64_t working_bytes);

/// Shapes that were multiplied since: of those with a plan, whoever did them, and others.
struct ProductsMet {
  std::int64_t planned = 0, others = 0;
};
ProductsMet products_met(const Cuda& cuda);

}  // namespace fst::kernels
