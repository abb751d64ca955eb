#pragma once

#include <cstdint>
#include <vector>

#include "fst/evolve/choices.h"

namespace fst {

/// The epoch-shuffled sampler's state between two draws.
struct MinibatchSampler {
  std::vector<int> order;  ///< this epoch's shuffled ids, padded to a multiple of the minibatch
  std::int64_t epoch = -1;
  std::int64_t pool = 0;  ///< number of ids `order` was made for
};

/// Which minibatch is wanted.
struct MinibatchPlace {
  std::int64_t round = 0;  ///< counted from 0 in the cycle
  std::int64_t call = 0;   ///< earlier minibatches of the same round
};

/// The next `size` ids of 0 ... pool-1. A new epoch begins when `round * size` passes the end of
/// the list or the pool changed: ids are shuffled, then padded to a multiple of `size` with the
/// least frequent id (ties: the last in order of first appearance), so one minibatch may hold an id
/// twice. Throws Error if `pool` or `size` is not positive. Source: Agrawal et al. 2025 (GEPA).
std::vector<int> next_minibatch(MinibatchSampler& sampler, std::int64_t pool, std::int64_t size,
                                MinibatchPlace place, const Choices& choices);

}  // namespace fst
