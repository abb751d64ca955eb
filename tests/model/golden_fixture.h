#pragma once

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "fst/model/qwen3.h"
#include "fst/model/token_head.h"

#include "model_fixture.h"
#include "support/golden_h5.h"

/// The models of golden model/ with what transformers said of them.
namespace fst::testing {

inline std::filesystem::path golden_root() {
  const char* folder = std::getenv("FST_GOLDEN_DIR");
  return folder != nullptr ? folder : FST_GOLDEN_DEFAULT;
}

inline std::vector<std::string> model_folders() {
  std::vector<std::string> names;
  std::error_code missing;
  for (const auto& entry : std::filesystem::directory_iterator(golden_root() / "model", missing)) {
    if (entry.is_directory()) names.push_back(entry.path().filename().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

/// The folder whose golden.h5 speaks for `name`: SAME_AS names another one with the same weights.
inline std::filesystem::path reference_folder(const std::string& name) {
  const std::filesystem::path folder = golden_root() / "model" / name;
  std::ifstream same(folder / "SAME_AS");
  std::string other;
  if (same >> other) return golden_root() / "model" / std::filesystem::path(other).filename();
  return folder;
}

inline double worst_difference(const std::vector<float>& a, const std::vector<float>& b) {
  if (a.size() != b.size()) return HUGE_VAL;
  double worst = 0.0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double difference = std::abs(static_cast<double>(a[i]) - static_cast<double>(b[i]));
    worst = std::max(worst, std::isfinite(difference) ? difference : HUGE_VAL);
  }
  return worst;
}

inline double relative_l2(const float* found, const std::vector<float>& expected) {
  double error = 0.0, norm = 0.0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const double x = static_cast<double>(expected[i]);
    error += (static_cast<double>(found[i]) - x) * (static_cast<double>(found[i]) - x);
    norm += x * x;
  }
  return std::sqrt(error / norm);
}

/// One model in arithmetic of one dtype.
class GoldenModel : public ::testing::TestWithParam<std::string> {
 protected:
  explicit GoldenModel(DType dtype = DType::f32)
      : folder_(golden_root() / "model" / GetParam()),
        golden_(reference_folder(GetParam()) / "golden.h5"),
        config_(Qwen3Config::load(folder_)),
        parameters_(load_parameters(folder_, config_, cpu_, {}, {dtype})),
        model_(config_, cpu_, {Use::training, 512, dtype}),
        cache_(config_, cpu_, 1, dtype),
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
  /// The gradient of all cases together, finished: kind "ce", "pg" or "pg_t06".
  void differentiate(const std::string& kind, Gradients& gradients);

  Device cpu_ = Device::cpu(2);
  std::filesystem::path folder_;
  GoldenFile golden_;
  Qwen3Config config_;
  Parameters parameters_;
  Qwen3 model_;
  KvCache cache_;
  PackedSequences packed_;
  TokenHead head_;
};

inline void GoldenModel::differentiate(const std::string& kind, Gradients& gradients) {
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
  std::vector<std::int32_t> first_entries;
  for (std::size_t s = 0; s < sequences.size(); ++s) {
    const std::int64_t first = packed_.first_row(static_cast<std::int64_t>(s));
    first_entries.push_back(static_cast<std::int32_t>(rows.size()));
    for (std::size_t t = 0; t + 1 < sequences[s].size(); ++t) {
      rows.push_back(static_cast<std::int32_t>(first) + static_cast<std::int32_t>(t));
      targets.push_back(sequences[s][t + 1]);
    }
  }
  first_entries.push_back(static_cast<std::int32_t>(rows.size()));
  HeadOptions options;
  options.law.temperature = kind.ends_with("_t06") ? temperature_b() : 1.0f;
  options.chunk_rows = 50;
  const HeadLoss loss = [&](const HeadChunk& chunk) {
    std::copy(upstream.begin() + chunk.begin, upstream.begin() + chunk.end, chunk.dlogprob.begin());
  };
  Buffer dhidden(cpu_, model_.dtype(), {hidden.dim(0), hidden.dim(1)});
  head_.backward(dhidden.tensor(), gradients, model_, hidden, {rows, targets, first_entries},
                 options, {}, loss);
  model_.backward(packed_.batch(), cache_, saved, dhidden.tensor(), gradients);
  gradients.finish();
}

}  // namespace fst::testing
