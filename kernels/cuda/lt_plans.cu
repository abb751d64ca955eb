#include <algorithm>
#include <bit>

#include "kernels/cuda/lt_plans.h"

namespace fst::kernels {

namespace {

constexpr int fewest_tokens = 16, most_tokens = 8192;

bool in_sixteens(const void* p, std::int64_t step, std::int64_t element) {
  return reinterpret_cast<std::uintptr_t>(p) % 16 == 0 && step * element % 16 == 0;
}

/// Product number `matrix` of p: its leaves, or all matrices as one sum where `whole`.
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
  part.ldc = p.columns, part.c_step = std::int64_t{p.rows} * p.columns;
  return part;
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

std::string text_of(const LtShape& s) {
  const bool gradient = s.a_lies == Lies::outer, forward = !gradient && s.b_lies == Lies::inner;
  const int inner = s.inner * s.chains;
  const int n = gradient ? s.rows : forward ? s.columns : inner;
  const int k = forward ? inner : s.columns;
  std::string text = gradient ? "dW" : forward ? "y" : "dX";
  text += " [" + std::to_string(n) + ", " + std::to_string(k) + "]";
  if (s.chains > 1) text += " in " + std::to_string(s.chains) + " leaves";
  return text + (s.narrow ? " to bf16" : " to f32") + (s.add ? " and added" : "") + ", up to " +
         std::to_string(s.tokens) + " tokens";
}

LtPlans::LtPlans(Products products) : products_(products) {
  const lt::Status status = lt_library().api.create(&handle_);
  if (status != lt::success) throw LtError("cublasLtCreate", status);
}

LtPlans::~LtPlans() {
  lt_library().api.destroy(handle_);
}

LtPlan* LtPlans::find(const Cuda& cuda, const LtProduct& product) {
  const LtShape shape = shape_of(product);
  const int tokens = shape.a_lies == Lies::outer ? product.inner : product.rows;
  auto found = plans_.find(shape);
  if (found == plans_.end() && products_ == Products::any && !is_recording(cuda)) {
    found = plans_.emplace(shape, first_plan(handle_, shape)).first;
  }
  if (found == plans_.end() || tokens > found->second.most_tokens) {
    others_.insert(shape);
    return nullptr;
  }
  found->second.met = true;
  return found->second.use ? &found->second : nullptr;
}

void LtPlans::certify(const Cuda& cuda, const LtShape& shape, int most_tokens) {
  if (plans_.count(shape) > 0) return;
  plans_.emplace(shape, certified_plan(cuda, handle_, shape, most_tokens));
}

std::size_t LtCalls::floats() const {
  std::int64_t all = 0;
  for (int i = 0; i < count && !direct; ++i) all += call[i].batch * call[i].c_step;
  return static_cast<std::size_t>(all);
}

LtCalls calls_of(const Bf16Product& p, bool whole) {
  LtCalls calls;
  if (!p.wide || p.columns % 8 != 0 || !in_sixteens(p.c, p.ldc, p.narrow ? 2 : 4)) return calls;
  calls.direct = p.bias == nullptr && (whole || p.matrices * p.leaves == 1);
  for (int i = 0; i < (whole ? 1 : p.matrices); ++i) {
    LtProduct& call = calls.call[i] = part_of(p, i, whole);
    if (call.inner == 0) return {};
    if (!calls.direct) continue;
    call.c = p.c, call.ldc = p.ldc, call.c_step = 0;
    call.narrow = p.narrow, call.add = p.add;
  }
  calls.count = whole ? 1 : p.matrices;
  return calls;
}

LtCalls call_of(const Bf16Gradient& p, int tokens) {
  LtCalls calls;
  if (!p.wide || tokens == 0 || !in_sixteens(p.c, p.ldc, 4)) return calls;
  LtProduct& call = calls.call[0];
  call.c = p.c, call.ldc = p.ldc, call.add = p.resume;
  call.a = p.a, call.lda = p.lda, call.a_lies = Lies::outer;
  call.b = p.b, call.ldb = p.ldb, call.b_lies = Lies::outer;
  call.rows = p.rows, call.columns = p.columns, call.inner = tokens, call.batch = 1;
  calls.count = 1, calls.direct = true;
  return calls;
}

bool product_by_library(const Cuda& cuda, const Bf16Product& p) {
  LtPlans* const plans = lt_plans(cuda).get();
  if (plans == nullptr) return false;
  const bool whole = plans->products() == Products::any;
  LtCalls calls = calls_of(p, whole);
  const std::size_t bytes = calls.floats() * sizeof(float);
  if (calls.count == 0 || (!whole && !lent_scratch_suffices(cuda, bytes))) return false;
  LtPlan* plan[most_matrices];
  std::size_t workspace = 0;
  for (int i = 0; i < calls.count; ++i) {
    plan[i] = plans->find(cuda, calls.call[i]);
    if (plan[i] == nullptr) return false;
    workspace = std::max(workspace, plan[i]->algorithm.workspace_bytes);
  }
  const Memory memory = memory_for(cuda, bytes, workspace);
  float* to = memory.partials;
  for (int i = 0; i < calls.count; ++i) {
    LtProduct& call = calls.call[i];
    if (!calls.direct) call.c = to;
    if (!multiply(cuda, *plans, *plan[i], call, memory.workspace)) return false;
    to += calls.direct ? 0 : call.batch * call.c_step;
  }
  if (calls.direct) return true;
  Bf16Product joined = p;
  if (whole) joined.matrices = joined.leaves = 1;
  join_partials(cuda, joined, {memory.partials, p.columns});
  return true;
}

bool gradient_by_library(const Cuda& cuda, const Bf16Gradient& p, const Sequences& sequences) {
  LtPlans* const plans = lt_plans(cuda).get();
  if (plans == nullptr) return false;
  if (plans->products() == Products::certified) {
    // One chain of blocks from +0, so old contents cannot begin it, and no sequence but the last
    // may end within a block.
    bool one_chain = !p.resume;
    for (int s = 0; s + 1 < sequences.count; ++s) {
      one_chain &= (sequences.starts[s + 1] - sequences.starts[s]) % tensor_block == 0;
    }
    if (!one_chain) return false;
  }
  const int first = sequences.starts[0];
  LtCalls calls = call_of(p, sequences.starts[sequences.count] - first);
  if (calls.count == 0) return false;
  LtProduct& call = calls.call[0];
  call.a += first * p.lda, call.b += first * p.ldb;
  LtPlan* const plan = plans->find(cuda, call);
  if (plan == nullptr) return false;
  const Memory memory = memory_for(cuda, 0, plan->algorithm.workspace_bytes);
  return multiply(cuda, *plans, *plan, call, memory.workspace);
}

}  // namespace fst::kernels
