#include <cstdio>
#include <cstring>
#include <exception>
#include <memory>

#include "kernels/cuda/lt_plans.h"
#include "models.h"

// Certifies cuBLASLt's algorithms for the products of Qwen3's layers, as a job in bf16 does before
// it begins: how many it offers, how many have our bits, and how fast the best of these is. One
// line a shape. Exit status 1 where cuBLASLt is not here.
namespace fst::bench {
namespace {

using std::int64_t;
using namespace kernels;

/// A product of `inner` indices in `chains` chains; result [tokens or n, columns].
struct Line {
  const Model& model;
  const char *matrix, *which;
  LtShape shape;
};

void print(const Line& line, const LtPlan& plan) {
  std::printf("%-5s %-8s %-3s %6d tokens %s  offered %d, equal %d", line.model.name, line.matrix,
              line.which, line.shape.tokens, line.shape.chains > 1 ? "8 leaves" : "        ",
              plan.offered, plan.equal);
  if (plan.equal > 0) {
    std::printf(", %.1f us, ours %.1f us, ours / its %.3f", 1e3 * double{plan.milliseconds},
                1e3 * double{plan.own_milliseconds},
                double{plan.own_milliseconds} / double{plan.milliseconds});
  }
  std::printf("%s%s\n", plan.problem.empty() ? "" : "; ", plan.problem.c_str());
  std::fflush(stdout);
}

/// Rows of y = x w^T and dx = dy w. Each part of qkv and gate_up has its own leaves in dX; the
/// largest is shown.
LtShape shape_of_rows(int rows, int64_t columns, int64_t inner, Lies weight, bool leaves) {
  const int chains = leaves ? 8 : 1;
  return {rows,
          0,
          static_cast<int>(columns),
          static_cast<int>(inner / chains),
          chains,
          Lies::inner,
          weight,
          chains == 1,
          false};
}

int64_t largest_part(const Model& m, const Matrix& w) {
  if (std::strcmp(w.name, "qkv") == 0) return m.heads * m.dim;
  return std::strcmp(w.name, "gate_up") == 0 ? m.mlp : w.n;
}

void certify(const Cuda& cuda, lt::Handle handle, const Model& model, int tokens, bool train) {
  for (const Matrix& w : matrices_of(model)) {
    const auto show = [&](const char* which, const LtShape& shape) {
      print({model, w.name, which, shape}, certified_plan(cuda, handle, shape, shape.tokens));
    };
    const int64_t part = largest_part(model, w);
    if (!w.inner_is_cut || w.k % 64 == 0) {
      show("y", shape_of_rows(tokens, w.n, w.k, Lies::inner, w.inner_is_cut));
    }
    if (!train) continue;
    if (w.inner_is_cut || part % 64 == 0) {
      show("dX", shape_of_rows(tokens, w.k, part, Lies::outer, !w.inner_is_cut));
    }
    show("dW", {tokens, static_cast<int>(w.n), static_cast<int>(w.k), 0, 1, Lies::outer,
                Lies::outer, false, false});
  }
}

int run(bool with_tiny) {
  if (!cublaslt_usable()) {
    std::printf("cuBLASLt here: %s\n", cublaslt_support().c_str());
    return 1;
  }
  Cuda cuda = open_cuda(0);
  {
    const LtPlans plans(Products::certified);
    std::printf("cuBLASLt %s; split sums excluded, no working memory\n",
                cublaslt_support().c_str());
    if (with_tiny) {
      certify(cuda, plans.handle(), tiny, 16, true);
    } else {
      for (const Model* model : {&small, &large}) {
        for (const int tokens : {16, 64, 256}) certify(cuda, plans.handle(), *model, tokens, false);
        for (const int tokens : {2048, 8192}) certify(cuda, plans.handle(), *model, tokens, true);
      }
    }
  }
  close_cuda(cuda);
  return 0;
}

}  // namespace
}  // namespace fst::bench

int main(int argc, char** argv) {
  try {
    const bool with_tiny = argc > 1 && std::strcmp(argv[1], "--tiny") == 0;
    return fst::bench::run(with_tiny);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "fst_gpu_products: %s\n", error.what());
    return 1;
  }
}
