#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

#include "fst/model/parameters.h"

namespace fst::testing {

/// The decoders in double precision, one token after another, written from the papers and for
/// reading only: shares nothing with the engine but the table of names. Parameters may be changed
/// between calls, which makes it the judge of gradients too.
class ReferenceModel {
 public:
  using Row = std::vector<double>;

  explicit ReferenceModel(const Parameters& parameters) : config_(parameters.config()) {
    for (const ParameterSpec& spec : parameters.specs()) {
      const float* values = parameters.flat().data<float>() + spec.offset;
      values_[spec.name] = Row(values, values + spec.size());
    }
  }

  Row& at(const std::string& name) { return values_.at(name); }

  /// Logits of every position, [T][V].
  std::vector<Row> logits(const std::vector<TokenId>& tokens) const {
    std::vector<std::vector<Row>> keys(layers()), values(layers());
    std::vector<Row> all;
    for (std::size_t position = 0; position < tokens.size(); ++position) {
      const auto size = static_cast<std::size_t>(config_.hidden_size);
      const double* entry = table("model.embed_tokens.weight").data() +
                            static_cast<std::size_t>(tokens[position]) * size;
      Row x(entry, entry + size);
      for (std::size_t l = 0; l < layers(); ++l) {
        const std::string prefix = "model.layers." + std::to_string(l) + ".";
        add_to(x, attention(prefix + "self_attn.", norm(x, prefix + "input_layernorm.weight"),
                            position, keys[l], values[l]));
        add_to(x, mlp(prefix + "mlp.", norm(x, prefix + "post_attention_layernorm.weight")));
      }
      const bool tied = config_.tie_word_embeddings;
      all.push_back(times(tied ? "model.embed_tokens.weight" : "lm_head.weight",
                          norm(x, "model.norm.weight")));
    }
    return all;
  }

  /// log softmax(logits / temperature) over the first `vocab` entries.
  static Row log_softmax(const Row& logits, double temperature, std::size_t vocab) {
    double top = logits[0], sum = 0.0;
    for (std::size_t v = 0; v < vocab; ++v) top = std::max(top, logits[v]);
    for (std::size_t v = 0; v < vocab; ++v) sum += std::exp((logits[v] - top) / temperature);
    Row out(vocab);
    for (std::size_t v = 0; v < vocab; ++v) {
      out[v] = (logits[v] - top) / temperature - std::log(sum);
    }
    return out;
  }

 private:
  std::size_t layers() const { return static_cast<std::size_t>(config_.num_hidden_layers); }
  const Row& table(const std::string& name) const { return values_.at(name); }

  static void add_to(Row& x, const Row& y) {
    for (std::size_t i = 0; i < x.size(); ++i) x[i] += y[i];
  }

  Row times(const std::string& name, const Row& x) const {
    const Row& weight = table(name);
    Row y(weight.size() / x.size(), 0.0);
    for (std::size_t n = 0; n < y.size(); ++n) {
      for (std::size_t k = 0; k < x.size(); ++k) y[n] += weight[n * x.size() + k] * x[k];
    }
    return y;
  }

  Row projection(const std::string& name, const Row& x) const {
    Row y = times(name + ".weight", x);
    if (config_.qkv_bias()) add_to(y, table(name + ".bias"));
    return y;
  }

  Row norm(const Row& x, const std::string& weight) const {
    double squares = 0.0;
    for (const double value : x) squares += value * value;
    const double mean = squares / static_cast<double>(x.size());
    const double scale = 1.0 / std::sqrt(mean + static_cast<double>(config_.rms_norm_eps));
    Row y(x.size());
    for (std::size_t i = 0; i < x.size(); ++i) y[i] = x[i] * scale * table(weight)[i];
    return y;
  }

  /// The heads of a projection, each normalised (qwen3) and turned. Frequencies and angles are
  /// taken in float32, as transformers does.
  std::vector<Row> heads(const Row& x, const std::string& weight, std::size_t position,
                         bool turned) const {
    const auto size = static_cast<std::size_t>(config_.head_dim), half = size / 2;
    std::vector<Row> all;
    for (std::size_t begin = 0; begin < x.size(); begin += size) {
      Row head(x.begin() + static_cast<std::ptrdiff_t>(begin),
               x.begin() + static_cast<std::ptrdiff_t>(begin + size));
      if (turned && config_.qk_norm()) head = norm(head, weight);
      Row out = head;
      for (std::size_t i = 0; turned && i < half; ++i) {
        const float exponent = static_cast<float>(2 * i) / static_cast<float>(size);
        const auto power = static_cast<float>(std::pow(config_.rope_theta, exponent));
        const double angle = static_cast<float>(position) * (1.0f / power);
        out[i] = head[i] * std::cos(angle) - head[i + half] * std::sin(angle);
        out[i + half] = head[i + half] * std::cos(angle) + head[i] * std::sin(angle);
      }
      all.push_back(out);
    }
    return all;
  }

  /// keys, values: [tokens so far * KV heads], appended to.
  Row attention(const std::string& prefix, const Row& x, std::size_t position,
                std::vector<Row>& keys, std::vector<Row>& values) const {
    const auto q =
        heads(projection(prefix + "q_proj", x), prefix + "q_norm.weight", position, true);
    for (Row& k :
         heads(projection(prefix + "k_proj", x), prefix + "k_norm.weight", position, true)) {
      keys.push_back(std::move(k));
    }
    for (Row& v : heads(projection(prefix + "v_proj", x), "", position, false)) {
      values.push_back(std::move(v));
    }
    const auto kv_heads = static_cast<std::size_t>(config_.num_key_value_heads);
    const std::size_t shared = q.size() / kv_heads, size = q[0].size();
    Row joined(q.size() * size, 0.0);
    for (std::size_t h = 0; h < q.size(); ++h) {
      Row scores;
      for (std::size_t t = 0; t <= position; ++t) {
        double score = 0.0;
        const Row& k = keys[t * kv_heads + h / shared];
        for (std::size_t i = 0; i < size; ++i) score += q[h][i] * k[i];
        scores.push_back(score / std::sqrt(static_cast<double>(size)));
      }
      const Row weights = log_softmax(scores, 1.0, scores.size());
      for (std::size_t t = 0; t <= position; ++t) {
        const Row& v = values[t * kv_heads + h / shared];
        for (std::size_t i = 0; i < size; ++i) joined[h * size + i] += std::exp(weights[t]) * v[i];
      }
    }
    return times(prefix + "o_proj.weight", joined);
  }

  Row mlp(const std::string& prefix, const Row& x) const {
    Row gate = times(prefix + "gate_proj.weight", x);
    const Row up = times(prefix + "up_proj.weight", x);
    for (std::size_t i = 0; i < gate.size(); ++i) gate[i] *= up[i] / (1.0 + std::exp(-gate[i]));
    return times(prefix + "down_proj.weight", gate);
  }

  Qwen3Config config_;
  std::unordered_map<std::string, Row> values_;
};

}  // namespace fst::testing
