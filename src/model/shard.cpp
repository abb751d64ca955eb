#include "fst/model/shard.h"

#include "fst/base/error.h"

namespace fst {

namespace {

constexpr int degrees[] = {1, 2, 4, 8};

/// The greatest degree up to `limit` that divides n.
int nearest_degree(std::int64_t n, int limit) {
  int best = 1;
  for (const int degree : degrees) {
    if (degree <= limit && n % degree == 0) best = degree;
  }
  return best;
}

}  // namespace

Shard shard_of(const TensorParallel* unit) {
  if (unit == nullptr || unit->size() <= 1) return {};
  return {unit->rank(), unit->size()};
}

std::vector<std::string> shard_problems(const Qwen3Config& config, int degree) {
  if (degree != 1 && degree != 2 && degree != 4 && degree != 8) {
    return {"a model cannot be shared by " + std::to_string(degree) +
            " ranks; expected 1, 2, 4 or 8"};
  }
  std::vector<std::string> problems;
  const auto divide = [&](const char* name, std::int64_t n) {
    if (n % degree == 0) return;
    problems.push_back(std::string(name) + " " + std::to_string(n) + " cannot be shared by " +
                       std::to_string(degree) + " ranks; the nearest that can is " +
                       std::to_string(nearest_degree(n, degree)));
  };
  divide("num_attention_heads", config.num_attention_heads);
  divide("num_key_value_heads", config.num_key_value_heads);
  divide("intermediate_size", config.intermediate_size);
  divide("vocab_size", config.vocab_size);
  return problems;
}

void expect_shardable(const Qwen3Config& config, int degree) {
  std::string all;
  for (const std::string& problem : shard_problems(config, degree)) {
    all += (all.empty() ? "" : "\n") + problem;
  }
  if (!all.empty()) throw InputError(all);
}

Qwen3Config local_config(const Qwen3Config& config, const Shard& shard) {
  expect_shardable(config, shard.degree);
  Qwen3Config local = config;
  local.num_attention_heads /= shard.degree;
  local.num_key_value_heads /= shard.degree;
  local.intermediate_size /= shard.degree;
  return local;
}

Range vocab_range(const Qwen3Config& config, const Shard& shard) {
  return part_of(config.vocab_size, shard.degree, shard.rank);
}

}  // namespace fst
