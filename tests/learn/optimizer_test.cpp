#include "fst/learn/optimizer.h"

#include <limits>

#include <gtest/gtest.h>

#include "fst/base/error.h"

#include "optimizer_fixture.h"

namespace fst {
namespace {

struct Fixture {
  Device device = Device::cpu();
  Communicator self = Communicator::self();
  Parameters parameters = testing::random_parameters(testing::tiny_config(), device, 3);

  Tensor tensor(std::vector<float>& x) const {
    return {device, DType::f32, x.data(), {static_cast<std::int64_t>(x.size())}};
  }
};

TEST(Optimizer, FollowsPlainAdamWOnTheWholeVector) {
  Fixture f;
  const AdamWOptions options{0.8, 0.95, 1e-7, 0.1, 0.5, 3.0};
  test::PlainAdamW plain(f.parameters, options);
  Optimizer optimizer(f.parameters, {0, f.parameters.size()}, LearnerGrid(f.self), options);
  for (std::uint32_t t = 1; t <= 3; ++t) {
    auto gradient = test::some_gradient(f.parameters.size(), t);
    plain.step(gradient, 0.01 * t);
    EXPECT_EQ(optimizer.step(f.tensor(gradient), 0.01 * t), plain.norm);
    EXPECT_EQ(optimizer.steps(), t);
  }
  EXPECT_EQ(test::differing(test::values_of(f.parameters.flat()), plain.p), 0);
  EXPECT_EQ(test::differing(test::values_of(optimizer.m()), plain.m), 0);
  EXPECT_EQ(test::differing(test::values_of(optimizer.v()), plain.v), 0);
}

TEST(Optimizer, ANormWithinTheLimitLeavesTheGradientAlone) {
  Fixture f;
  auto gradient = test::some_gradient(f.parameters.size(), 5);
  Optimizer clipped(f.parameters, {0, f.parameters.size()}, LearnerGrid(f.self),
                    {.beta1 = 0.0, .clip = 1e6});
  clipped.step(f.tensor(gradient), 0.0);
  EXPECT_EQ(test::differing(test::values_of(clipped.m()), gradient), 0);
}

TEST(Optimizer, AZeroRateLeavesTheWeightsAlone) {
  Fixture f;
  const auto before = test::values_of(f.parameters.flat());
  auto gradient = test::some_gradient(f.parameters.size(), 5);
  Optimizer optimizer(f.parameters, {0, f.parameters.size()}, LearnerGrid(f.self),
                      {.weight_decay = 0.3});
  optimizer.step(f.tensor(gradient), 0.0);
  EXPECT_EQ(test::differing(test::values_of(f.parameters.flat()), before), 0);
}

TEST(Optimizer, RefusesAGradientThatIsNotFinite) {
  Fixture f;
  const auto before = test::values_of(f.parameters.flat());
  Optimizer optimizer(f.parameters, {0, f.parameters.size()}, LearnerGrid(f.self), {});
  for (const float bad :
       {std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()}) {
    auto gradient = test::some_gradient(f.parameters.size(), 5);
    gradient[1234] = bad;
    EXPECT_THROW(optimizer.step(f.tensor(gradient), 0.1), Error);
  }
  EXPECT_EQ(optimizer.steps(), 0);
  EXPECT_EQ(test::differing(test::values_of(f.parameters.flat()), before), 0);
}

TEST(Optimizer, RefusesAGradientOfAnotherSize) {
  Fixture f;
  Optimizer optimizer(f.parameters, {0, f.parameters.size()}, LearnerGrid(f.self), {});
  auto gradient = test::some_gradient(f.parameters.size() - 1, 5);
  EXPECT_THROW(optimizer.step(f.tensor(gradient), 0.1), Error);
}

}  // namespace
}  // namespace fst
