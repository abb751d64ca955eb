#include <gtest/gtest.h>

#include "fst/model/qwen3.h"

#include "model_fixture.h"
#include "support/tiny_model.h"

// A layer's activations may be kept or computed again.
namespace fst {
namespace {

using testing::Runner;

TEST(Recompute, ChangesNoBitOfTheGradient) {
  const Qwen3Config config = testing::tiny_config();
  const Device cpu = Device::cpu();
  const auto sequences = testing::random_sequences({37, 5, 130}, config.vocab_size, 42);
  for (const DType dtype : {DType::f32, DType::bf16}) {
    const Parameters parameters = testing::random_parameters(config, cpu, 41, {dtype});
    const auto gradient = [&](Keep keep) {
      Runner runner(parameters, cpu, Use::training, 256);
      Gradients gradients(config, cpu);
      for (int again = 0; again < 2; ++again) {  // scratch holds the last batch's numbers
        runner.gradient(sequences, gradients, {}, {}, nullptr, keep);
      }
      return testing::values_of(gradients.finish());
    };
    EXPECT_EQ(testing::differing_bits(gradient(Keep::all), gradient(Keep::inputs)), 0)
        << name_of(dtype);
  }
}

}  // namespace
}  // namespace fst
