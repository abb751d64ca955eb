#include <algorithm>
#include <numeric>

#include "kernels/matmul_bf16.h"
#include "models.h"

namespace fst::bench {
namespace {

using std::int64_t;
using namespace kernels;

/// What a matrix is made of: each part has its own leaves in dX.
std::vector<int64_t> parts_of(const Model& m, const std::string& name) {
  if (name == "qkv") return {m.heads * m.dim, m.kv_heads * m.dim, m.kv_heads * m.dim};
  if (name == "gate_up") return {m.mlp, m.mlp};
  return {};
}

/// `size`: bytes of an element of the result.
Case product(const Model& model, const Matrix& w, const std::string& which, int64_t rows,
             bool leaves, std::vector<int64_t> elements, int64_t size) {
  const int64_t result = which == "y" ? rows * w.n : which == "dX" ? rows * w.k : w.n * w.k;
  const int64_t all = std::accumulate(elements.begin(), elements.end(), int64_t{0});
  return {
      named(model, "bf16 " + std::string(w.name) + " " + which + (leaves ? " 8 leaves" : ""), rows),
      "bf16 linear " + which,
      {{"rows", rows}, {"n", w.n}, {"k", w.k}},
      static_cast<double>(2 * all + size * result),
      2.0 * static_cast<double>(rows * w.n) * static_cast<double>(w.k)};
}

SumOrder order_of(bool leaves) {
  return leaves ? SumOrder::leaves : SumOrder::chain;
}

/// The logits of the head stay float32.
template <class Y>
void time_forward(Bench& bench, const Model& model, const Matrix& w, int64_t rows) {
  const Case c = product(model, w, "y", rows, w.inner_is_cut, {rows * w.k, w.n * w.k}, sizeof(Y));
  if (!bench.begin(c, (rows * w.k + w.n * w.k) / 2 + rows * w.n)) return;
  const RingOf<Bf16> x = bench.halves(rows * w.k), weight = bench.halves(w.n * w.k);
  const RingOf<Y> y = bench.unset<Y>(rows * w.n);
  bench.time([&](int64_t i) {
    linear_forward(bench.cuda(), y(i), w.n, x(i), w.k, weight(i), nullptr, rows, w.n, w.k,
                   order_of(w.inner_is_cut), Update::overwrite);
  });
}

void time_input_gradient(Bench& bench, const Model& model, const Matrix& w, int64_t rows) {
  const bool leaves = !w.inner_is_cut;
  const Case c = product(model, w, "dX", rows, leaves, {rows * w.n, w.n * w.k}, 2);
  if (!bench.begin(c, (rows * (w.n + w.k) + w.n * w.k) / 2)) return;
  const RingOf<Bf16> dy = bench.halves(rows * w.n), weight = bench.halves(w.n * w.k),
                     dx = bench.unset<Bf16>(rows * w.k);
  const std::vector<int64_t> parts = parts_of(model, w.name);
  bench.time([&](int64_t i) {
    if (parts.empty()) {
      linear_backward_input(bench.cuda(), dx(i), w.k, dy(i), w.n, weight(i), w.k, rows, w.n, w.k,
                            order_of(leaves), Update::overwrite);
    } else {
      linear_backward_input(bench.cuda(), dx(i), w.k, dy(i), w.n, weight(i), w.k, rows,
                            parts.data(), static_cast<int64_t>(parts.size()), w.k, order_of(leaves),
                            Update::overwrite);
    }
  });
}

void time_weight_gradient(Bench& bench, const Model& model, const Matrix& w, int64_t rows) {
  const Case c = product(model, w, "dW", rows, false, {rows * w.n, rows * w.k}, 4);
  if (!bench.begin(c, rows * (w.n + w.k) / 2 + w.n * w.k)) return;
  const RingOf<Bf16> dy = bench.halves(rows * w.n), x = bench.halves(rows * w.k);
  const RingOf<float> dweight = bench.unset<float>(w.n * w.k);
  std::vector<std::int32_t> starts;  // sequences of 1000 tokens: no multiple of a block
  for (int64_t t = 0; t < rows; t += 1000) starts.push_back(static_cast<std::int32_t>(t));
  starts.push_back(static_cast<std::int32_t>(rows));
  bench.time([&](int64_t i) {
    linear_backward_weight(bench.cuda(), dweight(i), w.k, dy(i), w.n, x(i), w.k, starts.data(),
                           static_cast<int64_t>(starts.size()) - 1, w.n, w.k, Chain::begin);
  });
}

}  // namespace

void time_bf16(Bench& bench, const Model& model, int64_t rows, bool train) {
  const Matrix head{"head", model.vocab, model.hidden, false};
  for (const Matrix& w : matrices_of(model)) time_forward<Bf16>(bench, model, w, rows);
  time_forward<float>(bench, model, head, rows);
  for (const Matrix& w : matrices_of(model)) {
    if (train) time_input_gradient(bench, model, w, rows);
  }
  for (const Matrix& w : matrices_of(model)) {
    if (train) time_weight_gradient(bench, model, w, rows);
  }
}

}  // namespace fst::bench
