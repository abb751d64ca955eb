#include "fst/learn/gradient_pass.h"

#include <algorithm>
#include <cmath>

#include <gtest/gtest.h>

#include "fst/base/error.h"

#include "learn_fixture.h"

namespace fst {
namespace {

using test::TinyModels;

/// What a pass showed of every target, by sequence.
struct Seen {
  std::vector<std::vector<float>> logprob, entropy, kl, base_logprob;
  explicit Seen(std::size_t sequences)
      : logprob(sequences), entropy(sequences), kl(sequences), base_logprob(sequences) {}
  void take(const PassChunk& chunk) {
    const auto s = static_cast<std::size_t>(chunk.sequence);
    EXPECT_EQ(chunk.begin, static_cast<std::int64_t>(logprob[s].size())) << "order of targets";
    EXPECT_EQ(chunk.end - chunk.begin, static_cast<std::int64_t>(chunk.logprob.size()));
    const auto append = [](std::vector<float>& to, std::span<const float> from) {
      to.insert(to.end(), from.begin(), from.end());
    };
    append(logprob[s], chunk.logprob);
    append(entropy[s], chunk.entropy);
    append(kl[s], chunk.kl);
    append(base_logprob[s], chunk.base_logprob);
  }
  bool operator==(const Seen&) const = default;
};

/// Five sequences of odd lengths, one longer than a block of 32 rows; the second has targets with
/// gaps, the third a single one.
struct Batch {
  std::vector<std::vector<TokenId>> tokens;
  std::vector<std::vector<std::int32_t>> targets;
  std::vector<LossSequence> views;

  Batch() {
    const std::int64_t lengths[] = {7, 19, 3, 44, 12};
    for (std::int64_t s = 0; s < 5; ++s) {
      tokens.push_back(testing::random_tokens(lengths[s], test::odd_law.vocab,
                                              static_cast<std::uint64_t>(40 + s)));
      targets.emplace_back();
      for (std::int32_t t = s == 2 ? 2 : 1; t < lengths[s]; t += s == 1 ? 3 : 1) {
        targets.back().push_back(t);
      }
    }
    for (std::size_t s = 0; s < tokens.size(); ++s) views.push_back({tokens[s], targets[s]});
  }
};

PassOptions options_of(std::int64_t micro_batch, std::int64_t chunk_rows, BaseUse base) {
  return {test::odd_law, micro_batch, chunk_rows, true, base};
}

struct Accumulated {
  std::vector<float> gradient;
  Seen seen;
};

/// A loss that depends on everything that is shown.
Accumulated accumulate(GradientPass& pass, TinyModels& models,
                       const std::vector<LossSequence>& sequences, const PassOptions& options) {
  Gradients gradients(models.policy.config(), models.device);
  Accumulated result{{}, Seen(sequences.size())};
  pass.accumulate(gradients, sequences, options, [&](const PassChunk& chunk) {
    result.seen.take(chunk);
    for (std::size_t i = 0; i < chunk.logprob.size(); ++i) {
      chunk.dlogprob[i] = 0.3f * chunk.logprob[i] + 0.1f;
      chunk.dentropy[i] = -0.05f * chunk.entropy[i];
      if (!chunk.dkl.empty()) chunk.dkl[i] = 0.2f + 0.1f * chunk.kl[i];
    }
  });
  result.gradient = test::values_of(gradients.finish());
  return result;
}

Accumulated accumulate(TinyModels& models, const std::vector<LossSequence>& sequences,
                       const PassOptions& options) {
  GradientPass pass(models.policy, &models.base);
  return accumulate(pass, models, sequences, options);
}

class GradientPassOf : public ::testing::TestWithParam<DType> {};

INSTANTIATE_TEST_SUITE_P(Arithmetic, GradientPassOf, ::testing::ValuesIn(test::arithmetics),
                         test::arithmetic_name);

TEST_P(GradientPassOf, MicroBatchesAndHeadChunksChangeNoBitOfTheGradient) {
  TinyModels models(GetParam());
  const Batch batch;
  for (const BaseUse base : {BaseUse::none, BaseUse::logprob, BaseUse::kl}) {
    const Accumulated whole = accumulate(models, batch.views, options_of(64, 256, base));
    EXPECT_TRUE(std::ranges::any_of(whole.gradient, [](float x) { return x != 0.0f; }));
    for (const std::int64_t micro_batch : {1, 2, 5}) {
      for (const std::int64_t chunk_rows : {3, 35}) {
        const Accumulated cut =
            accumulate(models, batch.views, options_of(micro_batch, chunk_rows, base));
        EXPECT_EQ(test::differing(cut.gradient, whole.gradient), 0)
            << micro_batch << " sequences, " << chunk_rows << " rows";
        EXPECT_EQ(cut.seen, whole.seen);
      }
    }
  }
}

TEST(GradientPass, TheOrderOfSequencesIsTheOrderOfItsSums) {
  TinyModels models;
  Batch batch;
  const auto options = options_of(64, 256, BaseUse::none);
  const Accumulated forward = accumulate(models, batch.views, options);
  std::ranges::reverse(batch.views);
  const Accumulated backward = accumulate(models, batch.views, options);
  EXPECT_GT(test::differing(forward.gradient, backward.gradient), 0);
}

TEST_P(GradientPassOf, ABoundOnTokensChangesNoBit) {
  TinyModels models(GetParam());
  const Batch batch;
  PassOptions options = options_of(64, 256, BaseUse::kl);
  const Accumulated whole = accumulate(models, batch.views, options);
  std::int64_t tokens = 0;
  for (const auto& sequence : batch.tokens) tokens += static_cast<std::int64_t>(sequence.size());
  for (const std::int64_t most : {std::int64_t{1}, tokens / 2, tokens}) {
    options.most_tokens = most;
    const Accumulated cut = accumulate(models, batch.views, options);
    EXPECT_EQ(test::differing(cut.gradient, whole.gradient), 0) << most << " tokens";
    EXPECT_EQ(cut.seen, whole.seen) << most << " tokens";
  }
}

TEST_P(GradientPassOf, TakesWhatWasPlannedAndNoMoreAndChangesNoBit) {
  TinyModels plain(GetParam());
  const Batch batch;
  PassShape shape;
  for (const auto& s : batch.tokens) shape.tokens += static_cast<std::int64_t>(s.size());
  shape.sequences = static_cast<std::int64_t>(batch.tokens.size());
  shape.chunk_rows = 7;
  shape.entropy = shape.backward = true;
  const PassModel model{plain.policy.local_config(), GetParam(), plain.policy.vocab().size(), 1};
  for (const Keep keep : {Keep::all, Keep::inputs}) {
    for (const BaseUse base : {BaseUse::none, BaseUse::logprob, BaseUse::kl}) {
      shape.keep = keep;
      shape.base_logprob = base == BaseUse::logprob;
      shape.base_kl = base == BaseUse::kl;
      PhaseBytes plan;
      plan[MemoryPhase::always] = 8 << 20;
      plan[MemoryPhase::learning] = GradientPass::bytes_of(shape, model, model);
      const Device device = Device::cpu().planned(plan);
      TinyModels models(GetParam(), device);
      GradientPass pass(models.policy, &models.base);
      pass.reserve(shape);
      const Arena& arena = *device.arena();
      EXPECT_EQ(arena.taken(MemoryPhase::learning), plan[MemoryPhase::learning]);
      PassOptions options = options_of(64, 7, base);
      options.keep = keep;
      const Accumulated planned = accumulate(pass, models, batch.views, options);
      EXPECT_EQ(arena.most_taken()[MemoryPhase::learning], plan[MemoryPhase::learning]);
      const Accumulated expected = accumulate(plain, batch.views, options);
      EXPECT_EQ(test::differing(planned.gradient, expected.gradient), 0);
      EXPECT_EQ(planned.seen, expected.seen);
    }
  }
}

TEST_P(GradientPassOf, ScoreShowsTheBitsThatAccumulateShows) {
  TinyModels models(GetParam());
  const Batch batch;
  for (const BaseUse base : {BaseUse::none, BaseUse::logprob, BaseUse::kl}) {
    const Accumulated trained = accumulate(models, batch.views, options_of(2, 3, base));
    GradientPass pass(models.policy, &models.base);
    Seen scored(batch.views.size());
    pass.score(batch.views, options_of(3, 256, base), [&](const PassChunk& chunk) {
      EXPECT_TRUE(chunk.dlogprob.empty());
      scored.take(chunk);
    });
    EXPECT_EQ(scored, trained.seen);
    for (std::size_t s = 0; s < batch.targets.size(); ++s) {
      EXPECT_EQ(scored.logprob[s].size(), batch.targets[s].size());
      EXPECT_EQ(scored.kl[s].empty(), base != BaseUse::kl);
      EXPECT_EQ(scored.base_logprob[s].empty(), base != BaseUse::logprob);
    }
  }
}

TEST_P(GradientPassOf, ScoresOfASequenceDoNotDependOnItsNeighbours) {
  TinyModels models(GetParam());
  const Batch batch;
  const Accumulated together = accumulate(models, batch.views, options_of(64, 256, BaseUse::kl));
  for (std::size_t s = 0; s < batch.views.size(); ++s) {
    const Accumulated alone =
        accumulate(models, {batch.views[s]}, options_of(64, 256, BaseUse::kl));
    EXPECT_EQ(alone.seen.logprob[0], together.seen.logprob[s]);
    EXPECT_EQ(alone.seen.kl[0], together.seen.kl[s]);
  }
}

TEST_P(GradientPassOf, AddsToWhatTheGradientsHold) {
  TinyModels models(GetParam());
  const Batch batch;
  const Accumulated whole = accumulate(models, batch.views, options_of(2, 256, BaseUse::none));
  GradientPass pass(models.policy, nullptr);
  Gradients gradients(models.policy.config(), models.device);
  const auto loss = [](const PassChunk& chunk) {
    for (std::size_t i = 0; i < chunk.logprob.size(); ++i) {
      chunk.dlogprob[i] = 0.3f * chunk.logprob[i] + 0.1f;
      chunk.dentropy[i] = -0.05f * chunk.entropy[i];
    }
  };
  const std::span<const LossSequence> all(batch.views);
  pass.accumulate(gradients, all.first(2), options_of(2, 256, BaseUse::none), loss);
  pass.accumulate(gradients, {}, options_of(2, 256, BaseUse::none), loss);
  pass.accumulate(gradients, all.subspan(2), options_of(2, 256, BaseUse::none), loss);
  EXPECT_EQ(test::differing(test::values_of(gradients.finish()), whole.gradient), 0);
}

TEST(GradientPass, AskingForABaseThatIsNotThereIsAnError) {
  TinyModels models;
  const Batch batch;
  GradientPass pass(models.policy, nullptr);
  EXPECT_THROW(pass.score(batch.views, options_of(2, 3, BaseUse::kl), [](const PassChunk&) {}),
               Error);
}

}  // namespace
}  // namespace fst
