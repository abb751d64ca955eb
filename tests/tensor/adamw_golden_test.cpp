// torch.optim.AdamW with clip_grad_norm_: golden/adamw; and the optimiser steps of golden/loss,
// whose clipping leaves out the 1e-6 (its README: hold to the float32 tolerance).
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "fst/tensor/ops.h"

#include "support/golden_json.h"

namespace fst {
namespace {

constexpr double parameter_tolerance = 1e-6;  // golden/README.md
constexpr double moment_tolerance = 2e-5;     // relative, golden/README.md
constexpr double float32_tolerance = 2e-5;    // times 1 + |expected|, golden/loss/README.md

/// Float32 state of several tensors laid end to end.
struct State {
  std::vector<float> parameter, m, v, gradient;
};

std::vector<float> flattened(const nlohmann::json& tensors) {
  std::vector<float> flat;
  for (const auto& tensor : tensors) {
    for (const auto& x : tensor) flat.push_back(x.get<float>());
  }
  return flat;
}

double norm_of(const Device& device, std::vector<float>& gradient) {
  kernels::ExactSum sum;
  ops::sum_of_squares(sum, Tensor(device, DType::f32, gradient.data(),
                                  {static_cast<std::int64_t>(gradient.size())}));
  return std::sqrt(sum.value());
}

void step(const Device& device, State& s, const ops::AdamWStep& step) {
  const auto n = static_cast<std::int64_t>(s.parameter.size());
  Tensor parameter(device, DType::f32, s.parameter.data(), {n});
  Tensor m(device, DType::f32, s.m.data(), {n}), v(device, DType::f32, s.v.data(), {n});
  ops::adamw(parameter, m, v, Tensor(device, DType::f32, s.gradient.data(), {n}), step);
}

ops::AdamWStep scalars(double lr, double beta1, double beta2, double eps, double decay, int t,
                       double clip) {
  return {lr,
          beta1,
          beta2,
          eps,
          decay,
          1.0 - std::pow(beta1, t),
          1.0 - std::pow(beta2, t),
          static_cast<float>(clip)};
}

TEST(GoldenAdamW, FollowsTorchWithClippingAndWarmUp) {
  const Device device = Device::cpu();
  for (const auto& line : test::golden_lines("adamw/adamw.jsonl")) {
    SCOPED_TRACE(line.at("id").get<std::string>());
    State s;
    s.parameter = flattened(line.at("params"));
    s.m.resize(s.parameter.size());
    s.v.resize(s.parameter.size());
    ASSERT_FALSE(line.at("steps").empty());
    for (const auto& golden : line.at("steps")) {
      const int t = golden.at("step");
      SCOPED_TRACE("step " + std::to_string(t));
      s.gradient = flattened(golden.at("grads"));
      const double norm = norm_of(device, s.gradient);
      EXPECT_NEAR(norm, golden.at("grad_norm").get<double>(), 1e-5 * norm);
      const auto& limit = line.at("max_norm");
      const double clip =
          limit.is_null() ? 1.0 : std::min(1.0, limit.get<double>() / (norm + 1e-6));
      const std::vector<float> clipped = flattened(golden.at("grads_clipped"));
      for (std::size_t i = 0; i < clipped.size(); ++i) {
        EXPECT_NEAR(static_cast<double>(s.gradient[i]) * clip, clipped[i], parameter_tolerance);
      }
      step(device, s,
           scalars(golden.at("lr"), line.at("betas").at(0), line.at("betas").at(1), line.at("eps"),
                   line.at("weight_decay"), t, clip));
      const auto parameter = flattened(golden.at("params"));
      const auto m = flattened(golden.at("m")), v = flattened(golden.at("v"));
      for (std::size_t i = 0; i < parameter.size(); ++i) {
        EXPECT_NEAR(s.parameter[i], parameter[i], parameter_tolerance);
        EXPECT_NEAR(s.m[i], m[i], moment_tolerance * std::fabs(static_cast<double>(m[i])));
        EXPECT_NEAR(s.v[i], v[i], moment_tolerance * std::fabs(static_cast<double>(v[i])));
      }
    }
  }
}

TEST(GoldenAdamW, FollowsTheStepsOfTheSpecification) {
  const Device device = Device::cpu();
  for (const auto& line : test::golden_lines("loss/adamw.jsonl")) {
    SCOPED_TRACE(line.at("id").get<std::string>());
    State s;
    s.parameter = line.at("start").get<std::vector<float>>();
    s.m.resize(s.parameter.size());
    s.v.resize(s.parameter.size());
    ASSERT_FALSE(line.at("steps").empty());
    for (const auto& golden : line.at("steps")) {
      s.gradient = golden.at("gradient").get<std::vector<float>>();
      const double norm = norm_of(device, s.gradient);
      EXPECT_NEAR(norm, golden.at("norm").get<double>(), float32_tolerance * (1.0 + norm));
      const auto& limit = line.at("clip");
      const double clip =
          limit.is_null() ? 1.0 : std::min(1.0, limit.get<double>() / (norm + 1e-6));
      step(device, s,
           scalars(golden.at("lr"), line.at("beta1"), line.at("beta2"), line.at("eps"),
                   line.at("weight_decay"), golden.at("step"), clip));
      const auto weights = golden.at("weights").get<std::vector<double>>();
      for (std::size_t i = 0; i < weights.size(); ++i) {
        EXPECT_NEAR(s.parameter[i], weights[i], float32_tolerance * (1.0 + std::fabs(weights[i])));
      }
    }
  }
}

}  // namespace
}  // namespace fst
