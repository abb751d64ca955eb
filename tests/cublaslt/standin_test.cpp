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

TEST_F(LtStandIn, IsFoundEqualForEveryPlannedProductAndCalledForIt) {
  tell("");
  for (const Operation& operation : operations()) {
    const auto expected = operation.run();
    WithProducts certified(Products::certified, {operation.planned});
    EXPECT_EQ(certified.made().certified, certified.made().shapes) << operation.name;
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
    EXPECT_EQ(products_met(device()).others, 0) << operation.name;
  }
}

TEST_F(LtStandIn, IsAskedOnceForAShapeWithoutSplitSumsOrMemory) {
  tell("");
  const Operation operation = forward<Bf16>(SumOrder::leaves, Update::overwrite);
  WithProducts certified(Products::certified, {operation.planned, operation.planned});
  const std::vector<std::string> questions = asked("heuristic");
  ASSERT_EQ(questions.size(), 1u);
  // Columns first, as the library has it.
  EXPECT_EQ(questions[0], "heuristic 24x13x24 batch 8 f32 tn chain workspace 0");
  EXPECT_EQ(asked("multiply 24x1x24 ").size(), 6u);  // the fewest of the shape
  EXPECT_EQ(asked("multiply 24x7x24 ").size(), 2u);
  EXPECT_LE(asked("multiply").size(), 28u);  // 14 to compare, at most as many to time
  certified.use_all_equal();
  forget();
  operation.run();
  EXPECT_EQ(asked(), std::vector<std::string>{"multiply 24x13x24 batch 8 f32 tn algorithm 1"});
}

/// The wrong algorithms of library.cpp, some at a time; only the right one stays, and those that
/// are wrong in what a product does not have.
TEST_F(LtStandIn, WithAnotherSumIsNeverUsed) {
  for (const std::string words : {"secret gaps flush begin", "turns backwards tail terms cut"}) {
    tell(words);
    for (const Operation& operation : operations()) {
      const auto expected = operation.run();
      WithProducts certified(Products::certified, {operation.planned});
      for (const auto& [shape, plan] : certified.plans()) {
        const bool first = words.starts_with("secret");
        const int inner = shape.a_lies == Lies::outer ? plan.most_tokens : shape.inner;
        // Leaves have no gaps, what is not added to has no old contents; a float is not cut, and
        // one block has one order.
        const int harmless = first ? (shape.chains > 1 ? 1 : 0) + (shape.add ? 0 : 1)
                                   : (shape.narrow ? 0 : 1) + (inner <= tensor_block ? 2 : 0);
        EXPECT_EQ(plan.offered, first ? 5 : 6) << operation.name;
        EXPECT_EQ(plan.equal, 1 + harmless) << operation.name << ", " << words;
      }
      certified.use_all_equal();
      EXPECT_EQ(operation.run(), expected) << operation.name << ", " << words;
    }
  }
}

TEST_F(LtStandIn, ThatFailsOrOffersNothingLeavesOurKernels) {
  for (const char* words :
       {"fail:MatmulAlgoGetHeuristic", "fail:Matmul", "fail:Attributes", "none"}) {
    tell(words);
    for (const Operation& operation : {forward<Bf16>(SumOrder::chain, Update::overwrite),
                                       input_gradient<Bf16>(SumOrder::leaves, {64, 128})}) {
      const auto expected = operation.run();
      WithProducts certified(Products::certified, {operation.planned});
      EXPECT_EQ(certified.made().certified, 0) << operation.name << ", " << words;
      EXPECT_EQ(operation.run(), expected) << operation.name << ", " << words;
      for (const auto& [shape, plan] : certified.plans()) {
        EXPECT_FALSE(plan.use);
        EXPECT_EQ(plan.problem, std::string(words) == "fail:MatmulAlgoGetHeuristic"
                                    ? "cublasLtMatmulAlgoGetHeuristic: CUBLAS_STATUS_INTERNAL_ERROR"
                                    : "");
      }
    }
  }
}

TEST_F(LtStandIn, ThatCannotBeginIsNotUsed) {
  tell("fail:Create");
  EXPECT_EQ(use_products(device(), Products::certified),
            "cublasLtCreate: CUBLAS_STATUS_INTERNAL_ERROR");
  EXPECT_EQ(lt_plans(device()), nullptr);
}

/// Results of 16 GiB, on a device of 4.
TEST_F(LtStandIn, IsNotUsedWhereThereIsNoMemoryToCompare) {
  tell("");
  const std::size_t free = free_memory(device());
  const WithProducts certified(Products::certified,
                               {{.n = {1 << 19}, .k = 64, .fewest = 8192, .most = 8192}});
  EXPECT_EQ(certified.made().shapes, 1);
  EXPECT_EQ(certified.made().no_room, 1);
  EXPECT_EQ(free_memory(device()), free);
}

TEST_F(LtStandIn, GivesBackAllMemoryThatComparingTook) {
  tell("");
  const Operation operation = input_gradient<Bf16>(SumOrder::leaves, {64, 128});
  const std::size_t free = free_memory(device()), scratch = most_scratch(device());
  const WithProducts certified(Products::certified, {operation.planned});
  EXPECT_EQ(certified.made().certified, 2);
  EXPECT_EQ(free_memory(device()), free);
  EXPECT_EQ(most_scratch(device()), scratch);
}

TEST_F(LtStandIn, HasAPlanForAsManyTokensAsWerePlannedAndNoMore) {
  tell("");
  PlannedProduct planned{.n = {24}, .k = 16, .narrow = true, .most = 35};
  const auto tokens = [&] {
    const WithProducts certified(Products::certified, {planned});
    std::vector<int> all;
    for (const auto& [shape, plan] : lt_plans(device())->all()) all.push_back(shape.tokens);
    return all;
  };
  EXPECT_EQ(tokens(), (std::vector<int>{16, 32, 64}));
  planned.fewest = 17;
  EXPECT_EQ(tokens(), (std::vector<int>{32, 64}));
  const Operation operation = forward<Bf16>(SumOrder::chain, Update::overwrite);  // of 13 rows
  planned = operation.planned;
  planned.most = 12;
  const auto expected = operation.run();
  const WithProducts certified(Products::certified, {planned});
  forget();
  EXPECT_EQ(operation.run(), expected);
  EXPECT_TRUE(asked().empty());
  EXPECT_EQ(products_met(device()).planned, 0);
  EXPECT_EQ(products_met(device()).others, 1);
}

/// The sums of eight leaves lie side by side until they are joined.
TEST_F(LtStandIn, IsNotUsedWhereItsSumsDoNotFitInWhatWasLent) {
  tell("");
  const Operation operation = forward<Bf16>(SumOrder::leaves, Update::overwrite);
  const auto expected = operation.run();
  const std::int64_t sums = 8 * rows * columns * sizeof(float);
  WithProducts certified(Products::certified, {operation.planned});
  certified.use_all_equal();
  const fst::test::DeviceArray<float> lent(2 * sums / sizeof(float));
  for (const auto& [bytes, used] : {std::pair{sums - 16, 0u}, {sums, 1u}}) {
    lend_scratch(device(), lent.data(), static_cast<std::size_t>(bytes));
    forget();
    EXPECT_EQ(operation.run(), expected);
    EXPECT_EQ(asked("multiply").size(), used);
    lend_scratch(device(), nullptr, 0);
  }
  EXPECT_EQ(plan_products(device(), {}, 0).shapes, 1);
  use_products(device(), Products::certified);
  const std::vector<PlannedProduct> planned{operation.planned};
  EXPECT_EQ(plan_products(device(), planned, 8 * columns * sizeof(float) - 16).shapes, 0);
  EXPECT_EQ(plan_products(device(), planned, 8 * columns * sizeof(float)).shapes, 1);
}

TEST_F(LtStandIn, ThatFailsLaterIsLeftForGood) {
  tell("");
  const Operation operation = input_gradient<Bf16>(SumOrder::leaves, {64, 128});
  const auto expected = operation.run();
  WithProducts certified(Products::certified, {operation.planned});
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
    WithProducts certified(Products::certified, {operation.planned});
    certified.use_all_equal();
    forget();
    EXPECT_EQ(operation.run(), expected);
    EXPECT_TRUE(asked().empty());
  }
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

TEST_F(LtStandIn, IsRecordedWhereItHasAPlan) {
  tell("");
  const Recorded product;
  const std::vector<float> expected = product.after_call();
  const Operation alike = forward<float>(SumOrder::chain, Update::overwrite);
  for (const bool planned : {false, true}) {
    WithProducts certified(Products::certified,
                           planned ? std::vector{alike.planned} : std::vector<PlannedProduct>{});
    certified.use_all_equal();
    forget();
    EXPECT_EQ(product.after_record(), expected);
    EXPECT_TRUE(asked("heuristic").empty());
    EXPECT_EQ(asked("multiply").size(), planned ? 1u : 0u);
  }
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
