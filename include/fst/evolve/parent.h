#pragma once

#include "fst/evolve/choices.h"
#include "fst/evolve/options.h"

namespace fst {

/// Draws the candidate to improve, by `options.selector`:
/// pareto         one entry of the sampling list of the reduced fronts
/// current_best   the best mean, no draw
/// epsilon_greedy with probability epsilon any candidate, else the best mean
/// top_k_pareto   as pareto, with the k best means only
int choose_parent(const ScoreMatrix& scores, const EvolveOptions& options, const Choices& choices);

}  // namespace fst
