#include <cmath>

#include "fst/tensor/ops.h"

#include "check.h"
#include "kernels/adamw.h"

namespace fst::ops {

void adamw(Tensor& parameter, Tensor& m, Tensor& v, const Tensor& gradient, const AdamWStep& step) {
  const std::int64_t n = parameter.size();
  expect_elements("adamw: parameter", parameter, n);
  expect_elements("adamw: m", m, n);
  expect_elements("adamw: v", v, n);
  expect_elements("adamw: gradient", gradient, n);
  kernels::AdamWScalars scalars{};
  scalars.clip = step.clip;
  scalars.decay = static_cast<float>(1.0 - step.lr * step.weight_decay);
  scalars.keep_m = static_cast<float>(step.beta1);
  scalars.take_m = static_cast<float>(1.0 - step.beta1);
  scalars.keep_v = static_cast<float>(step.beta2);
  scalars.take_v = static_cast<float>(1.0 - step.beta2);
  scalars.rate = static_cast<float>(step.lr / step.bias1);
  scalars.root = static_cast<float>(1.0 / std::sqrt(step.bias2));
  scalars.eps = static_cast<float>(step.eps);
  parameter.device().run([&](const auto& exec) {
    return kernels::adamw(exec, parameter.data<float>(), m.data<float>(), v.data<float>(),
                          gradient.data<float>(), n, scalars);
  });
}

void sum_of_squares(kernels::ExactSum& sum, const Tensor& x) {
  if (x.empty()) return;
  const std::int64_t rows = x.contiguous() ? 1 : x.dim(0);
  const std::int64_t n = x.size() / rows;
  for (std::int64_t r = 0; r < rows; ++r) {
    x.device().run([&](const auto& exec) {
      return kernels::sum_of_squares(exec, sum, x.data<float>() + r * x.row_stride(), n);
    });
  }
}

}  // namespace fst::ops
