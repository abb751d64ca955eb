// torch.optim.AdamW with clip_grad_norm_ (golden/adamw), through the optimiser of the learner.
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "fst/learn/optimizer.h"
#include "fst/learn/schedule.h"

#include "support/golden_json.h"
#include "support/tiny_model.h"

namespace fst {
namespace {

constexpr double parameter_tolerance = 1e-6;  // golden/README.md
constexpr double moment_tolerance = 2e-5;     // relative, golden/README.md
constexpr double norm_tolerance = 1e-5;       // relative; torch sums float32

std::vector<float> flattened(const nlohmann::json& tensors) {
  std::vector<float> flat;
  for (const auto& tensor : tensors) {
    for (const auto& x : tensor) flat.push_back(x.get<float>());
  }
  return flat;
}

AdamWOptions options_of(const nlohmann::json& line) {
  AdamWOptions options;
  options.beta1 = line.at("betas").at(0);
  options.beta2 = line.at("betas").at(1);
  options.eps = line.at("eps");
  options.weight_decay = line.at("weight_decay");
  options.clip = line.at("max_norm").is_null() ? 0.0 : line.at("max_norm").get<double>();
  return options;
}

/// A model whose embedding, the first and decayed matrix, has room for the case; all else is zero
/// and stays so.
Qwen3Config model_for(std::size_t elements) {
  Qwen3Config config = testing::tiny_config();
  config.num_hidden_layers = 1;
  config.vocab_size = static_cast<std::int64_t>(elements) / config.hidden_size + 1;
  return config;
}

void expect_near(const Tensor& found, const std::vector<float>& expected, double absolute,
                 double relative, const char* what) {
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const auto value = static_cast<double>(expected[i]);
    EXPECT_NEAR(static_cast<double>(found.data<float>()[i]), value,
                absolute + relative * std::fabs(value))
        << what << " " << i;
  }
}

TEST(GoldenOptimizer, FollowsTorchWithClippingAndWarmUp) {
  const Device device = Device::cpu();
  const Communicator self = Communicator::self();
  for (const auto& line : test::golden_lines("adamw/adamw.jsonl")) {
    SCOPED_TRACE(line.at("id").get<std::string>());
    const auto start = flattened(line.at("params"));
    Parameters parameters(model_for(start.size()), device);
    std::copy(start.begin(), start.end(), parameters.flat().data<float>());
    Optimizer optimizer(parameters, {0, parameters.size()}, LearnerGrid(self), options_of(line));
    ASSERT_FALSE(line.at("steps").empty());
    for (const auto& golden : line.at("steps")) {
      SCOPED_TRACE("step " + golden.at("step").dump());
      Buffer gradient(device, DType::f32, {parameters.size()});
      const auto values = flattened(golden.at("grads"));
      std::copy(values.begin(), values.end(), gradient.data<float>());
      const double norm = optimizer.step(gradient.tensor(), golden.at("lr"));
      EXPECT_EQ(optimizer.steps(), golden.at("step").get<std::int64_t>());
      EXPECT_NEAR(norm, golden.at("grad_norm").get<double>(), norm_tolerance * norm);
      expect_near(parameters.flat(), flattened(golden.at("params")), parameter_tolerance, 0.0,
                  "parameter");
      expect_near(optimizer.m(), flattened(golden.at("m")), 0.0, moment_tolerance, "m");
      expect_near(optimizer.v(), flattened(golden.at("v")), 0.0, moment_tolerance, "v");
    }
  }
}

}  // namespace
}  // namespace fst
