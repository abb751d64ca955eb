#include <algorithm>
#include <cctype>
#include <filesystem>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "golden_fixture.h"
#include "nlohmann/json.hpp"

// The model against transformers in float64: every folder of golden model/, every case and
// gradient.
namespace fst {
namespace {

namespace fs = std::filesystem;
using testing::golden_root;
using testing::model_folders;
using testing::relative_l2;
using testing::values_of;
using testing::worst_difference;

// golden/README.md, suggested tolerances for float32 arithmetic.
constexpr double logit_tolerance = 2e-4;
constexpr double logprob_tolerance = 1e-4;
constexpr double gradient_tolerance = 5e-5;  // relative L2 per parameter
// Hidden states are of the size of the final norm's weights, smaller than logits.
constexpr double hidden_tolerance = 1e-4;

class ModelGolden : public testing::GoldenModel {
 protected:
  void expect_gradient(const std::string& kind);
};

TEST(ModelGoldenData, IsThere) {
  EXPECT_FALSE(model_folders().empty()) << golden_root();
}

TEST_P(ModelGolden, HasTheLogitsAndHiddenStatesOfTransformers) {
  ASSERT_FALSE(cases().empty());
  for (const std::string& name : cases()) {
    const std::string path = "/case/" + name;
    const auto tokens = tokens_of(name);
    const Tensor& hidden = forward({tokens});
    const auto first = static_cast<std::int64_t>(golden_.attribute(
        path + "/logits", "first_position", golden_.attribute(path, "first_position", 0.0)));
    const auto found = logits(hidden.rows(first, hidden.dim(0)));
    EXPECT_LE(worst_difference(found, golden_.floats(path + "/logits")), logit_tolerance) << path;
    if (golden_.exists(path + "/hidden")) {
      const auto expected = golden_.floats(path + "/hidden");
      EXPECT_LE(worst_difference(values_of(hidden), expected), hidden_tolerance) << path;
    }
  }
}

TEST_P(ModelGolden, HasTheLogProbabilitiesOfTransformers) {
  ASSERT_FALSE(cases().empty());
  const auto masked_vocab =
      static_cast<std::int64_t>(golden_.attribute("/", "tokenizer_vocab", 0.0));
  for (const std::string& name : cases()) {
    const std::string path = "/case/" + name;
    const auto tokens = tokens_of(name);
    const auto compare = [&](const std::string& dataset, const ops::TokenLaw& law) {
      const auto expected = golden_.floats(path + "/" + dataset);
      EXPECT_LE(worst_difference(logprobs(tokens, law), expected), logprob_tolerance)
          << path << "/" << dataset;
    };
    compare("logprob", {1.0f, config_.vocab_size});
    compare("logprob_t06", {temperature_b(), config_.vocab_size});
    if (golden_.exists(path + "/logprob_masked")) {
      ASSERT_GT(masked_vocab, 0);
      compare("logprob_masked", {1.0f, masked_vocab});
    }
  }
}

TEST_P(ModelGolden, DecodesTheGreedyTokensOfTransformers) {
  ASSERT_FALSE(cases().empty());
  for (const std::string& name : cases()) {
    const std::string path = "/case/" + name;
    auto tokens = tokens_of(name);
    const auto prompt = static_cast<std::ptrdiff_t>(tokens.size());
    const auto expected = golden_.ints(path + "/greedy_tokens");
    for (std::size_t i = 0; i < expected.size(); ++i) {
      const Tensor& hidden = forward({tokens});
      const auto last = logits(hidden.rows(hidden.dim(0) - 1, hidden.dim(0)));
      const auto best = std::max_element(last.begin(), last.end()) - last.begin();
      tokens.push_back(static_cast<TokenId>(best));
    }
    EXPECT_EQ(std::vector<TokenId>(tokens.begin() + prompt, tokens.end()), expected) << path;
    const auto all = logprobs(tokens, {1.0f, config_.vocab_size});
    const std::vector<float> found(all.begin() + prompt - 1, all.end());
    EXPECT_LE(worst_difference(found, golden_.floats(path + "/greedy_logprob")), logprob_tolerance)
        << path;
  }
}

void ModelGolden::expect_gradient(const std::string& kind) {
  Gradients gradients(config_, cpu_);
  differentiate(kind, gradients);
  const auto names = golden_.names("/grad/" + kind);
  EXPECT_EQ(names.size(), gradients.specs().size());
  for (const std::string& name : names) {
    const auto expected = golden_.floats("/grad/" + kind + "/" + name);
    const Tensor found = gradients.at(name);
    ASSERT_EQ(found.size(), static_cast<std::int64_t>(expected.size())) << name;
    EXPECT_LE(relative_l2(found.data<float>(), expected), gradient_tolerance)
        << kind << "/" << name;
  }
}

TEST_P(ModelGolden, HasTheGradientsOfTransformers) {
  const auto kinds = golden_.names("/grad");
  ASSERT_FALSE(kinds.empty());
  for (const std::string& kind : kinds) expect_gradient(kind);
}

TEST_P(ModelGolden, IsReadBackAsExported) {
  const fs::path target = fs::temp_directory_path() / ("fst_golden_export_" + GetParam());
  export_folder(target, parameters_, DType::f32, folder_);
  const Qwen3Config config = Qwen3Config::load(target);
  EXPECT_EQ(config, config_);
  EXPECT_EQ(testing::identity_of(load_parameters(target, config, cpu_)),
            testing::identity_of(parameters_));
  fs::remove_all(target);
}

INSTANTIATE_TEST_SUITE_P(Folders, ModelGolden, ::testing::ValuesIn(model_folders()),
                         [](const auto& folder) {
                           std::string name = folder.param;  // letters, digits and _ only
                           for (char& c : name)
                             c = std::isalnum(static_cast<unsigned char>(c)) ? c : '_';
                           return name;
                         });

}  // namespace
}  // namespace fst
