#include "fst/evolve/minibatch.h"

#include <numeric>
#include <string>

#include "fst/base/error.h"

namespace fst {
namespace {

/// The least frequent id of `order`, ties: the last in order of first appearance. `count` is
/// indexed by id; the first `count.size()` entries of `order` are a permutation.
int rarest(const std::vector<int>& order, const std::vector<int>& count) {
  int found = order.front();
  for (std::size_t place = 0; place < count.size(); ++place) {
    const int id = order[place];
    if (count[static_cast<std::size_t>(id)] <= count[static_cast<std::size_t>(found)]) found = id;
  }
  return found;
}

void begin_epoch(MinibatchSampler& sampler, std::int64_t pool, std::int64_t size,
                 const Choices& choices) {
  sampler.pool = pool;
  sampler.order.resize(static_cast<std::size_t>(pool));
  std::iota(sampler.order.begin(), sampler.order.end(), 0);
  choices.shuffle(sampler.order);
  std::vector<int> count(static_cast<std::size_t>(pool), 1);
  while (static_cast<std::int64_t>(sampler.order.size()) % size != 0) {
    const int id = rarest(sampler.order, count);
    sampler.order.push_back(id);
    ++count[static_cast<std::size_t>(id)];
  }
}

}  // namespace

std::vector<int> next_minibatch(MinibatchSampler& sampler, std::int64_t pool, std::int64_t size,
                                MinibatchPlace place, const Choices& choices) {
  if (pool < 1 || size < 1) {
    throw Error("next_minibatch: cannot draw " + std::to_string(size) + " of " +
                std::to_string(pool) + " problems");
  }
  const std::int64_t base = place.round * size;
  const auto length = static_cast<std::int64_t>(sampler.order.size());
  // The first list counts as epoch 0 whatever the round, as in the reference.
  const std::int64_t epoch = sampler.epoch < 0 ? 0 : base / length;
  if (sampler.order.empty() || sampler.pool != pool || epoch > sampler.epoch) {
    sampler.epoch = epoch;
    begin_epoch(sampler, pool, size, choices);
  }
  const auto begin = (base + place.call * size) % static_cast<std::int64_t>(sampler.order.size());
  return {sampler.order.begin() + begin, sampler.order.begin() + begin + size};
}

}  // namespace fst
