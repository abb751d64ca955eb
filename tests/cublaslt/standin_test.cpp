#include <algorithm>
#include <cstdlib>
#include <fstream>

#include "products.h"
#include "temporary_folder.h"

/// How cuBLASLt is asked and what is believed of it; with library.cpp in its place.
namespace fst::kernels::test {
namespace {

using fst::test::device;

class LtStandIn : public ::testing::Test {
 protected:
  void SetUp() override { ASSERT_TRUE(cublaslt_usable()) << cublaslt_support(); }
  void TearDown() override { unsetenv("FST_CUBLASLT_STANDIN"); }

  void tell(const std::string& words) const {
    setenv("FST_CUBLASLT_STANDIN", ("log:" + log_ + " " + words).c_str(), 1);
  }
  /// What it was asked since the last time, lines that begin so.
  std::vector<std::string> asked(const std::string& start = "") const {
    std::vector<std::string> lines;
    std::ifstream in(log_);
    for (std::string line; std::getline(in, line);) {
      if (line.starts_with(start)) lines.push_back(line);
    }
    return lines;
  }
  void forget() const { std::ofstream(log_, std::ios::trunc); }

  const fst::testing::TemporaryFolder folder_;
  const std::string log_ = (folder_.path() / "log").string();
};

TEST_F(LtStandIn, FindsEveryProductEqualAndIsCalledForIt) {
  tell("");
  for (const Operation& operation : operations()) {
    const auto expected = operation.run();
    WithProducts certified(Products::certified);
    operation.run();
    for (const auto& [shape, plan] : certified.plans()) {
      EXPECT_EQ(plan.offered, 1) << operation.name;
      EXPECT_EQ(plan.equal, 1) << operation.name;
      EXPECT_GT(plan.own_milliseconds, 0.0f);
    }
    certified.use_all_equal();
    forget();
    EXPECT_EQ(operation.run(), expected) << operation.name;
    EXPECT_EQ(asked("multiply").size(), static_cast<std::size_t>(operation.calls))
        << operation.name;
    EXPECT_EQ(asked().size(), static_cast<std::size_t>(operation.calls)) << operation.name;
  }
}

TEST_F(LtStandIn, IsAskedOnceForAShapeWithoutSplitSumsOrMemory) {
  tell("");
  const Operation operation = forward<Bf16>(SumOrder::leaves, Update::overwrite);
  WithProducts certified(Products::certified);
  operation.run();
  const std::vector<std::string> questions = asked("heuristic");
  ASSERT_EQ(questions.size(), 1u);
  // Columns first, as the library has it; 13 rows have the plan of 16.
  EXPECT_EQ(questions[0], "heuristic 24x16x24 batch 8 f32 tn chain workspace 0");
  certified.use_all_equal();
  forget();
  operation.run();
  EXPECT_EQ(asked(), std::vector<std::string>{"multiply 24x13x24 batch 8 f32 tn algorithm 1"});
}

/// An algorithm with other bits that says it sums in one go, and one that takes rows for
/// contiguous: the first is never used, the second not for what is written where it belongs.
TEST_F(LtStandIn, WithOtherBitsIsNeverUsed) {
  for (const char* words : {"secret", "gaps"}) {
    tell(words);
    for (const Operation& operation : operations()) {
      const auto expected = operation.run();
      WithProducts certified(Products::certified);
      operation.run();
      for (const auto& [shape, plan] : certified.plans()) {
        EXPECT_EQ(plan.offered, 2);
        EXPECT_EQ(plan.equal, shape.chains > 1 && words == std::string("gaps") ? 2 : 1)
            << operation.name << ", " << words;
      }
      certified.use_all_equal();
      EXPECT_EQ(operation.run(), expected) << operation.name << ", " << words;
    }
    const auto calls = asked("multiply");
    EXPECT_TRUE(std::any_of(calls.begin(), calls.end(), [](const std::string& line) {
      return !line.ends_with("algorithm 1");  // it was tried
    }));
  }
}

TEST_F(LtStandIn, ThatFailsOrOffersNothingLeavesOurKernels) {
  for (const char* words : {"fail:MatmulAlgoGetHeuristic", "fail:Matmul", "none"}) {
    tell(words);
    for (const Operation& operation : operations()) {
      const auto expected = operation.run();
      WithProducts certified(Products::certified);
      EXPECT_EQ(operation.run(), expected) << operation.name << ", " << words;
      for (const auto& [shape, plan] : certified.plans()) {
        EXPECT_FALSE(plan.use);
        EXPECT_EQ(plan.problem, std::string(words) == "fail:MatmulAlgoGetHeuristic"
                                    ? "cublasLtMatmulAlgoGetHeuristic: CUBLAS_STATUS_INTERNAL_ERROR"
                                    : "");
      }
    }
  }
  tell("fail:Create");
  EXPECT_THROW(WithProducts(Products::certified), LtError);
}

/// Results of 16 GiB, on a device of 4.
TEST_F(LtStandIn, IsNotUsedWhereThereIsNoMemoryToCompare) {
  tell("");
  const WithProducts certified(Products::certified);
  const std::size_t free = free_memory(device());
  const LtPlan plan =
      certified_plan(device(), lt_plans(device())->handle(),
                     {8192, 0, 1 << 19, 8, 1, Lies::inner, Lies::inner, false, false});
  EXPECT_FALSE(plan.use);
  EXPECT_EQ(plan.problem, "not enough memory to compare");
  EXPECT_EQ(free_memory(device()), free);
}

TEST_F(LtStandIn, ThatFailsLaterIsLeftForGood) {
  tell("");
  const Operation operation = input_gradient<Bf16>(SumOrder::leaves, {64, 128});
  const auto expected = operation.run();
  WithProducts certified(Products::certified);
  operation.run();
  certified.use_all_equal();
  tell("fail:Matmul");
  EXPECT_EQ(operation.run(), expected);
  tell("");
  forget();
  EXPECT_EQ(operation.run(), expected);
  EXPECT_TRUE(asked("heuristic").empty());
  std::size_t left = 0;
  for (const auto& [shape, plan] : certified.plans()) left += plan.problem.empty() ? 0 : 1;
  EXPECT_EQ(left, 1u);
}

TEST_F(LtStandIn, IsNotAskedForChainsThatBeginWithinABlockOrWithOldContents) {
  tell("");
  for (const auto& [starts, chain] : {std::pair{std::vector<std::int32_t>{0, 5, 55}, Chain::begin},
                                      {std::vector<std::int32_t>{0, 16, 48, 55}, Chain::resume}}) {
    const Operation operation = weight_gradient(starts, chain, 0);
    const auto expected = operation.run();
    const WithProducts certified(Products::certified);
    EXPECT_EQ(operation.run(), expected);
  }
  EXPECT_TRUE(asked().empty());
}

/// A product that is recorded, with its operands kept.
class Recorded {
 public:
  Recorded()
      : x_(bf16_test::random_halves(rows * inner, 1)),
        weight_(bf16_test::random_halves(columns * inner, 2)),
        y_(rows * columns) {}
  void queue() const {
    linear_forward(device(), y_.data(), columns, x_.data(), inner, weight_.data(), nullptr, rows,
                   columns, inner, SumOrder::chain, Update::overwrite);
  }
  std::vector<float> after_record() const {
    begin_recording(device());
    queue();
    const auto record = end_recording(device());
    if (record == nullptr) throw std::runtime_error("the record is spoilt");
    zero(device(), y_.data(), y_.size() * sizeof(float));
    queue_record(device(), *record);
    return y_.host();
  }
  std::vector<float> after_call() const {
    queue();
    return y_.host();
  }

 private:
  const fst::test::DeviceArray<Bf16> x_, weight_;
  const fst::test::DeviceArray<float> y_;
};

TEST_F(LtStandIn, IsAskedNothingInARecordingAndRecordedWhereItHasAPlan) {
  tell("");
  const Recorded product;
  const std::vector<float> expected = product.after_call();
  WithProducts certified(Products::certified);
  EXPECT_EQ(product.after_record(), expected);
  EXPECT_TRUE(asked().empty());
  EXPECT_TRUE(certified.plans().empty());  // the next call may make one
  product.after_call();
  certified.use_all_equal();
  forget();
  EXPECT_EQ(product.after_record(), expected);
  EXPECT_EQ(asked(), std::vector<std::string>{"multiply 24x13x192 batch 1 f32 tn algorithm 1"});
}

TEST_F(LtStandIn, InAnyOrderTakesTheFirstAlgorithmForTheWholeSum) {
  tell("");
  const WithProducts any(Products::any);
  forward<Bf16>(SumOrder::leaves, Update::add).run();
  input_gradient<float>(SumOrder::leaves, {64, 128}).run();
  weight_gradient({0, 5, 55}, Chain::resume, 1).run();
  const std::vector<std::string> expected{
      "heuristic 24x16x192 batch 1 bf16 tn any workspace 33554432",
      "multiply 24x13x192 batch 1 bf16 tn algorithm 2",
      "heuristic 24x16x192 batch 1 f32 nn any workspace 33554432",
      "multiply 24x13x192 batch 1 f32 nn algorithm 2",
      "heuristic 40x24x64 batch 1 f32 nt any workspace 33554432",
      "multiply 40x24x55 batch 1 f32 nt algorithm 2"};
  EXPECT_EQ(asked(), expected);
}

}  // namespace
}  // namespace fst::kernels::test
