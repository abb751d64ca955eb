#include "fst/model/qwen3.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include <gtest/gtest.h>

#include "fst/base/error.h"

#include "model_fixture.h"
#include "support/arithmetic.h"
#include "support/isa.h"
#include "support/reference_model.h"

namespace fst {
namespace {

using testing::Runner;
using testing::Sequences;

const Device cpu = Device::cpu();

// float32 against double; the golden data's tolerance for logits of this size.
constexpr double logit_tolerance = 2e-4;

struct Variant {
  Family family;
  bool tied;
};

void PrintTo(const Variant& variant, std::ostream* out) {
  *out << name_of(variant.family) << (variant.tied ? " tied" : " untied");
}

/// For what is compared with other numbers.
class EveryFamily : public ::testing::TestWithParam<Variant> {
 protected:
  Qwen3Config config() const { return testing::tiny_config(GetParam().family, GetParam().tied); }
};

const auto variants = ::testing::Values(
    Variant{Family::qwen3, true}, Variant{Family::qwen3, false}, Variant{Family::qwen2, true},
    Variant{Family::qwen2, false}, Variant{Family::llama, false}, Variant{Family::llama, true});
INSTANTIATE_TEST_SUITE_P(Qwen3, EveryFamily, variants);

/// For what is compared with itself, in either arithmetic.
class EveryFamilyAndDType : public ::testing::TestWithParam<std::tuple<Variant, DType>> {
 protected:
  Qwen3Config config() const {
    const Variant& variant = std::get<Variant>(GetParam());
    return testing::tiny_config(variant.family, variant.tied);
  }
  static DType dtype() { return std::get<DType>(GetParam()); }
  static Runner runner_of(const Parameters& parameters, Use use = Use::training) {
    return Runner(parameters, cpu, use, 2048, nullptr);
  }
};

INSTANTIATE_TEST_SUITE_P(Qwen3, EveryFamilyAndDType,
                         ::testing::Combine(variants, ::testing::ValuesIn(test::arithmetics)));

class EitherDType : public ::testing::TestWithParam<DType> {};

INSTANTIATE_TEST_SUITE_P(Qwen3, EitherDType, ::testing::ValuesIn(test::arithmetics),
                         test::arithmetic_name);

TEST_P(EveryFamily, ComputesTheLogitsOfAPlainDoublePrecisionModel) {
  const Parameters parameters = testing::random_parameters(config(), cpu, 11);
  Runner runner(parameters, cpu, Use::inference);
  const testing::ReferenceModel reference(parameters);
  for (const std::int64_t length : {1, 2, 17, 40}) {
    const auto tokens = testing::random_tokens(length, config().vocab_size, 5);
    const std::vector<float> logits = runner.logits({tokens});
    const auto expected = reference.logits(tokens);
    double worst = 0.0, greatest = 0.0;
    for (std::size_t i = 0; i < logits.size(); ++i) {
      const double x = expected[i / expected[0].size()][i % expected[0].size()];
      worst = std::max(worst, std::abs(x - static_cast<double>(logits[i])));
      greatest = std::max(greatest, std::abs(x));
    }
    EXPECT_LE(worst, logit_tolerance);
    EXPECT_GT(greatest, 1.0) << "logits too flat to test anything";
  }
}

/// Sum over sequences of 0.1 (t + 1) logprob_t: the loss of Runner::gradient().
double reference_loss(const testing::ReferenceModel& model, const Sequences& sequences) {
  double loss = 0.0;
  for (const auto& tokens : sequences) {
    const auto logits = model.logits(tokens);
    for (std::size_t t = 0; t + 1 < tokens.size(); ++t) {
      const auto law = testing::ReferenceModel::log_softmax(logits[t], 1.0, logits[t].size());
      loss += static_cast<double>(0.1f * static_cast<float>(t + 1)) *
              law[static_cast<std::size_t>(tokens[t + 1])];
    }
  }
  return loss;
}

TEST_P(EveryFamily, HasTheGradientThatFiniteDifferencesShow) {
  const Parameters parameters = testing::random_parameters(config(), cpu, 12);
  const Sequences sequences = testing::random_sequences({9, 1, 5}, config().vocab_size, 6);
  Runner runner(parameters, cpu);
  Gradients gradients(config(), cpu);
  runner.gradient(sequences, gradients);
  gradients.finish();
  testing::ReferenceModel reference(parameters);
  constexpr double step = 1e-5;       // central differences in double: error of order 1e-10
  constexpr double tolerance = 1e-3;  // relative, float32 against double
  for (const ParameterSpec& spec : parameters.specs()) {
    Rng rng(13, Purpose::probe_draw, {hash_text(spec.name)});
    const float* gradient = gradients.at(spec.name).data<float>();
    auto& values = reference.at(spec.name);
    const auto before = values;
    std::vector<double> direction(values.size());
    double analytic = 0.0, norm = 0.0;
    for (std::size_t i = 0; i < values.size(); ++i) {
      direction[i] = rng.normal();
      analytic += direction[i] * static_cast<double>(gradient[i]);
      norm += static_cast<double>(gradient[i]) * static_cast<double>(gradient[i]);
    }
    const auto loss_at = [&](double distance) {
      for (std::size_t i = 0; i < values.size(); ++i) {
        values[i] = before[i] + distance * direction[i];
      }
      return reference_loss(reference, sequences);
    };
    const double numeric = (loss_at(step) - loss_at(-step)) / (2.0 * step);
    values = before;
    // The key bias of qwen2 shifts all scores of a query nearly alike: compare with the gradient's
    // size, not with a directional derivative that may vanish.
    EXPECT_NEAR(analytic, numeric, tolerance * std::max(std::sqrt(norm), 1e-3)) << spec.name;
  }
}

TEST_P(EveryFamily, HasInBf16TheGradientInFloatUpToTheRoundingOfWhatIsStored) {
  const Parameters rounded = testing::random_parameters(config(), cpu, 12, {DType::bf16});
  const Parameters parameters = testing::held(rounded, {DType::f32});
  const Sequences sequences = testing::random_sequences({9, 1, 45, 5}, config().vocab_size, 6);
  Runner wide(parameters, cpu), narrow(rounded, cpu);
  Gradients expected(config(), cpu), found(config(), cpu);
  wide.gradient(sequences, expected);
  narrow.gradient(sequences, found);
  expected.finish();
  found.finish();
  // The way of a gradient through two layers, forth and back, has fewer than 64 arrays stored in
  // bf16, each of which rounds a number by at most 2^-9 of it. Found: 0.075.
  constexpr double tolerance = 64 * 0x1p-9;
  for (const ParameterSpec& spec : parameters.specs()) {
    const float *a = found.at(spec.name).data<float>(), *b = expected.at(spec.name).data<float>();
    double difference = 0.0, norm = 0.0;
    for (std::int64_t i = 0; i < spec.size(); ++i) {
      difference += std::pow(static_cast<double>(a[i]) - static_cast<double>(b[i]), 2);
      norm += std::pow(static_cast<double>(b[i]), 2);
    }
    EXPECT_LE(std::sqrt(difference), tolerance * std::sqrt(norm)) << spec.name;
    EXPECT_GT(difference, 0.0) << spec.name << " was computed in float";
  }
}

TEST_P(EveryFamilyAndDType, GivesRowsThatDoNotDependOnTheirBatch) {
  const Parameters parameters = testing::random_parameters(config(), cpu, 14, {dtype()});
  const Sequences sequences =
      testing::random_sequences({5, 33, 1, 130, 16}, config().vocab_size, 7);
  Runner runner = runner_of(parameters, Use::inference);
  const std::vector<float> together = runner.logits(sequences);
  std::vector<float> alone;
  for (const auto& sequence : sequences) {
    const std::vector<float> logits = runner.logits({sequence});
    alone.insert(alone.end(), logits.begin(), logits.end());
  }
  EXPECT_EQ(testing::differing_bits(together, alone), 0);
}

TEST_P(EveryFamilyAndDType, AddsTheSameGradientsHoweverSequencesArePacked) {
  const Parameters parameters = testing::random_parameters(config(), cpu, 15, {dtype()});
  const Sequences sequences = testing::random_sequences({7, 20, 2, 150}, config().vocab_size, 8);
  Runner runner = runner_of(parameters);
  Gradients together(config(), cpu), one_by_one(config(), cpu), pairs(config(), cpu);
  runner.gradient(sequences, together);
  for (const auto& sequence : sequences) runner.gradient({sequence}, one_by_one);
  runner.gradient({sequences[0], sequences[1], sequences[2]}, pairs);
  runner.gradient({sequences[3]}, pairs);
  const auto expected = testing::values_of(together.finish());
  EXPECT_EQ(testing::differing_bits(expected, testing::values_of(one_by_one.finish())), 0);
  EXPECT_EQ(testing::differing_bits(expected, testing::values_of(pairs.finish())), 0);
}

TEST_P(EitherDType, GivesTheSameBitsWithAnyThreadsAndInstructionSet) {
  const Qwen3Config config = testing::tiny_config();
  const Sequences sequences = testing::random_sequences({3, 70, 140}, config.vocab_size, 9);
  std::vector<float> logits, gradient;
  for (const kernels::Isa isa : test::isas()) {
    for (const int threads : {1, 2, 3}) {
      const Device device = Device::cpu(threads, isa);
      const Parameters parameters = testing::random_parameters(config, device, 16, {GetParam()});
      Runner runner(parameters, device, Use::training, 2048, nullptr);
      Gradients gradients(config, device);
      runner.gradient(sequences, gradients);
      const auto these_logits = runner.logits(sequences);
      const auto this_gradient = testing::values_of(gradients.finish());
      if (logits.empty()) {
        logits = these_logits;
        gradient = this_gradient;
      }
      EXPECT_EQ(testing::differing_bits(logits, these_logits), 0) << device.description();
      EXPECT_EQ(testing::differing_bits(gradient, this_gradient), 0) << device.description();
    }
  }
}

TEST_P(EitherDType, ForTrainingAndForInferenceGiveTheSameBits) {
  const Qwen3Config config = testing::tiny_config();
  const Sequences sequences = testing::random_sequences({12, 31}, config.vocab_size, 10);
  const Parameters parameters = testing::random_parameters(config, cpu, 17, {GetParam()});
  Runner training(parameters, cpu, Use::training, 2048, nullptr);
  Runner inference(parameters, cpu, Use::inference, 2048, nullptr);
  Activations saved;
  const auto kept = testing::values_of(training.forward(sequences, &saved));
  EXPECT_EQ(testing::differing_bits(kept, testing::values_of(inference.forward(sequences))), 0);
}

TEST_P(EitherDType, ForInferenceOutlivesItsParameters) {
  const Qwen3Config config = testing::tiny_config();
  const Sequences sequences = testing::random_sequences({12}, config.vocab_size, 10);
  Parameters parameters = testing::random_parameters(config, cpu, 17, {GetParam()});
  Runner runner(parameters, cpu, Use::inference, 2048, nullptr);
  const auto before = runner.logits(sequences);
  ops::fill(parameters.flat(), 0.0f);
  EXPECT_EQ(testing::differing_bits(before, runner.logits(sequences)), 0);
  runner.model.set_weights(parameters);
  EXPECT_NE(testing::differing_bits(before, runner.logits(sequences)), 0);
}

TEST_P(EitherDType, KeepsWeightsThatNobodyElseHoldsWhereItReadsThemInPlace) {
  const Qwen3Config config = testing::tiny_config();
  const Sequences sequences = testing::random_sequences({12}, config.vocab_size, 10);
  const Parameters parameters = testing::random_parameters(config, cpu, 17, {GetParam()});
  for (const Use use : {Use::training, Use::inference}) {
    Runner runner(parameters, cpu, use);
    const auto expected = runner.logits(sequences);
    const std::int64_t bytes = runner.model.weight_bytes();
    runner.model.set_weights(testing::random_parameters(config, cpu, 17, {GetParam()}));
    EXPECT_EQ(testing::differing_bits(expected, runner.logits(sequences)), 0);
    const bool training = use == Use::training;
    EXPECT_EQ(runner.model.reads_in_place(), training);
    EXPECT_EQ(runner.model.weight_bytes() - bytes,
              training ? parameters.size() * size_of(GetParam()) : 0);
  }
}

TEST(Qwen3, ForTrainingReadsTheEmbeddingInPlace) {
  const Qwen3Config config = testing::tiny_config();
  const Parameters parameters = testing::random_parameters(config, cpu, 17);
  const Runner training(parameters, cpu), inference(parameters, cpu, Use::inference);
  const std::int64_t table = config.vocab_size * config.hidden_size * size_of(DType::f32);
  EXPECT_EQ(inference.model.weight_bytes() - training.model.weight_bytes(), table);
  EXPECT_GE(training.model.weight_bytes(), parameters.size() * size_of(DType::f32));
}

TEST_P(EveryFamilyAndDType, PrefillsInAnyChunksAndDecodesToTheSameBits) {
  constexpr std::int64_t length = 1040;  // beyond one softmax restart at 1024 keys
  const Parameters parameters = testing::random_parameters(config(), cpu, 18, {dtype()});
  const auto tokens = testing::random_tokens(length, config().vocab_size, 11);
  Runner runner = runner_of(parameters, Use::inference);
  const auto expected = testing::values_of(runner.forward({tokens}));
  for (const std::int64_t chunk : {1, 7, 16, 129, 1000}) {
    testing::Pieces pieces(parameters, length);
    std::vector<float> hidden;
    for (std::int64_t begin = 0; begin < length; begin += chunk) {
      const auto piece = pieces.feed(tokens, begin, std::min(begin + chunk, length));
      hidden.insert(hidden.end(), piece.begin(), piece.end());
    }
    EXPECT_EQ(testing::differing_bits(expected, hidden), 0) << "chunks of " << chunk;
  }
}

TEST(Qwen3, RefusesWhatItCannotCompute) {
  const Qwen3Config config = testing::tiny_config();
  const Parameters parameters = testing::random_parameters(config, cpu, 19);
  EXPECT_THROW(Qwen3(config, cpu, {Use::inference, 0}), Error);
  EXPECT_THROW(Qwen3(config, cpu, {Use::inference, 8, DType::f16}), InputError);
  Runner runner(parameters, cpu, Use::inference, 8);
  EXPECT_NO_THROW(runner.forward({{1, 2, 3}}));
  EXPECT_THROW(runner.forward({{1, 101}}), Error);
  EXPECT_THROW(runner.forward({{1, -1}}), Error);
  EXPECT_THROW(runner.forward({std::vector<TokenId>(9, 1)}), Error);
  EXPECT_THROW(runner.forward({}), Error);
  EXPECT_THROW(runner.forward({{1}, {}}), Error);
  Activations saved;
  EXPECT_THROW(runner.forward({{1, 2}}, &saved), Error);
  runner.packed.pack({std::vector<TokenId>(17, 1)});
  KvCache small(config, cpu, 1);
  EXPECT_THROW(runner.model.forward(runner.packed.batch(), small), Error);
  Qwen3 empty(config, cpu, {Use::inference, 8});
  runner.packed.pack({{1}});
  EXPECT_THROW(empty.forward(runner.packed.batch(), small), Error);
  const Parameters other(testing::tiny_config(Family::llama), cpu);
  EXPECT_THROW(empty.set_weights(other), Error);
  EXPECT_THROW(empty.set_weights(testing::held(parameters, {DType::bf16})), Error);
}

TEST_P(EitherDType, RefusesABackwardThatDoesNotFitItsForward) {
  const Qwen3Config config = testing::tiny_config();
  const Parameters parameters = testing::random_parameters(config, cpu, 20, {GetParam()});
  Runner runner(parameters, cpu, Use::training, 2048, nullptr);
  Gradients gradients(config, cpu);
  Activations saved;
  const Tensor& hidden = runner.forward({{1, 2, 3}}, &saved);
  Buffer dhidden(cpu, GetParam(), {hidden.dim(0), hidden.dim(1)});
  TokenBatch batch = runner.packed.batch();
  batch.tokens = batch.tokens.rows(0, 2);
  EXPECT_THROW(runner.model.backward(batch, runner.cache, saved, dhidden.tensor(), gradients),
               Error);
  runner.packed.batch().attention.context.data<std::int32_t>()[0] = 1;
  EXPECT_THROW(runner.model.backward(runner.packed.batch(), runner.cache, saved, dhidden.tensor(),
                                     gradients),
               Error);
}

}  // namespace
}  // namespace fst
