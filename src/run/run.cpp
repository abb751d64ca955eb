#include "fst/run/run.h"

#include <algorithm>

#include "fst/run/requests.h"

namespace fst {

// The algorithm. Every rank runs this page; who works is decided inside the roles, and every
// exchange is inside one of their methods.

RunOutcome Run::execute() {
  if (!state_.begun && evaluation_due(config_, 0)) evaluate();
  state_.begun = true;
  while (state_.step < config_.run.steps) {
    const Cycle cycle = cycle_of(config_, state_.step);
    enter_stage(cycle);
    if (!evolve(cycle) || !train(cycle)) return RunOutcome::stopped_early;
  }
  return finish() ? RunOutcome::finished : RunOutcome::stopped_early;
}

// Fast weights Φ under fixed θ: rounds of reflective prompt evolution until the budget is spent.
bool Run::evolve(const Cycle& cycle) {
  if (!cycle.evolves || state_.evolved_cycle >= cycle.index) return true;
  Evolution evolution = begin_evolution(cycle);
  if (evolution.state().stage == EvolutionStage::initial_scores) {
    evolution.record_anchor_scores(score(evolution, cycle));  // θ moved: old scores are stale
  }
  while (evolution.more()) {
    if (stop_requested()) {
      save(&evolution);
      return false;
    }
    evolution.draw_round(keyed_choices(run_seed(), cycle.index, evolution.state().round));
    evolution.record_parent_scores(score(evolution, cycle));
    reflect(evolution);  // evidence and parents become child prompts
    evolution.record_child_scores(score(evolution, cycle));
    evolution.record_anchor_scores(
        score(evolution, cycle));  // of the children that passed the gate
    recorder_.round(evolution, round_evidence_);
  }
  adopt_population(evolution, cycle);
  if (evaluation_due(config_, state_.step)) evaluate();
  save(nullptr);
  return true;
}

// Slow weights θ: policy-gradient steps on rollouts conditioned on Φ.
bool Run::train(const Cycle& cycle) {
  const std::int64_t end = std::min(cycle.first_step + cycle.steps, config_.run.steps);
  while (state_.step < end) {
    if (stop_requested()) {
      save(nullptr);
      return false;
    }
    if (traits_.trains) {
      const RequestBatch batch = training_batch(cycle, state_.step);
      world_.enter(Activity::rollout, state_.step + 1);
      if (!rollouts_.take_up()) rollouts_.start(batch, *task_);
      const auto& outcomes = rollouts_.outcomes();
      const Received received = learner_.receive(rollouts_, batch);
      // With rollout.max_lag = 1 the next step is sampled by the same θ while this one is learnt.
      if (samples_ahead(config_, cycle, state_.step)) {
        world_.enter(Activity::rollout, state_.step + 2);
        rollouts_.start_ahead(training_batch(cycle, state_.step + 1), *task_);
      }
      world_.enter(Activity::learning, state_.step + 1);
      const LearnedStep learned = learner_.step(received, batch, outcomes, task_->seed_prompt);
      record_step(batch, learned, cycle);
      rollouts_.adopt(learner_.version());
    }
    ++state_.step;
    if (evaluation_due(config_, state_.step)) evaluate();
    if (state_.step % config_.run.save_every == 0) save(nullptr);
  }
  return true;
}

}  // namespace fst
