#pragma once

#include <compare>
#include <map>
#include <memory>
#include <set>
#include <string>

#include "kernels/cuda/lt_product.h"
#include "kernels/cuda/matmul_bf16_product.h"
#include "kernels/products.h"

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
/// The next power of two from 16 to 8192, and 8192 for more. Algorithms do not choose anew for
/// other numbers of tokens; certified_plan() tries several of those that share a plan.
int tokens_of_plan(int tokens);
/// For messages: "dX [1024, 128] in 8 leaves to f32, up to 16 tokens", of a weight [1024, 128].
std::string text_of(const LtShape& shape);

/// What is known about the algorithms for a shape.
struct LtPlan {
  bool use = false;  // instead of our kernel
  bool met = false;  // since it was made
  LtAlgorithm algorithm{};
  int most_tokens = 0;                           // that it was made for, and is used for
  int offered = 0, equal = 0;                    // algorithms; with all bits of our kernel
  float own_milliseconds = 0, milliseconds = 0;  // of the fastest equal one, with the join
  std::string problem;                           // why nothing is used; "": none, or it is slower
};
inline constexpr const char* no_room_to_compare = "not enough memory to compare";

/// Asks for algorithms without split sums, at most 8, compares all bits of what they compute with
/// our kernel's, and times those that are equal. What is tried is described in lt_certify.cu. Any
/// refusal of cuBLASLt drops an algorithm, too little memory leaves our kernel; throws
/// std::runtime_error naming the shape where the device fails. `most_tokens`: that products of the
/// shape will have, more than half of its tokens, and more than these where they are 8192.
///
/// Launches, for c chains (1 or 8) and a algorithms that stay equal to the end: each of 14
/// comparisons fills 3 arrays and multiplies c times, and for each algorithm fills, multiplies and
/// compares; then each way is timed 14 times, for 8 chains with its join. These are
/// 14 (4 + c + 4 a), and 14 (1 + a) joins: with 8 algorithms 518 for one chain, 742 for eight.
LtPlan certified_plan(const Cuda& cuda, lt::Handle handle, const LtShape& shape, int most_tokens);
/// What cuBLASLt thinks best, in any order of sums.
LtPlan first_plan(lt::Handle handle, const LtShape& shape);

/// The plans of a stream, by shape, of which a process has one. Certified plans are made by
/// plan_products() (kernels/products.h) alone, before the job multiplies, so recordings find them
/// too; others when a shape is first met, but for recordings: what is new to those is done by our
/// kernels.
///
/// Each rank certifies for itself, by its own clock: ranks may end with other algorithms for a
/// shape, or with ours. They need not agree, as all of these have the same bits.
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
  LtPlan* find(const Cuda& cuda, const LtProduct& product);
  /// Makes the plan of a shape that has none.
  void certify(const Cuda& cuda, const LtShape& shape, int most_tokens);
  std::map<LtShape, LtPlan>& all() { return plans_; }
  /// Shapes that find() was asked for in vain.
  const std::set<LtShape>& others() const { return others_; }

 private:
  Products products_;
  lt::Handle handle_ = nullptr;
  std::map<LtShape, LtPlan> plans_;
  std::set<LtShape> others_;
};
/// Of a stream; nullptr: all products are our own.
std::unique_ptr<LtPlans>& lt_plans(const Cuda& cuda);

/// The calls of cuBLASLt that a product is made of, one for each matrix, or where `whole` one for
/// the sum of all. None: it is not for cuBLASLt.
struct LtCalls {
  LtProduct call[most_matrices] = {};
  int count = 0;
  /// The one call writes where the product belongs; else all write floats that are joined.
  bool direct = false;

  std::size_t floats() const;
};
LtCalls calls_of(const Bf16Product& p, bool whole);
/// That of a gradient of one chain over so many rows of a and b.
LtCalls call_of(const Bf16Gradient& p, int tokens);

/// The product, or gradient, by cuBLASLt. False: it was not done, so it is for our kernels.
bool product_by_library(const Cuda& cuda, const Bf16Product& p);
bool gradient_by_library(const Cuda& cuda, const Bf16Gradient& p, const Sequences& sequences);

}  // namespace fst::kernels
