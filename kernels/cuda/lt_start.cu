#include <algorithm>

#include "kernels/cuda/lt_plans.h"

/// Which plans a job needs, and that they are made before it begins.
namespace fst::kernels {

namespace {

Bf16Product product_of(const PlannedProduct& planned, int tokens) {
  const std::int64_t* const n = planned.n.data();
  const auto matrices = static_cast<std::int64_t>(planned.n.size());
  const auto order = static_cast<SumOrder>(planned.leaves);
  static constexpr float some_bias = 0.0f;
  if (planned.kind == PlannedProduct::Kind::forward) {
    Bf16Product p = forward_sums(nullptr, planned.k, nullptr, tokens, *n, planned.k, order);
    p.bias = planned.biased ? &some_bias : nullptr;
    return p;
  }
  std::int64_t columns = 0;
  for (const std::int64_t size : planned.n) columns += size;
  return input_gradient_sums(nullptr, columns, nullptr, planned.k, tokens, n, matrices, planned.k,
                             order);
}

/// The calls of a product with so many tokens, in rows without gaps, at no address.
LtCalls calls_of(const PlannedProduct& planned, int tokens) {
  if (planned.kind == PlannedProduct::Kind::weight_gradient) {
    Bf16Gradient p{};
    p.rows = static_cast<int>(planned.n.front()), p.columns = static_cast<int>(planned.k);
    p.lda = p.rows, p.ldb = p.ldc = p.columns;
    p.wide = is_wide(p);
    return call_of(p, tokens);
  }
  Bf16Product p = product_of(planned, tokens);
  p.ldc = p.columns, p.narrow = planned.narrow, p.add = planned.add;
  p.wide = is_wide(p);
  return calls_of(p, false);
}

/// By shape, the most tokens of it.
using Shapes = std::map<LtShape, int>;

/// More tokens take longer to compare than a job gains.
constexpr std::int64_t most_compared = 32768;

void add_shapes(Shapes& shapes, const PlannedProduct& planned, std::int64_t working_bytes) {
  const auto most = static_cast<int>(std::min(planned.most, most_compared));
  const int last = tokens_of_plan(most);
  auto fewest = static_cast<int>(std::max<std::int64_t>(planned.fewest, 1));
  for (int tokens = tokens_of_plan(fewest); fewest <= most && tokens <= last; tokens *= 2) {
    const LtCalls least = calls_of(planned, fewest);
    const std::size_t bytes = least.floats() * sizeof(float);
    if (working_bytes > 0 && bytes > static_cast<std::size_t>(working_bytes)) return;
    for (int i = 0; i < least.count; ++i) {
      int& tried = shapes[shape_of(least.call[i])];
      tried = std::max(tried, tokens == last ? most : tokens);
    }
    fewest = tokens + 1;
  }
}

/// A stream of its own for the time of certifying, so that all that our kernels take for it is
/// given back, and what they asked for is not mistaken for the job's.
class Trials {
 public:
  Trials() {
    int index = 0;
    check(cudaGetDevice(&index), "cudaGetDevice");
    cuda_ = open_cuda(index);
  }
  Trials(const Trials&) = delete;
  Trials& operator=(const Trials&) = delete;
  ~Trials() { close_cuda(cuda_); }
  const Cuda& cuda() const { return cuda_; }

 private:
  Cuda cuda_;
};

}  // namespace

std::string use_products(const Cuda& cuda, Products products) {
  std::unique_ptr<LtPlans>& plans = lt_plans(cuda);
  plans.reset();
  if (products == Products::own) return "";
  if (!cublaslt_usable()) return lt_library().problem;
  try {
    plans = std::make_unique<LtPlans>(products);
  } catch (const LtError& error) {
    return error.what();
  }
  return "";
}

std::string cublaslt_support() {
  const LtLibrary& library = lt_library();
  return library.problem.empty() ? library.version_text() : "none (" + library.problem + ")";
}

bool cublaslt_usable() {
  return lt_library().problem.empty();
}

ProductPlans plan_products(const Cuda& cuda, std::span<const PlannedProduct> products,
                           std::int64_t working_bytes) {
  ProductPlans made;
  LtPlans* const plans = lt_plans(cuda).get();
  if (plans == nullptr || plans->products() != Products::certified) return made;
  Shapes shapes;
  for (const PlannedProduct& planned : products) add_shapes(shapes, planned, working_bytes);
  const Trials trials;
  for (const auto& [shape, tokens] : shapes) plans->certify(trials.cuda(), shape, tokens);
  for (const auto& [shape, plan] : plans->all()) {
    ++made.shapes;
    made.certified += plan.equal > 0 ? 1 : 0;
    made.faster += plan.use ? 1 : 0;
    made.no_room += plan.problem == no_room_to_compare ? 1 : 0;
  }
  return made;
}

ProductsMet products_met(const Cuda& cuda) {
  ProductsMet met;
  const LtPlans* const plans = lt_plans(cuda).get();
  if (plans == nullptr) return met;
  for (const auto& [shape, plan] : lt_plans(cuda)->all()) met.planned += plan.met ? 1 : 0;
  met.others = static_cast<std::int64_t>(plans->others().size());
  return met;
}

}  // namespace fst::kernels
