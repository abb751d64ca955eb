#include "fst/evolve/options.h"

#include <string>

#include "fst/base/error.h"

namespace fst {
namespace {

void expect_at_least(std::int64_t least, std::int64_t value, const char* key) {
  if (value >= least) return;
  throw InputError(std::string(key) + " must be at least " + std::to_string(least) + ", found " +
                   std::to_string(value));
}

}  // namespace

void check(const EvolveOptions& options) {
  expect_at_least(1, options.prompts, "evolve.prompts");
  expect_at_least(1, options.minibatch, "evolve.minibatch");
  expect_at_least(0, options.max_metric_calls, "evolve.max_metric_calls");
  expect_at_least(0, options.max_rounds, "evolve.max_rounds");
  expect_at_least(1, options.parents_per_round, "evolve.parents_per_round");
  expect_at_least(1, options.proposals_per_parent, "evolve.proposals_per_parent");
  expect_at_least(1, options.selector_top_k, "evolve.selector_top_k");
  expect_at_least(1, options.selection_top_k, "evolve.selection_top_k");
  expect_at_least(0, options.max_prompt_tokens, "evolve.max_prompt_tokens");
}

}  // namespace fst
