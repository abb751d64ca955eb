#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "fst/run/config.h"

namespace fst {

/// What a method does, as data: the loop asks these questions and never the method's name.
struct MethodTraits {
  bool evolves_every_cycle = false;  // a fast phase before every T steps
  bool evolves_first_cycle = false;  // a fast phase before the first step only
  bool evolves_at_end = false;       // one fast phase after the last step
  bool trains = true;                // slow weights move
  bool seed_prompt_only = false;     // Φ = {seed}, K = 1
  bool given_population = false;     // Φ read from evolve.population, never changed
  bool copies_of_lead = false;       // K copies of the lead instead of K prompts
  bool per_prompt_baseline = false;  // advantages centred within a prompt's rollouts
  bool evolves() const { return evolves_every_cycle || evolves_first_cycle || evolves_at_end; }
};
MethodTraits traits_of(Method method);

/// Keys of the deck that `config.run.method` does not use: they are ignored and listed, never an
/// error, so that run.method alone turns any deck into any method.
std::vector<std::string> unused_keys(const RunConfig& config,
                                     const std::vector<std::string>& given);

/// K: prompts in the population while training.
std::int64_t population_size(const RunConfig& config);

/// One alternation of fast and slow phase: steps [first_step, first_step + steps) of one stage.
struct Cycle {
  std::int64_t index = 0;
  std::int64_t stage = 0;
  std::int64_t first_step = 0;
  std::int64_t steps = 0;           // steps_per_cycle, cut at the end of a stage
  std::int64_t first_position = 0;  // in the stage's problem stream: the look-ahead begins here
  bool evolves = false;
  bool opens_stage = false;  // the first cycle of a stage
};
/// The cycle that contains `step`. A function of the deck without run.steps, so that a longer run
/// goes through the same cycles.
Cycle cycle_of(const RunConfig& config, std::int64_t step);

/// Whether step + 1 is sampled while `step` is learnt (rollout.max_lag = 1): within a cycle only,
/// since prompts change between cycles, so each cycle begins on policy. Without run.steps as well:
/// a run that ends inside a cycle holds what its continuation needs.
bool samples_ahead(const RunConfig& config, const Cycle& cycle, std::int64_t step);

/// Variants in order; one entry without task.stages.
std::vector<std::string> stage_variants(const RunConfig& config);

/// An evaluation is due with the weights of `step`.
bool evaluation_due(const RunConfig& config, std::int64_t step);

}  // namespace fst
