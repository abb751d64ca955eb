#include "fst/model/model_products.h"

#include "fst/model/shard.h"
#include "fst/tensor/ops.h"

namespace fst {

namespace {

using Kind = PlannedProduct::Kind;

/// In the order of qwen3.cpp and qwen3_backward.cpp.
class List {
 public:
  List(const Qwen3Config& config, int degree, const PassRows& rows)
      : local_(local_config(config, {0, degree})),
        vocab_(vocab_range(config, {0, degree}).size()),
        shared_(degree > 1),
        leaves_(static_cast<int>(ops::leaves_of_rank(degree))),
        rows_(rows) {}

  std::vector<PlannedProduct> all() {
    const std::int64_t size = local_.hidden_size, mlp = local_.intermediate_size;
    const std::int64_t q = local_.q_size(), kv = local_.kv_size(), qkv = local_.qkv_size();
    forward(qkv, size, {.narrow = true, .biased = local_.qkv_bias()});
    add_row_parallel(size, q);
    // Without activations to keep, few rows are linear_swiglu()'s.
    forward(2 * mlp, size, {.narrow = true, .fewest = rows_.backward ? 1 : most_fused_rows() + 1});
    add_row_parallel(size, mlp);
    forward(vocab_, size, {.most = rows_.head});
    if (!rows_.backward) return std::move(list_);
    for (const std::int64_t inner : {mlp, q}) {  // down and o
      add({.kind = Kind::input_gradient, .n = {size}, .k = inner, .narrow = true});
      weight_gradient(size, inner);
    }
    fused_input_gradient({mlp, mlp});
    weight_gradient(2 * mlp, size);
    fused_input_gradient({q, kv, kv});
    weight_gradient(qkv, size);
    input_gradient({vocab_}, rows_.head);
    weight_gradient(vocab_, size, rows_.head);
    return std::move(list_);
  }

 private:
  struct Forward {
    int leaves = 1;
    bool narrow = false, add = false, biased = false;
    std::int64_t fewest = 1, most = 0;
  };
  void add(PlannedProduct product) {
    if (product.most == 0) product.most = rows_.tokens;
    list_.push_back(std::move(product));
  }
  void forward(std::int64_t n, std::int64_t k, const Forward& how) {
    add({Kind::forward, {n}, k, how.leaves, how.narrow, how.add, how.biased, how.fewest, how.most});
  }
  /// o and down, whose leaves the ranks share; few rows are linear_add_norm()'s.
  void add_row_parallel(std::int64_t n, std::int64_t k) {
    if (shared_) return forward(n, k, {.leaves = leaves_});
    forward(n, k,
            {.leaves = leaves_, .narrow = true, .add = true, .fewest = most_fused_rows() + 1});
  }
  void input_gradient(std::vector<std::int64_t> n, std::int64_t most = 0) {
    add({.kind = Kind::input_gradient,
         .n = std::move(n),
         .k = local_.hidden_size,
         .leaves = leaves_,
         .narrow = !shared_,
         .most = most});
  }
  /// Of several matrices at once, or, where ranks join their leaves, of one after the other.
  void fused_input_gradient(const std::vector<std::int64_t>& sizes) {
    if (!shared_) return input_gradient(sizes);
    for (const std::int64_t size : sizes) input_gradient({size});
  }
  void weight_gradient(std::int64_t n, std::int64_t k, std::int64_t most = 0) {
    add({.kind = Kind::weight_gradient, .n = {n}, .k = k, .most = most});
  }

  Qwen3Config local_;
  std::int64_t vocab_;
  bool shared_;
  int leaves_;
  PassRows rows_;
  std::vector<PlannedProduct> list_;
};

}  // namespace

std::vector<PlannedProduct> model_products(const Qwen3Config& config, int degree,
                                           const PassRows& rows) {
  return List(config, degree, rows).all();
}

}  // namespace fst
