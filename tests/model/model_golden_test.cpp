#include <algorithm>
#include <cctype>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "fst/model/qwen3.h"
#include "fst/model/token_head.h"

#include "nlohmann/json.hpp"
#include "support/golden_h5.h"

// The model against transformers in float64: every folder of golden model/, every case and
// gradient.
namespace fst {
namespace {

namespace fs = std::filesystem;
using testing::GoldenFile;

// golden/README.md, suggested tolerances for float32 arithmetic.
constexpr double logit_tolerance = 2e-4;
constexpr double logprob_tolerance = 1e-4;
constexpr double gradient_tolerance = 5e-5;  // relative L2 per parameter
// Hidden states are of the size of the final norm's weights, smaller than logits.
constexpr double hidden_tolerance = 1e-4;

fs::path golden_root() {
  const char* folder = std::getenv("FST_GOLDEN_DIR");
  return folder != nullptr ? folder : FST_GOLDEN_DEFAULT;
}

std::vector<std::string> model_folders() {
  std::vector<std::string> names;
  std::error_code missing;
  for (const auto& entry : fs::directory_iterator(golden_root() / "model", missing)) {
    if (entry.is_directory()) names.push_back(entry.path().filename().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

/// The folder whose golden.h5 speaks for `name`: SAME_AS names another one with the same weights.
fs::path reference_folder(const std::string& name) {
  const fs::path folder = golden_root() / "model" / name;
  std::ifstream same(folder / "SAME_AS");
  std::string other;
  if (same >> other) return golden_root() / "model" / fs::path(other).filename();
  return folder;
}

double worst_difference(const std::vector<float>& a, const std::vector<float>& b) {
  if (a.size() != b.size()) return HUGE_VAL;
  double worst = 0.0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double difference = std::abs(static_cast<double>(a[i]) - static_cast<double>(b[i]));
    worst = std::max(worst, std::isfinite(difference) ? difference : HUGE_VAL);
  }
  return worst;
}

double relative_l2(const float* found, const std::vector<float>& expected) {
  double error = 0.0, norm = 0.0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const double x = static_cast<double>(expected[i]);
    error += (static_cast<double>(found[i]) - x) * (static_cast<double>(found[i]) - x);
    norm += x * x;
  }
  return std::sqrt(error / norm);
}

std::vector<float> values_of(const Tensor& tensor) {
  return {tensor.data<float>(), tensor.data<float>() + tensor.size()};
}

class ModelGolden : public ::testing::TestWithParam<std::string> {
 protected:
  ModelGolden()
      : folder_(golden_root() / "model" / GetParam()),
        golden_(reference_folder(GetParam()) / "golden.h5"),
        config_(Qwen3Config::load(folder_)),
        parameters_(load_parameters(folder_, config_, cpu_)),
        model_(config_, cpu_, {Use::training, 512}),
        cache_(config_, cpu_, 1),
        packed_(cpu_),
        head_(cpu_) {
    model_.set_weights(parameters_);
  }

  std::vector<std::string> cases() const { return golden_.names("/case"); }
  std::vector<TokenId> tokens_of(const std::string& name) const {
    return golden_.ints("/case/" + name + "/tokens");
  }
  const Tensor& forward(const std::vector<std::vector<TokenId>>& sequences,
                        Activations* saved = nullptr) {
    packed_.pack(sequences);
    cache_.reserve(packed_.blocks());
    return model_.forward(packed_.batch(), cache_, saved);
  }
  std::vector<float> logits(const Tensor& hidden) {
    Buffer out(cpu_, DType::f32, {hidden.dim(0), config_.vocab_size});
    model_.logits(out.tensor(), hidden);
    return values_of(out.tensor());
  }
  std::vector<float> logprobs(const std::vector<TokenId>& tokens, const ops::TokenLaw& law) {
    std::vector<std::int32_t> rows(tokens.size() - 1);
    for (std::size_t t = 0; t < rows.size(); ++t) rows[t] = static_cast<std::int32_t>(t);
    const std::vector<TokenId> targets(tokens.begin() + 1, tokens.end());
    HeadOptions options;
    options.law = law;
    return head_.score(model_, forward({tokens}), {rows, targets}, options).logprob;
  }
  /// The temperature of datasets and gradients named ..._t06.
  float temperature_b() const {
    return static_cast<float>(golden_.attribute("/", "temperature_b", 0.6));
  }
  void expect_gradient(const std::string& kind);

  Device cpu_ = Device::cpu(2);
  fs::path folder_;
  GoldenFile golden_;
  Qwen3Config config_;
  Parameters parameters_;
  Qwen3 model_;
  KvCache cache_;
  PackedSequences packed_;
  TokenHead head_;
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
  std::vector<std::vector<TokenId>> sequences;
  std::vector<float> upstream;
  for (const std::string& name : cases()) {
    sequences.push_back(tokens_of(name));
    const auto weights = golden_.floats("/grad_weight/" + name);
    ASSERT_EQ(weights.size(), sequences.back().size() - 1);
    upstream.insert(upstream.end(), weights.begin(), weights.end());
  }
  if (kind == "ce") {
    std::fill(upstream.begin(), upstream.end(), -1.0f / static_cast<float>(upstream.size()));
  }
  Activations saved;
  const Tensor& hidden = forward(sequences, &saved);
  std::vector<std::int32_t> rows;
  std::vector<TokenId> targets;
  for (std::size_t s = 0; s < sequences.size(); ++s) {
    const std::int64_t first = packed_.first_row(static_cast<std::int64_t>(s));
    for (std::size_t t = 0; t + 1 < sequences[s].size(); ++t) {
      rows.push_back(static_cast<std::int32_t>(first) + static_cast<std::int32_t>(t));
      targets.push_back(sequences[s][t + 1]);
    }
  }
  HeadOptions options;
  options.law.temperature = kind.ends_with("_t06") ? temperature_b() : 1.0f;
  options.chunk_rows = 50;
  const HeadLoss loss = [&](const HeadChunk& chunk) {
    std::copy(upstream.begin() + chunk.begin, upstream.begin() + chunk.end, chunk.dlogprob.begin());
  };
  Gradients gradients(config_, cpu_);
  Buffer dhidden(cpu_, DType::f32, {hidden.dim(0), hidden.dim(1)});
  head_.backward(dhidden.tensor(), gradients, model_, hidden, {rows, targets}, options, {}, loss);
  model_.backward(packed_.batch(), cache_, saved, dhidden.tensor(), gradients);
  gradients.finish();
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
  EXPECT_EQ(load_parameters(target, config, cpu_).identity(), parameters_.identity());
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
