#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "golden_fixture.h"

// The model in bf16 against transformers in float64: at most as far off as transformers in bf16 is.
namespace fst {
namespace {

using testing::model_folders;
using testing::relative_l2;
using testing::values_of;

double rms_difference(const std::vector<float>& a, const std::vector<float>& b) {
  if (a.size() != b.size()) return HUGE_VAL;
  double sum = 0.0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double difference = static_cast<double>(a[i]) - static_cast<double>(b[i]);
    sum += difference * difference;
  }
  return std::isfinite(sum) ? std::sqrt(sum / static_cast<double>(a.size())) : HUGE_VAL;
}

class ModelBf16Golden : public testing::GoldenModel {
 protected:
  ModelBf16Golden() : GoldenModel(DType::bf16) {}
};

TEST_P(ModelBf16Golden, IsAsNearToTheLogitsAsTransformers) {
  ASSERT_FALSE(cases().empty());
  for (const std::string& name : cases()) {
    const std::string path = "/case/" + name;
    const Tensor& hidden = forward({tokens_of(name)});
    const auto first = static_cast<std::int64_t>(golden_.attribute(
        path + "/logits", "first_position", golden_.attribute(path, "first_position", 0.0)));
    const auto found = logits(hidden.rows(first, hidden.dim(0)));
    const double allowed = golden_.attribute(path, "logits_rms_err_bf16", 0.0);
    ASSERT_GT(allowed, 0.0) << path;
    EXPECT_LE(rms_difference(found, golden_.floats(path + "/logits")), allowed) << path;
  }
}

/// Greedy tokens agree up to the first position whose margin is within reach of the error.
TEST_P(ModelBf16Golden, DecodesTheGreedyTokensOfTransformers) {
  ASSERT_FALSE(cases().empty());
  for (const std::string& name : cases()) {
    const std::string path = "/case/" + name;
    auto tokens = tokens_of(name);
    const auto expected = golden_.ints(path + "/greedy_tokens");
    const auto margins = golden_.floats(path + "/greedy_margin");
    const double error = golden_.attribute(path, "logits_err_bf16", 0.0);
    ASSERT_GT(error, 0.0) << path;
    ASSERT_EQ(margins.size(), expected.size()) << path;
    for (std::size_t i = 0; i < expected.size(); ++i) {
      if (static_cast<double>(margins[i]) < 2.0 * error) break;
      const Tensor& hidden = forward({tokens});
      const auto last = logits(hidden.rows(hidden.dim(0) - 1, hidden.dim(0)));
      const auto best = std::max_element(last.begin(), last.end()) - last.begin();
      ASSERT_EQ(static_cast<TokenId>(best), expected[i]) << path << ", new token " << i;
      tokens.push_back(expected[i]);
    }
  }
}

TEST_P(ModelBf16Golden, IsAsNearToTheGradientsAsTransformers) {
  const auto kinds = golden_.names("/grad");
  ASSERT_FALSE(kinds.empty());
  for (const std::string& kind : kinds) {
    Gradients gradients(config_, cpu_);
    differentiate(kind, gradients);
    for (const std::string& name : golden_.names("/grad/" + kind)) {
      const std::string path = "/grad/" + kind + "/" + name;
      const double allowed = golden_.attribute(path, "rel_l2_err_bf16", 0.0);
      ASSERT_GT(allowed, 0.0) << path;
      EXPECT_LE(relative_l2(gradients.at(name).data<float>(), golden_.floats(path)), allowed)
          << path;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Folders, ModelBf16Golden, ::testing::ValuesIn(model_folders()),
                         [](const auto& folder) {
                           std::string name = folder.param;  // letters, digits and _ only
                           for (char& c : name)
                             c = std::isalnum(static_cast<unsigned char>(c)) ? c : '_';
                           return name;
                         });

}  // namespace
}  // namespace fst
