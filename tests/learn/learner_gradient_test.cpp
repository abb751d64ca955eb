// The gradient that a learner's step uses, against finite differences of the whole loss in double
// precision: policy term with ratios away from 1, KL to the base, entropy, seed-prompt anchor.
#include <algorithm>
#include <cmath>
#include <numeric>
#include <string>

#include <gtest/gtest.h>

#include "fst/learn/learner.h"

#include "learn_fixture.h"
#include "support/reference_model.h"

namespace fst {
namespace {

using testing::ReferenceModel;

constexpr double gradient_tolerance = 1e-3;  // relative; the step's arithmetic is float32
constexpr double value_tolerance = 1e-5;     // relative to 1 + |value|, float32 scores
constexpr double step = 1e-5;  // central differences in double: error about step^2 and 1e-16 / step

struct Terms {
  double policy = 0, kl = 0, entropy = 0, anchor = 0;
  double total() const { return policy + kl + entropy + anchor; }
};

/// The loss as the specification writes it; what carries no gradient is taken once, at the start.
class WholeLoss {
 public:
  WholeLoss(const LearnerOptions& options, std::vector<LearnerSequence> sequences,
            std::vector<AnchorSequence> anchors, const Parameters& policy, const Parameters& base)
      : options_(options), sequences_(std::move(sequences)), anchors_(std::move(anchors)) {
    const ReferenceModel at_start(policy), frozen(base);
    for (const LearnerSequence& s : sequences_) {
      held_.push_back(rows(at_start, s));
      base_.push_back(rows(frozen, s));
    }
    for (const AnchorSequence& a : anchors_) anchor_base_.push_back(rows(frozen, a));
  }

  Terms operator()(const ReferenceModel& policy) const {
    Terms terms;
    for (std::size_t i = 0; i < sequences_.size(); ++i) add(terms, i, rows(policy, sequences_[i]));
    for (std::size_t i = 0; i < anchors_.size(); ++i) {
      const Rows now = rows(policy, anchors_[i]);
      for (std::size_t t = 0; t < now.size(); ++t) {
        double kl = 0.0;
        for (std::size_t w = 0; w < now[t].size(); ++w) {
          kl += std::exp(now[t][w]) * (now[t][w] - anchor_base_[i][t][w]);
        }
        terms.anchor += options_.anchor_coefficient * anchors_[i].weight * kl;
      }
    }
    return terms;
  }

 private:
  using Rows = std::vector<ReferenceModel::Row>;

  /// Log-probabilities of the whole law before each token of the completion.
  template <class Sequence>
  Rows rows(const ReferenceModel& model, const Sequence& s) const {
    const auto logits = model.logits(s.tokens);
    Rows laws;
    for (std::size_t t = static_cast<std::size_t>(s.prompt_length); t < s.tokens.size(); ++t) {
      laws.push_back(ReferenceModel::log_softmax(logits[t - 1],
                                                 static_cast<double>(options_.law.temperature),
                                                 static_cast<std::size_t>(options_.law.vocab)));
    }
    return laws;
  }

  void add(Terms& terms, std::size_t i, const Rows& now) const {
    const LearnerSequence& s = sequences_[i];
    for (std::size_t t = 0; t < now.size(); ++t) {
      const auto token =
          static_cast<std::size_t>(s.tokens[static_cast<std::size_t>(s.prompt_length) + t]);
      const double logprob = now[t][token];
      const double behaviour = static_cast<double>(s.behaviour[t]);
      const double held = std::exp(held_[i][t][token] - behaviour);
      terms.policy +=
          s.policy_weight * policy_term(std::exp(logprob - behaviour), held, logprob, s.advantage);
      const double d = logprob - base_[i][t][token];
      const double kl = options_.loss.kl == KlEstimator::k2 ? d * d / 2.0 : std::exp(-d) - 1.0 + d;
      const double factor = options_.loss.kl_weighted ? std::min(held, options_.loss.tau) : 1.0;
      terms.kl += options_.kl_coefficient * s.kl_weight * factor * kl;
      double entropy = 0.0;
      for (const double l : now[t]) entropy -= std::exp(l) * l;
      terms.entropy -= options_.entropy_coefficient * s.policy_weight * entropy;
    }
  }

  double policy_term(double ratio, double held, double logprob, double advantage) const {
    const auto& loss = options_.loss;
    if (loss.loss == PolicyLoss::cispo) return -std::min(held, loss.tau) * advantage * logprob;
    const double clipped = std::clamp(ratio, 1.0 - loss.low, 1.0 + loss.high);
    return -std::min(ratio * advantage, clipped * advantage);
  }

  LearnerOptions options_;
  std::vector<LearnerSequence> sequences_;
  std::vector<AnchorSequence> anchors_;
  std::vector<Rows> held_, base_, anchor_base_;
};

/// The places of the two greatest derivatives.
std::vector<std::size_t> greatest(const float* gradient, std::int64_t size) {
  std::vector<std::size_t> places(static_cast<std::size_t>(size));
  std::iota(places.begin(), places.end(), std::size_t{0});
  const std::size_t count = std::min<std::size_t>(2, places.size());
  std::partial_sort(places.begin(), places.begin() + static_cast<std::ptrdiff_t>(count),
                    places.end(), [&](std::size_t a, std::size_t b) {
                      return std::fabs(gradient[a]) > std::fabs(gradient[b]);
                    });
  places.resize(count);
  return places;
}

void expect_gradient_of_the_loss(LearnerOptions options, const Qwen3Config& config) {
  // One step without decay of m, clipping or rate: m is the gradient, and no weight moves.
  options.optimizer = {.beta1 = 0.0, .clip = 0.0};
  options.lr = 0.0;
  test::TinyModels models(Device::cpu(), config);
  constexpr std::int64_t groups = 2;
  auto sequences = test::some_sequences(groups, 2);
  test::sample_behaviour(sequences, models.policy, options.law, 0.7);
  const auto anchors = test::some_anchors(groups);
  const WholeLoss loss(options, sequences, anchors, models.policy_parameters,
                       models.base_parameters);
  const Communicator self = Communicator::self();
  Learner learner(models.policy, models.policy_parameters, &models.base, LearnerGrid(self),
                  options);
  const StepStats stats = learner.step(groups, sequences, anchors);
  EXPECT_GT(stats.frac_capped, 0.0);
  EXPECT_LT(stats.frac_capped, 1.0);

  ReferenceModel reference(models.policy_parameters);
  const Terms terms = loss(reference);
  EXPECT_NEAR(stats.kl_loss, terms.kl, value_tolerance * (1.0 + std::fabs(terms.kl)));
  EXPECT_NEAR(stats.seed_loss, terms.anchor, value_tolerance * (1.0 + std::fabs(terms.anchor)));
  EXPECT_NEAR(stats.policy_loss, terms.policy, value_tolerance * (1.0 + std::fabs(terms.policy)));
  for (const double term : {terms.policy, terms.kl, terms.entropy, terms.anchor}) {
    EXPECT_GT(std::fabs(term), 1e-3);  // every term has a say
  }

  const float* gradient = learner.optimizer().m().data<float>();
  for (const ParameterSpec& spec : models.policy_parameters.specs()) {
    for (const std::size_t place : greatest(gradient + spec.offset, spec.size())) {
      double& weight = reference.at(spec.name)[place];
      const double start = weight;
      weight = start + step;
      const double above = loss(reference).total();
      weight = start - step;
      const double below = loss(reference).total();
      weight = start;
      const double expected = (above - below) / (2.0 * step);
      EXPECT_NEAR(static_cast<double>(gradient[spec.offset + static_cast<std::int64_t>(place)]),
                  expected, gradient_tolerance * std::fabs(expected))
          << spec.name << "[" << place << "]";
    }
  }
}

TEST(LearnerGradient, IsThatOfTheWholeLossWithCispoAndK3) {
  expect_gradient_of_the_loss(test::all_terms(), testing::tiny_config());
}

TEST(LearnerGradient, IsThatOfTheWholeLossWithPpoAndWeightedK2) {
  LearnerOptions options = test::all_terms();
  options.loss.loss = PolicyLoss::ppo;
  options.loss.kl = KlEstimator::k2;
  options.loss.kl_weighted = true;
  expect_gradient_of_the_loss(options, testing::tiny_config(Family::qwen2, false));
}

}  // namespace
}  // namespace fst
