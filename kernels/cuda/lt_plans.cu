#include <algorithm>
#include <bit>

#include "kernels/cuda/lt_plans.h"

namespace fst::kernels {

namespace {

constexpr int fewest_tokens = 16, most_tokens = 8192;

bool in_sixteens(const void* p, std::int64_t step, std::int64_t element) {
  return reinterpret_cast<std::uintptr_t>(p) % 16 == 0 && step * element % 16 == 0;
}

/// Product number `matrix` of p: its leaves, or all matrices as one sum where `whole`. The result
/// goes to c, of floats, in columns side by side; or where it belongs.
LtProduct part_of(const Bf16Product& p, int matrix, bool whole) {
  const int begin = p.starts[matrix], end = p.starts[whole ? p.matrices : matrix + 1];
  LtProduct part{};
  part.rows = p.rows, part.columns = p.columns;
  part.batch = whole ? 1 : p.leaves;
  part.inner = (end - begin) / part.batch;
  part.a_lies = Lies::inner, part.b_lies = p.b_lies;
  part.lda = p.lda, part.ldb = p.ldb;
  part.a = p.a + begin, part.a_step = part.inner;
  part.b = p.b + (p.b_lies == Lies::inner ? begin : begin * p.ldb);
  part.b_step = p.b_lies == Lies::inner ? part.inner : part.inner * p.ldb;
  const bool direct = p.bias == nullptr && (whole || p.matrices * p.leaves == 1);
  if (direct) {
    part.c = p.c, part.ldc = p.ldc, part.narrow = p.narrow, part.add = p.add;
  } else {
    part.ldc = p.columns, part.c_step = std::int64_t{p.rows} * p.columns;
  }
  return part;
}

bool is_direct(const LtProduct& part) {
  return part.c != nullptr;
}

/// Does what the plan says; where cuBLASLt refuses, never again.
bool multiply(const Cuda& cuda, const LtPlans& plans, LtPlan& plan, const LtProduct& p,
              void* workspace) {
  try {
    lt_multiply(cuda, plans.handle(), p, plan.algorithm, workspace);
    return true;
  } catch (const LtError& error) {
    plan.use = false;
    plan.problem = error.what();
    return false;
  }
}

/// Behind `front` bytes of the same working memory, workspace for these plans.
struct Memory {
  float* partials;
  void* workspace;
};
Memory memory_for(const Cuda& cuda, std::size_t front, std::size_t workspace) {
  const std::size_t at = (front + 255) / 256 * 256;
  if (at + workspace == 0) return {nullptr, nullptr};
  auto* const memory = static_cast<unsigned char*>(scratch(cuda, at + workspace));
  return {reinterpret_cast<float*>(memory), memory + at};
}

}  // namespace

int tokens_of_plan(int tokens) {
  const int clamped = std::clamp(tokens, fewest_tokens, most_tokens);
  return static_cast<int>(std::bit_ceil(static_cast<unsigned>(clamped)));
}

LtShape shape_of(const LtProduct& p) {
  const bool inner = p.a_lies == Lies::outer;
  return {tokens_of_plan(inner ? p.inner : p.rows),
          inner ? p.rows : 0,
          p.columns,
          inner ? 0 : p.inner,
          p.batch,
          p.a_lies,
          p.b_lies,
          p.narrow,
          p.add};
}

LtPlans::LtPlans(Products products) : products_(products) {
  const lt::Status status = lt_library().api.create(&handle_);
  if (status != lt::success) throw LtError("cublasLtCreate", status);
}

LtPlans::~LtPlans() {
  lt_library().api.destroy(handle_);
}

LtPlan* LtPlans::find(const Cuda& cuda, const LtShape& shape) {
  auto found = plans_.find(shape);
  if (found == plans_.end()) {
    if (is_recording(cuda)) return nullptr;
    LtPlan made = products_ == Products::certified ? certified_plan(cuda, handle_, shape)
                                                   : first_plan(handle_, shape);
    found = plans_.emplace(shape, std::move(made)).first;
  }
  return found->second.use ? &found->second : nullptr;
}

bool product_by_library(const Cuda& cuda, const Bf16Product& p) {
  LtPlans* const plans = lt_plans(cuda);
  if (plans == nullptr || !p.wide || p.columns % 8 != 0 ||
      !in_sixteens(p.c, p.ldc, p.narrow ? 2 : 4)) {
    return false;
  }
  const bool whole = plans->products() == Products::any;
  const int count = whole ? 1 : p.matrices;
  LtPlan* plan[most_matrices];
  LtProduct part[most_matrices];
  std::size_t workspace = 0, floats = 0;
  for (int i = 0; i < count; ++i) {
    part[i] = part_of(p, i, whole);
    if (part[i].inner == 0) return false;
    plan[i] = plans->find(cuda, shape_of(part[i]));
    if (plan[i] == nullptr) return false;
    workspace = std::max(workspace, plan[i]->algorithm.workspace_bytes);
    if (!is_direct(part[i])) {
      floats += static_cast<std::size_t>(part[i].batch * part[i].c_step);
    }
  }
  const Memory memory = memory_for(cuda, floats * sizeof(float), workspace);
  float* to = memory.partials;
  for (int i = 0; i < count; ++i) {
    const bool direct = is_direct(part[i]);
    if (!direct) part[i].c = to;
    if (!multiply(cuda, *plans, *plan[i], part[i], memory.workspace)) return false;
    if (!direct) to += part[i].batch * part[i].c_step;
  }
  if (floats == 0) return true;
  Bf16Product joined = p;
  if (whole) joined.matrices = joined.leaves = 1;
  join_partials(cuda, joined, {memory.partials, p.columns});
  return true;
}

bool gradient_by_library(const Cuda& cuda, const Bf16Gradient& p, const Sequences& sequences) {
  LtPlans* const plans = lt_plans(cuda);
  const int first = sequences.starts[0], tokens = sequences.starts[sequences.count] - first;
  if (plans == nullptr || !p.wide || tokens == 0 || !in_sixteens(p.c, p.ldc, 4)) return false;
  if (plans->products() == Products::certified) {
    // One chain of blocks from +0, so old contents cannot begin it, and no sequence but the last
    // may end within a block.
    bool one_chain = !p.resume;
    for (int s = 0; s + 1 < sequences.count; ++s) {
      one_chain &= (sequences.starts[s + 1] - sequences.starts[s]) % tensor_block == 0;
    }
    if (!one_chain) return false;
  }
  const LtProduct product{p.c,
                          p.ldc,
                          0,
                          false,
                          p.resume,
                          p.a + first * p.lda,
                          p.lda,
                          0,
                          Lies::outer,
                          p.b + first * p.ldb,
                          p.ldb,
                          0,
                          Lies::outer,
                          p.rows,
                          p.columns,
                          tokens,
                          1};
  LtPlan* const plan = plans->find(cuda, shape_of(product));
  if (plan == nullptr) return false;
  const Memory memory = memory_for(cuda, 0, plan->algorithm.workspace_bytes);
  return multiply(cuda, *plans, *plan, product, memory.workspace);
}

}  // namespace fst::kernels
