#pragma once

#include <functional>
#include <stdexcept>
#include <string>
#include <vector>

#include "cuda/device.h"
#include "cuda/matmul_bf16_definition.h"
#include "kernels/cuda/lt_plans.h"
#include "kernels/matmul_bf16.h"

/// Products of every kind at small odd sizes, by our kernels or by cuBLASLt.
namespace fst::kernels::test {

/// From now to the end of the scope the device's products are these, those that are `planned` with
/// plans where products are certified.
class WithProducts {
 public:
  explicit WithProducts(Products products, const std::vector<PlannedProduct>& planned = {}) {
    const std::string problem = use_products(fst::test::device(), products);
    if (!problem.empty()) throw std::runtime_error(problem);
    made_ = plan_products(fst::test::device(), planned, 0);
  }
  WithProducts(const WithProducts&) = delete;
  WithProducts& operator=(const WithProducts&) = delete;
  ~WithProducts() { use_products(fst::test::device(), Products::own); }

  const ProductPlans& made() const { return made_; }
  std::map<LtShape, LtPlan>& plans() { return lt_plans(fst::test::device())->all(); }
  /// Whatever the clock said.
  void use_all_equal() {
    for (auto& [shape, plan] : plans()) plan.use = plan.equal > 0;
  }

 private:
  ProductPlans made_;
};

/// What a product leaves in memory: bits of float or Bf16, and the gaps between rows.
struct Operation {
  std::string name;
  int calls;  // of cuBLASLt
  PlannedProduct planned;
  std::function<std::vector<std::uint32_t>()> run;
};

template <class Y>
std::vector<std::uint32_t> bits_after(std::int64_t count, const std::function<void(Y*)>& call) {
  const fst::test::DeviceArray<Y> y(old_contents(count, Y{}));
  call(y.data());
  std::vector<std::uint32_t> bits;
  for (const Y value : y.host()) {
    if constexpr (std::is_same_v<Y, float>) {
      bits.push_back(std::bit_cast<std::uint32_t>(value));
    } else {
      bits.push_back(value.bits);
    }
  }
  return bits;
}

// No tile's sizes; a leaf of a block and a half; rows with gaps.
constexpr int rows = 13, columns = 24, inner = 192, gap = 8;

template <class Y>
Operation forward(SumOrder order, Update update, bool biased = false) {
  const auto run = [=] {
    const Matrix x(rows, inner, gap, 1), weight(columns, inner, 0, 2);
    const fst::test::DeviceArray<Bf16> xs(x.values), weights(weight.values);
    const fst::test::DeviceArray<float> bias(bf16_test::random_floats(columns, 3));
    return bits_after<Y>(rows * (columns + gap), [&](Y* y) {
      linear_forward(fst::test::device(), y, columns + gap, xs.data(), x.ld, weights.data(),
                     biased ? bias.data() : nullptr, rows, columns, inner, order, update);
    });
  };
  return {std::string("forward ") + (order == SumOrder::chain ? "chain" : "leaves") +
              (update == Update::add ? " add" : "") + (biased ? " bias" : "") +
              (sizeof(Y) == 2 ? " bf16" : ""),
          1,
          {.n = {columns},
           .k = inner,
           .leaves = static_cast<int>(order),
           .narrow = sizeof(Y) == 2,
           .add = update == Update::add,
           .biased = biased,
           .most = rows},
          run};
}

template <class Y>
Operation input_gradient(SumOrder order, std::vector<std::int64_t> sizes) {
  const auto run = [=] {
    const Matrix dy(rows, inner, gap, 4), weight(inner, columns, gap, 5);
    const fst::test::DeviceArray<Bf16> dys(dy.values), weights(weight.values);
    return bits_after<Y>(rows * columns, [&](Y* dx) {
      linear_backward_input(fst::test::device(), dx, columns, dys.data(), dy.ld, weights.data(),
                            weight.ld, rows, sizes.data(), static_cast<std::int64_t>(sizes.size()),
                            columns, order, Update::overwrite);
    });
  };
  return {"dX of " + std::to_string(sizes.size()) + (sizeof(Y) == 2 ? " bf16" : ""),
          static_cast<int>(sizes.size()),
          {.kind = PlannedProduct::Kind::input_gradient,
           .n = sizes,
           .k = columns,
           .leaves = static_cast<int>(order),
           .narrow = sizeof(Y) == 2,
           .most = rows},
          run};
}

inline Operation weight_gradient(std::vector<std::int32_t> starts, Chain chain, int calls) {
  const auto run = [=] {
    const Matrix dy(starts.back(), columns, gap, 6), x(starts.back(), 40, gap, 7);
    const fst::test::DeviceArray<Bf16> dys(dy.values), xs(x.values);
    return bits_after<float>(columns * 44, [&](float* dweight) {
      linear_backward_weight(fst::test::device(), dweight, 44, dys.data(), dy.ld, xs.data(), x.ld,
                             starts.data(), static_cast<std::int64_t>(starts.size()) - 1, columns,
                             40, chain);
    });
  };
  return {"dW of " + std::to_string(starts.size() - 1),
          calls,
          {.kind = PlannedProduct::Kind::weight_gradient,
           .n = {columns},
           .k = 40,
           .most = starts.back()},
          run};
}

/// All that may be cuBLASLt's, and `calls` of it in each.
inline std::vector<Operation> operations() {
  return {forward<Bf16>(SumOrder::chain, Update::overwrite),
          forward<float>(SumOrder::chain, Update::overwrite),
          forward<Bf16>(SumOrder::chain, Update::add),
          forward<Bf16>(SumOrder::chain, Update::overwrite, true),
          forward<Bf16>(SumOrder::leaves, Update::overwrite),
          forward<Bf16>(SumOrder::leaves, Update::add),
          input_gradient<Bf16>(SumOrder::chain, {inner}),
          input_gradient<float>(SumOrder::leaves, {inner}),
          input_gradient<Bf16>(SumOrder::leaves, {64, 128}),
          weight_gradient({0, 16, 48, 55}, Chain::begin, 1)};
}

}  // namespace fst::kernels::test
