#include <algorithm>
#include <fstream>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "fst/model/token_head.h"
#include "fst/tensor/host_view.h"
#include "fst/tensor/ops.h"

#include "emulator/record.h"
#include "gpu/decode_step.h"
#include "kernels/exact_sum.h"
#include "roofline/promise.h"
#include "tiny_model.h"

/// What the kernels move and multiply, counted access by access, beside the least that their
/// operation is (noted_*.h).
namespace fst::roofline {
namespace {

using emulator::LaunchRecord;

/// Below, a vector of a few floats or a sector that is only half used is more than a twentieth.
constexpr std::int64_t meaningful_bytes = 16 << 10;

/// Sizes that fill sectors and tiles; those of heads and vocabulary are a model's.
Qwen3Config aligned_config() {
  Qwen3Config config = testing::tiny_config();
  config.vocab_size = 1024;
  config.hidden_size = 128;
  config.intermediate_size = 256;
  config.num_hidden_layers = 1;
  config.num_attention_heads = 4;
  config.num_key_value_heads = 2;
  config.head_dim = 64;
  return config;
}

Parameters parameters_on(const Device& device, const Qwen3Config& config, const Holding& holding) {
  return testing::held(testing::random_parameters(config, Device::cpu(), 7), holding, device);
}

/// Without the innermost arguments: schedules count, but not their sizes.
std::string name_of(const std::string& kernel) {
  return kernel.substr(0, kernel.rfind('<'));
}

class TrafficTest : public ::testing::Test {
 protected:
  void SetUp() override { emulator::record_launches(emulator::Recording::counts); }
  void TearDown() override { emulator::record_launches(emulator::Recording::off); }

  void expect_promise_kept() {
    for (const Ran& ran : operations_that_ran(device_)) {
      for (const LaunchRecord& launch : ran.launches) {
        met_.insert(name_of(emulator::kernel_name(launch.kernel)));
      }
      if (ran.operation->work.bytes() < meaningful_bytes) continue;
      EXPECT_EQ(broken_promise(ran), "");
    }
  }

  Tensor ones(std::initializer_list<std::int64_t> shape) {
    buffers_.push_back(std::make_unique<Buffer>(device_, DType::f32, shape));
    ops::fill(buffers_.back()->tensor(), 1.0f);
    return buffers_.back()->tensor();
  }

  void train(DType dtype);
  void decode(DType dtype);
  void move_tensors();
  void sample();
  void multiply_many_tiles();

  const Device device_ = Device::cuda(0);
  const Qwen3Config config_ = aligned_config();
  std::set<std::string> met_;
  std::vector<std::unique_ptr<Buffer>> buffers_;
};

/// A forward and a backward pass with all terms of the loss, and an update.
void TrafficTest::train(DType dtype) {
  const Range whole{0, config_.parameter_count()};
  Parameters parameters = parameters_on(device_, config_, {dtype, whole});
  Qwen3 model(config_, device_, {.use = Use::training, .max_positions = 128, .dtype = dtype});
  model.set_weights(parameters);
  PackedSequences packed(device_);
  const TokenBatch& batch = packed.pack({testing::random_tokens(128, 1024, 1)});
  KvCache cache(config_, device_, packed.blocks(), dtype);
  Activations saved;
  const Tensor& hidden = model.forward(batch, cache, &saved);
  Buffer reference(device_, dtype, {128, config_.hidden_size});
  ops::convert(reference.tensor(), hidden);
  std::vector<std::int32_t> rows(128);
  for (std::size_t i = 0; i < rows.size(); ++i) rows[i] = static_cast<std::int32_t>(i);
  const std::vector<TokenId> targets = testing::random_tokens(128, 1024, 3);
  Gradients gradients(config_, device_);
  gradients.zero();
  TokenHead head(device_);
  Buffer dhidden(device_, dtype, {128, config_.hidden_size});
  head.backward(dhidden.tensor(), gradients, model, hidden, {rows, targets},
                {.law = {1.0f, 1024}, .chunk_rows = 128, .entropy = true},
                {&model, reference.tensor()}, [](const HeadChunk& chunk) {
                  for (auto d : {chunk.dlogprob, chunk.dentropy, chunk.dkl}) {
                    std::fill(d.begin(), d.end(), 0.01f);
                  }
                });
  model.backward(batch, cache, saved, dhidden.tensor(), gradients);
  const Tensor& gradient = gradients.finish();
  kernels::ExactSum squares;
  ops::sum_of_squares(squares, gradient);
  Tensor m = ones({gradient.size()}), v = ones({gradient.size()});
  Tensor masters = parameters.masters(whole);
  ops::adamw(masters, m, v, gradient, {1e-3, 0.9, 0.99, 1e-8, 0.1, 0.1, 0.01, 1.0f});
  expect_promise_kept();
}

void TrafficTest::decode(DType dtype) {
  constexpr std::int64_t context = 2047;  // two splits
  Qwen3 model(config_, device_,
              {.use = Use::inference, .max_positions = context + 1, .dtype = dtype});
  model.set_weights(parameters_on(device_, config_, {dtype}));
  DecodeStep step(model, 8, context);  // rows of a tensor core's tile
  step();
  expect_promise_kept();
}

/// What no step above does: moves between types, shards of a law, products of many tiles.
void TrafficTest::move_tensors() {
  constexpr std::int64_t rows = 64, columns = 512;
  Tensor x = ones({rows, columns}), y = ones({rows, columns});
  Buffer half(device_, DType::bf16, {rows, columns});
  ops::convert(half.tensor(), x);
  ops::convert(y, half.tensor());
  ops::copy_rows(y, x);
  ops::add(y, x);
  const std::vector<Tensor> parts{x, x, x, x};
  ops::join(y, parts, std::vector<std::int32_t>{0, 1, 0, 2});
  const ops::TokenLaw law{1.0f, 4096};
  Tensor logits = ones({16, 4096}), lse = ones({16, 2}), sums = ones({16, 8});
  Tensor pairs = ones({16, 8, 2}), value = ones({16});
  ops::token_lse_leaves(pairs, logits, law, {});
  ops::join_lse(lse, Tensor(device_, DType::f32, pairs.raw(), {1, 16, 8, 2}), law);
  ops::token_entropy_leaves(sums, logits, lse, law, {});
  const Tensor all_sums(device_, DType::f32, sums.raw(), {1, 16, 8});
  ops::join_entropy(value, all_sums);
  ops::token_kl_leaves(sums, logits, lse, logits, lse, law, {});
  ops::join_kl(value, all_sums);
  Tensor dbias = ones({columns});
  ops::bias_backward(dbias, x);
  ops::bias_backward(dbias, half.tensor());
  expect_promise_kept();
}

void TrafficTest::sample() {
  constexpr std::int64_t vocab = 32768;
  std::vector<float> values(2 * vocab);
  Rng rng(3, Purpose::initial_weights, {});
  for (float& value : values) value = static_cast<float>(4.0 * rng.normal());
  Tensor logits = ones({2, vocab}), logprob = ones({2});
  copy_in(logits, std::span<const float>(values));
  Buffer tokens(device_, DType::i32, {2}), keys(device_, DType::i64, {2});
  Buffer places(device_, DType::i32, {2}), ids(device_, DType::i32, {vocab});
  copy_in(keys.tensor(), std::span<const std::int64_t>(std::vector<std::int64_t>{5, 6}));
  copy_in(places.tensor(), std::span<const std::int32_t>(std::vector<std::int32_t>{0, 1}));
  ops::sample_tokens(tokens.tensor(), logprob, logits, keys.tensor(), places.tensor(),
                     {.temperature = 0.9f, .vocab = vocab});
  ops::sample_tokens(tokens.tensor(), logprob, logits, keys.tensor(), places.tensor(),
                     {.temperature = 0.9f, .top_k = 100, .vocab = vocab});
  Tensor probability = ones({vocab});
  ops::kept_tokens(ids.tensor(), probability, logits.rows(0, 1), {.top_p = 0.5f, .vocab = vocab});
  expect_promise_kept();
}

/// Products of so many tiles that blocks keep their trees.
void TrafficTest::multiply_many_tiles() {
  Tensor x = ones({1536, 32}), weight = ones({1408, 32}), y = ones({1536, 1408});
  Tensor packed = ones({ops::packed_size(DType::f32, 1408, 32, ops::Sum::leaves)});
  ops::pack_weight(packed, weight, ops::Sum::leaves);
  ops::linear_forward(y, x, packed, nullptr, ops::Sum::leaves, ops::Write::overwrite);
  // In bf16 the middle tiles, because rows do not begin at multiples of 16 bytes.
  Buffer half(device_, DType::bf16, {768, 132}), half_weight(device_, DType::bf16, {704, 128});
  ops::fill(half.tensor(), 1.0f);
  ops::fill(half_weight.tensor(), 1.0f);
  Tensor z = ones({768, 704});
  ops::linear_forward(z, half.tensor().columns(0, 128), half_weight.tensor(), nullptr,
                      ops::Sum::leaves, ops::Write::overwrite);
  expect_promise_kept();
}

/// Names of all kernels, from the table of their compiled code.
std::set<std::string> all_kernels() {
  std::ifstream file(std::string(FST_SOURCE_DIR) + "/tests/gpu/kernels/sm_90a.txt");
  std::set<std::string> names;
  for (std::string line; std::getline(file, line);) {
    const std::size_t begin = line.find(':') + 1;
    if (line.empty() || line[0] == '#' || begin == 0) continue;
    names.insert(name_of(line.substr(begin, line.find(' ', begin) - begin)));
  }
  return names;
}

TEST_F(TrafficTest, EveryKernelMovesAndMultipliesLittleMoreThanTheLeast) {
  for (const DType dtype : {DType::f32, DType::bf16}) {
    train(dtype);
    decode(dtype);
  }
  move_tensors();
  sample();
  multiply_many_tiles();
  std::set<std::string> kernels = all_kernels();
  EXPECT_GT(kernels.size(), 40u);
  // What only tests call; what rotates heads without a norm, as no Qwen3 does; what is never
  // launched, only asked for; and what looks for algorithms of cuBLASLt.
  for (const char* name : {"exp_elements", "log_elements", "dot_rows", "rotate_heads_back",
                           "presence", "random_kernel", "compare_kernel"}) {
    EXPECT_EQ(kernels.erase(name), 1u) << name;
  }
  for (const std::string& kernel : kernels) EXPECT_EQ(met_.count(kernel), 1u) << kernel;
}

}  // namespace
}  // namespace fst::roofline
