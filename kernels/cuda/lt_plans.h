#pragma once

#include <compare>
#include <map>
#include <string>

#include "kernels/cuda/lt_product.h"
#include "kernels/cuda/matmul_bf16_product.h"

namespace fst::kernels {

/// Products of cuBLASLt that have one plan: alike but for the number of tokens, which are the rows,
/// or the inner indices where a lies by outputs (a weight gradient). `tokens` is the most of them,
/// see tokens_of_plan(). `chains` products of `inner` indices each are joined to one; one chain is
/// written where it belongs.
struct LtShape {
  int tokens, rows, columns, inner, chains;  // 0 for the dimension that tokens are
  Lies a_lies, b_lies;
  bool narrow, add;

  auto operator<=>(const LtShape&) const = default;
};
LtShape shape_of(const LtProduct& p);
/// The next power of two from 16 to 8192, and 8192 for more: an algorithm's order is the same for
/// any number of tokens.
int tokens_of_plan(int tokens);

/// What is known about the algorithms for a shape.
struct LtPlan {
  bool use = false;  // instead of our kernel
  LtAlgorithm algorithm{};
  int offered = 0, equal = 0;                    // algorithms; with all bits of our kernel
  float own_milliseconds = 0, milliseconds = 0;  // of the fastest equal one, with the join
  std::string problem;                           // why nothing is used; "": none, or it is slower
};

/// Asks for algorithms without split sums, compares all bits of what they compute with our
/// kernel's, on random numbers of several ranges of exponents, for the most tokens and for fewer,
/// in rows with gaps, and times those that are equal. Anything that fails leaves our kernel.
LtPlan certified_plan(const Cuda& cuda, lt::Handle handle, const LtShape& shape);
/// What cuBLASLt thinks best, in any order of sums.
LtPlan first_plan(lt::Handle handle, const LtShape& shape);

/// The plans of a stream; made where a shape is first met, but for recordings (cuda_device.h): what
/// is new to those is done by our kernels.
class LtPlans {
 public:
  /// Throws LtError where cuBLASLt cannot begin.
  explicit LtPlans(Products products);
  LtPlans(const LtPlans&) = delete;
  LtPlans& operator=(const LtPlans&) = delete;
  ~LtPlans();

  Products products() const { return products_; }
  lt::Handle handle() const { return handle_; }
  /// nullptr: our kernel.
  LtPlan* find(const Cuda& cuda, const LtShape& shape);
  std::map<LtShape, LtPlan>& all() { return plans_; }

 private:
  Products products_;
  lt::Handle handle_ = nullptr;
  std::map<LtShape, LtPlan> plans_;
};
/// nullptr: all products are our own.
LtPlans* lt_plans(const Cuda& cuda);

/// The product, or gradient, by cuBLASLt. False: it was not done, so it is for our kernels.
bool product_by_library(const Cuda& cuda, const Bf16Product& p);
bool gradient_by_library(const Cuda& cuda, const Bf16Gradient& p, const Sequences& sequences);

}  // namespace fst::kernels
